//! Storage tests, and a whole job, on Azurite, the emulator of Azure Blob Storage.
//!
//! Needs the emulator, so `make test-azure` runs it, and `cargo test` does not (`test = false`).

#[path = "../../store/tests/object_stores/mod.rs"]
mod object_stores;
#[expect(dead_code, reason = "what only jobs on a local disk need")]
mod processes;
mod whole_job;

use object_stores::{Server, Setting, upload};
use zephyr_engine::coordinator::record::{FilePlace, FinalPlace};
use zephyr_store::finalize::{Finalized, finalize};
use zephyr_store::storage::{Location, fetch};

/// The published account and key of every emulator.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

const CONTAINER: &str = "zephyr-test";

/// The contents of a job's Secret, by key; in the environment the names are in capital letters.
fn settings() -> Vec<Setting> {
    let endpoint = std::env::var("ZEPHYR_AZURITE_ENDPOINT").unwrap_or_default();
    assert!(
        !endpoint.is_empty(),
        "ZEPHYR_AZURITE_ENDPOINT is not set: these tests need Azure's emulator; run `make test-azure`",
    );
    vec![
        ("azure_storage_account_name", ACCOUNT.to_owned()),
        ("azure_storage_account_key", KEY.to_owned()),
        ("azure_storage_endpoint", endpoint),
        ("azure_allow_http", "true".to_owned()),
    ]
}

fn azurite() -> Server {
    Server {
        scheme: "az",
        bucket: CONTAINER,
        options: settings(),
        wrong_credentials: ("azure_storage_account_key", "d3Jvbmc=".to_owned()),
        // Port 9 is the discard port, on which nothing answers.
        dead_endpoint: (
            "azure_storage_endpoint",
            format!("http://127.0.0.1:9/{ACCOUNT}"),
        ),
        allow_http: "azure_allow_http",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_accepts_a_store_with_conditional_writes() {
    object_stores::probe_twice(&azurite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_3459_of_many_coordinators_that_start_at_once_each_gets_an_epoch_and_only_the_last_can_append()
 {
    object_stores::race_for_epochs(&azurite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_finalized_upload_becomes_a_file_and_a_losers_never_does() {
    object_stores::finalize_winners_and_losers(&azurite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_an_unfinished_job_are_overwritten() {
    object_stores::write_over_what_was_not_finished(&azurite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_read_in_ranges_and_one_that_changed_is_refused() {
    object_stores::read_in_ranges(&azurite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marker_files_are_skipped_and_prefixes_may_end_within_names() {
    object_stores::list_by_prefix_and_pass_over_markers(&azurite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_several_pages_is_complete() {
    object_stores::list_several_pages(&azurite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_any_name_are_listed_read_and_removed() {
    object_stores::read_and_remove_odd_names(&azurite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_outputs_is_published_and_read() {
    object_stores::publish_and_load(&azurite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_wrong_credentials_and_a_dead_endpoint_are_distinguished() {
    object_stores::distinguish_mistakes(&azurite()).await;
}

/// An upload cannot be aborted here, so a completed file itself must prevent a superseded attempt's
/// upload from replacing it.
#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_attempts_upload_that_still_exists_replaces_nothing() {
    let server = azurite();
    let stores = server.stores();
    let folder = server.folder("beaten");
    for (shard, (winning, losing)) in [("", "some"), ("some", ""), ("some", "other")]
        .into_iter()
        .enumerate()
    {
        let uri = format!("{folder}/{shard}");
        let loser = upload(&stores, &uri, losing.as_bytes().to_vec()).await;
        let winner = upload(&stores, &uri, winning.as_bytes().to_vec()).await;
        for (file, expected) in [(&winner, Finalized::Stands), (&loser, Finalized::Lost)] {
            assert_eq!(finalize(&stores, file).await.unwrap(), expected, "{uri}");
            let location = Location::parse(&uri).unwrap();
            assert_eq!(fetch(&stores, &location).await.unwrap(), winning, "{uri}");
        }
    }
}

/// Azure refuses a part without bytes; its emulator does not.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_has_no_parts() {
    let server = azurite();
    let uri = format!("{}/0", server.folder("empty"));
    let file = upload(&server.stores(), &uri, Vec::new()).await;
    let FilePlace::Final(place) = file.place else {
        panic!("{:?}", file.place)
    };
    let FinalPlace::Multipart { parts, .. } = *place else {
        panic!("{place:?}")
    };
    assert_eq!(parts, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_all_its_data_there_equals_an_independent_computation() {
    whole_job::equals_an_independent_one(&azurite()).await;
}
