//! Tests this crate against a real S3 server: the cluster's `MinIO`.
//!
//! Needs the cluster: `eval "$(make -s cluster-env)"`. Without it every test here fails and says
//! so.

#![expect(clippy::unwrap_used, reason = "only tests are in here")]

mod object_stores;
#[path = "object_stores/others.rs"]
mod others;

use bytes::Bytes;
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpConnector, HttpRequest, ReqwestConnector};
use object_stores::Server;
use zephyr_engine::id::JobUid;
use zephyr_store::reclaim::remove_job_folder;
use zephyr_store::storage::{JobStorage, Location, list_inputs, subfolders, walk};

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
        // The access keys cannot be wrong here: they come from the environment, which outweighs
        // options.
        wrong_credentials: ("aws_session_token", "expired".to_owned()),
        // Port 9 is that of the discard service, at which no server answers.
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
async fn only_a_finalized_upload_becomes_a_file_and_a_losers_never_does() {
    object_stores::finalize_winners_and_losers(&minio()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_job_that_never_finished_are_overwritten() {
    object_stores::write_over_what_was_not_finished(&minio()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_read_in_ranges_and_one_that_changed_is_refused() {
    object_stores::read_in_ranges(&minio()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marker_files_are_ignored_and_prefixes_may_end_within_names() {
    object_stores::list_by_prefix_and_pass_over_markers(&minio()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_several_pages_is_complete() {
    object_stores::list_several_pages(&minio()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_any_name_are_listed_read_and_removed() {
    object_stores::read_and_remove_odd_names(&minio()).await;
}

/// Puts an object under a key that no path can hold; `key` is percent-encoded.
async fn put_raw(folder: &str, key: &str, content: &'static [u8]) {
    zephyr_store::install_crypto_provider();
    let endpoint = std::env::var("ZEPHYR_S3_HOST_ENDPOINT").unwrap();
    let credential = AwsCredential {
        key_id: std::env::var("AWS_ACCESS_KEY_ID").unwrap(),
        secret_key: std::env::var("AWS_SECRET_ACCESS_KEY").unwrap(),
        token: std::env::var("AWS_SESSION_TOKEN").ok(),
    };
    let folder = folder.strip_prefix("s3://").unwrap();
    let mut request = HttpRequest::new(Bytes::from_static(content).into());
    *request.method_mut() = "PUT".parse().unwrap();
    *request.uri_mut() = format!("{endpoint}/{folder}/{key}").parse().unwrap();
    let region = std::env::var("AWS_REGION").unwrap_or_else(|_| "us-east-1".to_owned());
    AwsAuthorizer::new(&credential, "s3", &region)
        .try_authorize(&mut request, None)
        .unwrap();
    let options = ClientOptions::new().with_allow_http(true);
    let client = ReqwestConnector::default().connect(&options).unwrap();
    let answer = client.execute(request).await.unwrap();
    let status = answer.status();
    let said = answer.into_body().bytes().await.unwrap();
    assert!(status.is_success(), "{key}: {status} {said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_keys_break_no_listing_and_are_named_if_a_pattern_matches_them() {
    let server = minio();
    let (stores, folder) = (server.stores(), server.folder("raw"));
    for (key, content) in [
        ("m/", b"".as_slice()),
        ("m/sub/", b""),
        ("m/f.jsonl/", b""),
        ("m/tab%09newline%0A.bak", b"x"),
        ("m/x.jsonl", b"1"),
        ("full/y.jsonl/", b"1"),
    ] {
        put_raw(&folder, key, content).await;
    }
    let x = format!("{folder}/m/x.jsonl");
    for pattern in ["m/*.jsonl", "m/x*", "m/**/x.*"] {
        let found = list_inputs(&stores, &[format!("{folder}/{pattern}")], false).await;
        let found: Vec<_> = found.unwrap().into_iter().map(|file| file.uri).collect();
        assert_eq!(found, [x.as_str()], "{pattern}");
    }
    for (pattern, name, problem) in [
        ("m/*", r"m/tab\tnewline\n.bak", "has a control character"),
        ("full/*", "full/y.jsonl/", "ends with a slash"),
    ] {
        let error = list_inputs(&stores, &[format!("{folder}/{pattern}")], true).await;
        let said = error.unwrap_err().to_string();
        let expected = format!("cannot be read: its name {problem} (got {folder}/{name});");
        assert!(said.contains(&expected), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_keys_in_the_output_folder_before_and_during_a_job_harm_nothing() {
    let server = minio();
    let folder = server.folder("odd-output");
    for key in ["p-%0A.jsonl", "p-0.jsonl/", "sub/", "tab%09/x"] {
        put_raw(&format!("{folder}/out"), key, b"").await;
    }
    let meanwhile = async |out: &str| {
        put_raw(out, "p-1%0A.jsonl", b"somebody else's").await;
        put_raw(out, "p-1.jsonl/", b"").await;
    };
    others::run_beside_others(&server, &folder, meanwhile).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_uploads_of_killed_attempts_are_discarded_at_the_end() {
    others::throw_away_uploads(&minio()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_keys_in_a_job_folder_are_shown_and_break_no_removal() {
    let server = minio();
    let (stores, folder) = (server.stores(), server.folder("odd-jobs"));
    let uid = "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7";
    let own = format!("{folder}/{uid}");
    for key in [
        "",
        "data/",
        "data/0/outputs-e1-1",
        "plan.json",
        "data/odd%0A",
    ] {
        let content: &[u8] = if key.ends_with('/') || key.is_empty() {
            b""
        } else {
            b"x"
        };
        put_raw(&own, key, content).await;
    }
    put_raw(&folder, "beside%0A/x", b"x").await;
    let root = Location::parse(&folder).unwrap();
    let names = subfolders(&stores, &root, "", 9, |_| true).await.unwrap();
    assert_eq!(names, [uid]);
    let own = Location::parse(&own).unwrap();
    let mut shown = Vec::new();
    let walked = walk(&stores, &own, |entry| {
        let age = entry.modified.elapsed().unwrap_or_default();
        shown.push((entry.path, entry.bytes, entry.is_file, age.as_secs() / 600));
    });
    walked.await.unwrap();
    let seen = |path: &str, is_file| (path.to_owned(), 1, is_file, 0);
    let (list, odd) = ("data/0/outputs-e1-1", r"data/odd\n");
    let expected = [seen(list, true), seen(odd, false), seen("plan.json", true)];
    assert_eq!(shown, expected);
    let storage = JobStorage::new(stores.clone(), &folder, JobUid::parse(uid).unwrap()).unwrap();
    assert_eq!(remove_job_folder(&storage).await.unwrap(), 2);
    let mut left = Vec::new();
    let walked = walk(&stores, &own, |entry| left.push(entry.path));
    walked.await.unwrap();
    assert_eq!(left, [odd]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_outputs_is_published_and_read() {
    object_stores::publish_and_load(&minio()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_wrong_credentials_and_a_dead_endpoint_are_distinguished() {
    object_stores::distinguish_mistakes(&minio()).await;
}
