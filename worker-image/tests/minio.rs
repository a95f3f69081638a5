//! The data part against a real S3 server: the cluster's `MinIO`. What a store in memory cannot show: that answers are
//! understood, that an empty file can be completed, that conditional writes exclude.
//!
//! Needs the cluster: `eval "$(make -s cluster-env)"`. Without it every test here fails and says so.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use object_store::{ObjectStoreExt, PutPayload};
use tokio::runtime::Handle;
use zephyr_engine::coordinator::record::{FilePlace, FinalPlace, LogRecord, OutputFile};
use zephyr_engine::id::{Attempt, Epoch, JobUid, ShardId, StageId, TaskAttempt, TaskId};
use zephyr_worker::finalize::{Finalized, discard, finalize, write_manifest};
use zephyr_worker::ledger::{Ledger, LedgerError, WriterToken};
use zephyr_worker::shuffle::{load_stage, publish_stage};
use zephyr_worker::storage::{
    Cause, InputFile, JobStorage, Location, ObjectReader, ObjectWriter, PartUpload, Stores,
    UploadPlace, fetch, list_inputs, probe,
};

const BUCKET: &str = "zephyr-scratch";

fn options() -> BTreeMap<String, String> {
    let endpoint = std::env::var("ZEPHYR_S3_HOST_ENDPOINT").unwrap_or_default();
    assert!(
        !endpoint.is_empty() && std::env::var("AWS_ACCESS_KEY_ID").is_ok(),
        "ZEPHYR_S3_HOST_ENDPOINT and AWS_ACCESS_KEY_ID are not set: these tests need the cluster's S3 server; run `make cluster` and `eval \"$(make -s cluster-env)\"`",
    );
    let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    BTreeMap::from([
        option("aws_endpoint", &endpoint),
        option("aws_allow_http", "true"),
    ])
}

fn stores() -> Stores {
    zephyr_worker::install_crypto_provider();
    Stores::new(options())
}

/// A folder of this test's run alone.
fn folder(test: &str) -> String {
    format!(
        "s3://{BUCKET}/worker-tests/{test}-{:032x}",
        rand::random::<u128>()
    )
}

fn attempt(shard: u32) -> TaskAttempt {
    TaskAttempt {
        task: TaskId {
            stage: StageId(0),
            shard: ShardId(shard),
        },
        attempt: Attempt {
            epoch: Epoch(1),
            number: 1,
        },
    }
}

fn fact(shard: u32) -> LogRecord {
    LogRecord::Revoked {
        task: attempt(shard),
    }
}

/// Runs blocking work as a task does: on a plain thread.
async fn on_thread<T: Send + 'static>(work: impl FnOnce(&Handle) -> T + Send + 'static) -> T {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        std::thread::scope(|scope| scope.spawn(|| work(&runtime)).join().unwrap())
    })
    .await
    .unwrap()
}

async fn upload(stores: &Stores, uri: &str, content: Vec<u8>) -> OutputFile {
    let (stores, uri) = (stores.clone(), uri.to_owned());
    on_thread(move |runtime| {
        let location = Location::parse(&uri).unwrap();
        let mut upload = PartUpload::begin(runtime, &stores, &location, "test").unwrap();
        upload.write_all(&content).unwrap();
        let uploaded = upload.finish().unwrap();
        let UploadPlace::Multipart { upload, parts } = uploaded.place else {
            panic!("{:?}", uploaded.place)
        };
        let place = FinalPlace::Multipart { uri, upload, parts }.into();
        OutputFile {
            rows: 1,
            bytes: uploaded.bytes,
            crc32c: uploaded.crc32c,
            place,
        }
    })
    .await
}

fn noise(count: u32) -> Vec<u8> {
    (0..count)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_accepts_a_store_with_conditional_writes() {
    let storage =
        JobStorage::new(stores(), &folder("probe"), JobUid::parse("uid").unwrap()).unwrap();
    probe(&storage).await.unwrap();
    probe(&storage).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_3459_of_many_coordinators_that_start_at_once_each_gets_an_epoch_and_only_the_last_can_append()
 {
    let storage =
        JobStorage::new(stores(), &folder("ledger"), JobUid::parse("uid").unwrap()).unwrap();
    let mut first = Ledger::take_over(&storage, WriterToken::from_random(1))
        .await
        .unwrap();
    first.ledger.append(&[fact(1), fact(2)]).await.unwrap();
    let start = |n: u128| {
        let storage = storage.clone();
        async move {
            Ledger::take_over(&storage, WriterToken::from_random(n))
                .await
                .unwrap()
        }
    };
    let mut started = futures::future::join_all((2..10).map(start)).await;
    started.sort_by_key(|taken| taken.epoch);
    let epochs: Vec<u64> = started.iter().map(|taken| taken.epoch.0).collect();
    assert_eq!(epochs, (2..10).collect::<Vec<_>>());
    for taken in &started {
        assert_eq!(taken.records, [fact(1), fact(2)]);
    }
    let mut newest = started.pop().unwrap();
    newest.ledger.append(&[fact(3)]).await.unwrap();
    for old in std::iter::once(&mut first).chain(&mut started) {
        assert!(matches!(
            old.ledger.append(&[fact(9)]).await,
            Err(LedgerError::Fenced { .. })
        ));
    }
    let last = Ledger::take_over(&storage, WriterToken::from_random(99))
        .await
        .unwrap();
    assert_eq!(last.records, [fact(1), fact(2), fact(3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_becomes_a_file_once_it_is_finalized_and_never_a_losers() {
    let stores = stores();
    let folder = folder("finalize");
    for (name, content) in [
        ("empty", Vec::new()),
        ("small", b"some".to_vec()),
        ("large", noise(5_000_000)),
    ] {
        let uri = format!("{folder}/{name}");
        let location = Location::parse(&uri).unwrap();
        let winner = upload(&stores, &uri, content.clone()).await;
        let loser = upload(&stores, &uri, b"of another attempt".to_vec()).await;
        assert_eq!(
            fetch(&stores, &location).await.unwrap_err().cause,
            Cause::NotFound,
            "{name}: nothing is seen before"
        );
        assert_eq!(
            finalize(&stores, &winner).await.unwrap(),
            Finalized::Stands,
            "{name}"
        );
        assert!(
            fetch(&stores, &location).await.unwrap() == content,
            "{name}"
        );
        assert_eq!(
            finalize(&stores, &winner).await.unwrap(),
            Finalized::Stands,
            "{name}: after a lost answer"
        );
        discard(&stores, &loser).await.unwrap();
        discard(&stores, &loser).await.unwrap();
        assert_eq!(
            finalize(&stores, &loser).await.unwrap(),
            Finalized::Lost,
            "{name}"
        );
        assert!(
            fetch(&stores, &location).await.unwrap() == content,
            "{name}"
        );
    }
    let files = [(
        attempt(0),
        upload(&stores, &format!("{folder}/0"), b"1\n".to_vec()).await,
    )];
    let manifest = write_manifest(
        &stores,
        &format!("{folder}/{{shard}}"),
        &JobUid::parse("uid").unwrap(),
        "ns/name",
        "digest",
        &files,
    )
    .await
    .unwrap();
    assert_eq!(manifest, format!("{folder}/_SUCCESS.json"));
    let text = fetch(&stores, &Location::parse(&manifest).unwrap())
        .await
        .unwrap();
    assert!(
        String::from_utf8(text.to_vec())
            .unwrap()
            .contains("\"planDigest\": \"digest\"")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_read_in_ranges_and_one_that_changed_is_refused() {
    let stores = stores();
    let folder = folder("read");
    let location = Location::parse(&format!("{folder}/a b/é.jsonl")).unwrap();
    let content = noise(5_000_000);
    let (writer, place, bytes) = (stores.clone(), location.clone(), content.clone());
    on_thread(move |runtime| {
        let mut object = ObjectWriter::new(runtime, &writer, &place);
        object.write_all(&bytes).unwrap();
        assert_eq!(
            object.finish().unwrap(),
            (bytes.len() as u64, crc32c::crc32c(&bytes))
        );
    })
    .await;
    let listed = list_inputs(&stores, &[format!("{folder}/**/*.{{jsonl,txt}}")], false)
        .await
        .unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|file| file.uri.clone())
            .collect::<Vec<_>>(),
        [location.to_string()]
    );
    let read = |file: InputFile| {
        let (stores, location) = (stores.clone(), location.clone());
        on_thread(move |runtime| {
            let mut bytes = Vec::new();
            ObjectReader::open(runtime, &stores, &file, &location, Arc::new(|_| ()))
                .read_to_end(&mut bytes)
                .map(|_| bytes)
        })
    };
    assert!(read(listed[0].clone()).await.unwrap() == content);
    let store = stores.open(&location).unwrap().objects;
    for replacement in [
        noise(4_999_999),
        noise(1),
        content.iter().map(|byte| byte ^ 1).collect(),
    ] {
        store
            .put(location.path(), PutPayload::from(replacement))
            .await
            .unwrap();
        let error = read(listed[0].clone()).await.unwrap_err();
        assert!(
            error.to_string().contains("changed while reading"),
            "{error}"
        );
    }
    store.delete(location.path()).await.unwrap();
    let error = read(listed[0].clone()).await.unwrap_err();
    assert!(
        error.to_string().contains("there is no such object (404)"),
        "{error}"
    );
    let error = list_inputs(&stores, &[format!("{folder}/*.gz")], false)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no file matches"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_outputs_is_published_and_read() {
    let storage =
        JobStorage::new(stores(), &folder("outputs"), JobUid::parse("uid").unwrap()).unwrap();
    let file = OutputFile {
        rows: 1,
        bytes: 2,
        crc32c: 3,
        place: FilePlace::Shuffle,
    };
    let outputs = [(attempt(0), file)];
    let path = publish_stage(&storage, Epoch(1), StageId(0), 0, &outputs)
        .await
        .unwrap();
    assert_eq!(load_stage(&storage, &path).await.unwrap(), outputs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_wrong_credentials_and_a_dead_endpoint_are_told_apart() {
    zephyr_worker::install_crypto_provider();
    let with = |key: &str, value: &str| {
        let mut options = options();
        options.insert(key.to_owned(), value.to_owned());
        Stores::new(options).with_patience(Duration::ZERO)
    };
    let missing = JobStorage::new(
        stores(),
        "s3://no-such-bucket-here/x",
        JobUid::parse("uid").unwrap(),
    )
    .unwrap();
    let error = probe(&missing).await.unwrap_err();
    assert!(!error.is_transient());
    assert_eq!(
        error.to_string(),
        "spec.storage.uri: writing s3://no-such-bucket-here/x/uid/probe: bucket \"no-such-bucket-here\" does not exist (NoSuchBucket)",
    );
    let error = list_inputs(&stores(), &["s3://no-such-bucket-here/*".to_owned()], true)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("bucket \"no-such-bucket-here\" does not exist (NoSuchBucket)"),
        "{error}"
    );

    // A session token that was never given out; keys come from the environment, which wins.
    let denied = list_inputs(
        &with("aws_session_token", "expired"),
        &[format!("s3://{BUCKET}/*")],
        true,
    )
    .await
    .unwrap_err();
    assert!(!denied.is_transient(), "{denied}");
    assert!(
        denied
            .to_string()
            .contains(&format!("listing s3://{BUCKET}/: access denied: ")),
        "{denied}"
    );

    // Port 9 is discard: nobody answers.
    let dead = list_inputs(
        &with("aws_endpoint", "http://127.0.0.1:9"),
        &[format!("s3://{BUCKET}/*")],
        true,
    )
    .await
    .unwrap_err();
    assert!(dead.is_transient(), "{dead}");
    assert!(
        dead.to_string().contains("no connection to the store"),
        "{dead}"
    );
}
