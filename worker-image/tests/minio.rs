//! The data part against a real S3 server: the cluster's `MinIO`.
//!
//! Needs the cluster: `eval "$(make -s cluster-env)"`. Without it every test here fails and says so.

mod object_stores;

use object_stores::Server;

fn minio() -> Server {
    let endpoint = std::env::var("ZEPHYR_S3_HOST_ENDPOINT").unwrap_or_default();
    assert!(
        !endpoint.is_empty() && std::env::var("AWS_ACCESS_KEY_ID").is_ok(),
        "ZEPHYR_S3_HOST_ENDPOINT and AWS_ACCESS_KEY_ID are not set: these tests need the cluster's S3 server; run `make cluster` and `eval \"$(make -s cluster-env)\"`",
    );
    Server {
        scheme: "s3",
        bucket: "zephyr-scratch",
        options: vec![
            ("aws_endpoint", endpoint),
            ("aws_allow_http", "true".to_owned()),
        ],
        // Keys come from the environment, which wins.
        wrong_credentials: ("aws_session_token", "expired".to_owned()),
        // Port 9 is discard: nobody answers.
        dead_endpoint: ("aws_endpoint", "http://127.0.0.1:9".to_owned()),
        allow_http: "aws_allow_http",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_accepts_a_store_with_conditional_writes() {
    object_stores::probe_twice(&minio()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_3459_of_many_coordinators_that_start_at_once_each_gets_an_epoch_and_only_the_last_can_append()
 {
    object_stores::race_for_epochs(&minio()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_becomes_a_file_once_it_is_finalized_and_never_a_losers() {
    object_stores::finalize_winners_and_losers(&minio()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_left_that_never_finished_is_written_over() {
    object_stores::write_over_what_was_not_finished(&minio()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_read_in_ranges_and_one_that_changed_is_refused() {
    object_stores::read_in_ranges(&minio()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_any_name_are_listed_read_and_removed() {
    object_stores::read_and_remove_odd_names(&minio()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_outputs_is_published_and_read() {
    object_stores::publish_and_load(&minio()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_wrong_credentials_and_a_dead_endpoint_are_told_apart() {
    object_stores::tell_mistakes_apart(&minio()).await;
}
