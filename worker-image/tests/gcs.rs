//! Storage tests, and a whole job, with the client of Google Cloud Storage: its addresses, requests
//! and preconditions. The server is the cluster's `MinIO` behind a translator for the one header
//! that S3 does not have, because no emulator has the uploads of Google's XML API. Refusals of
//! Google's own server, and its credentials, are not tested here.
//!
//! Needs the cluster, so `make test-gcs` runs it, and `cargo test` does not (`test = false`).

#[expect(dead_code, reason = "Google's own mistakes are not shown")]
#[path = "../../store/tests/object_stores/mod.rs"]
mod object_stores;
#[expect(dead_code, reason = "what only jobs on a local disk need")]
mod processes;
mod whole_job;

use object_stores::Server;

fn google() -> Server {
    let endpoint = std::env::var("ZEPHYR_GCS_ENDPOINT").unwrap_or_default();
    assert!(
        !endpoint.is_empty(),
        "ZEPHYR_GCS_ENDPOINT is not set: these tests need a translator before the cluster's S3 server; run `make test-gcs`",
    );
    Server {
        scheme: "gs",
        bucket: "zephyrgcs",
        options: vec![
            ("google_base_url", endpoint),
            // With these credentials, requests need no signature.
            (
                "google_service_account_key",
                r#"{"private_key":"","private_key_id":"","client_email":"","disable_oauth":true}"#
                    .to_owned(),
            ),
            ("google_allow_http", "true".to_owned()),
        ],
        wrong_credentials: ("google_service_account_key", "{}".to_owned()),
        // Port 9 is the discard port, on which nothing answers.
        dead_endpoint: ("google_base_url", "http://127.0.0.1:9".to_owned()),
        allow_http: "google_allow_http",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_accepts_a_store_with_conditional_writes() {
    object_stores::probe_twice(&google()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_3459_of_many_coordinators_that_start_at_once_each_gets_an_epoch_and_only_the_last_can_append()
 {
    object_stores::race_for_epochs(&google()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_finalized_upload_becomes_a_file_and_a_losers_never_does() {
    object_stores::finalize_winners_and_losers(&google()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_an_unfinished_job_are_overwritten() {
    object_stores::write_over_what_was_not_finished(&google()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_read_in_ranges_and_one_that_changed_is_refused() {
    object_stores::read_in_ranges(&google()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marker_files_are_skipped_and_prefixes_may_end_within_names() {
    object_stores::list_by_prefix_and_pass_over_markers(&google()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_several_pages_is_complete() {
    object_stores::list_several_pages(&google()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_any_name_are_listed_read_and_removed() {
    object_stores::read_and_remove_odd_names(&google()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_outputs_is_published_and_read() {
    object_stores::publish_and_load(&google()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_all_its_data_there_equals_an_independent_computation() {
    whole_job::equals_an_independent_one(&google()).await;
}
