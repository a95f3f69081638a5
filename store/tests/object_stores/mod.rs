//! Tests of the `store` crate that every real object store must pass: answers are understood, an
//! empty file can be completed, and of two conditional writes only one succeeds. A store in memory
//! cannot show these things. This module starts no server.

#![expect(clippy::unwrap_used, clippy::panic, reason = "only tests are in here")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::runtime::Handle;
use zephyr_crds::pipeline::SinkMode;
use zephyr_engine::coordinator::record::{FilePlace, FinalPlace, LogRecord, OutputFile};
use zephyr_engine::id::{Attempt, Epoch, JobUid, ShardId, StageId, TaskAttempt, TaskId};
use zephyr_store::finalize::{
    Finalized, Output, OwnerWatch, claim, close, discard, finalize, give_up,
};
use zephyr_store::ledger::{Ledger, LedgerError, WriterToken};
use zephyr_store::shuffle::{load_stage, publish_stage};
use zephyr_store::storage::{
    Cause, InputFile, JobStorage, Location, ObjectReader, ObjectWriter, PartUpload, Stores,
    UploadPlace, fetch, list_inputs, probe, remove_folder,
};

/// An option of a job and its value.
pub(super) type Setting = (&'static str, String);

/// An object store, with wrong settings for it.
pub(super) struct Server {
    /// The scheme of its addresses, such as `s3`.
    pub(super) scheme: &'static str,
    /// A bucket that exists.
    pub(super) bucket: &'static str,
    /// The options with which it is reached.
    pub(super) options: Vec<Setting>,
    /// Credentials that the store refuses.
    pub(super) wrong_credentials: Setting,
    /// An address at which no server answers.
    pub(super) dead_endpoint: Setting,
    /// The name of the option that allows an endpoint without TLS.
    pub(super) allow_http: &'static str,
}

impl Server {
    pub(super) fn stores(&self) -> Stores {
        zephyr_store::install_crypto_provider();
        Stores::new(named(&self.options))
    }

    /// Stores with one wrong setting, which do not retry failed calls.
    fn stores_with(&self, wrong: &Setting) -> Stores {
        let mut options = named(&self.options);
        options.extend(named(std::slice::from_ref(wrong)));
        Stores::new(options).with_retry_time(Duration::ZERO)
    }

    /// A folder that only this run of the test uses.
    pub(super) fn folder(&self, test: &str) -> String {
        format!(
            "{}://{}/worker-tests/{test}-{:032x}",
            self.scheme,
            self.bucket,
            rand::random::<u128>()
        )
    }

    fn job_storage(&self, test: &str) -> JobStorage {
        JobStorage::new(self.stores(), &self.folder(test), uid()).unwrap()
    }
}

fn named(settings: &[Setting]) -> BTreeMap<String, String> {
    settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect()
}

pub(super) fn uid() -> JobUid {
    JobUid::parse("uid").unwrap()
}

pub(super) fn attempt(shard: u32) -> TaskAttempt {
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

/// Uploads a final file as a task does: nothing is completed.
pub(super) async fn upload(stores: &Stores, uri: &str, content: Vec<u8>) -> OutputFile {
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

pub(super) async fn put(stores: &Stores, uri: &str, content: &[u8]) {
    let location = Location::parse(uri).unwrap();
    let store = stores.open(&location).unwrap().objects;
    let payload = PutPayload::from(content.to_vec());
    store.put(location.path(), payload).await.unwrap();
}

async fn read(stores: &Stores, file: &InputFile) -> std::io::Result<Vec<u8>> {
    let (stores, file) = (stores.clone(), file.clone());
    on_thread(move |runtime| {
        let location = Location::parse(&file.uri).unwrap();
        let mut bytes = Vec::new();
        ObjectReader::open(runtime, &stores, &file, &location, Arc::new(|_| ()))
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    })
    .await
}

fn noise(count: u32) -> Vec<u8> {
    (0..count)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

pub(super) async fn probe_twice(server: &Server) {
    let storage = server.job_storage("probe");
    probe(&storage).await.unwrap();
    probe(&storage).await.unwrap();
}

pub(super) async fn race_for_epochs(server: &Server) {
    let storage = server.job_storage("ledger");
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

pub(super) async fn finalize_winners_and_losers(server: &Server) {
    let stores = server.stores();
    let folder = server.folder("finalize");
    let contents = [
        ("empty", Vec::new()),
        ("small", b"some".to_vec()),
        ("large", noise(5_000_000)),
    ];
    for (name, content) in contents {
        for losing in [&b"of another attempt"[..], b""] {
            let uri = format!("{folder}/{name}-{}", losing.len());
            let location = Location::parse(&uri).unwrap();
            let winner = upload(&stores, &uri, content.clone()).await;
            let loser = upload(&stores, &uri, losing.to_vec()).await;
            assert_eq!(
                fetch(&stores, &location).await.unwrap_err().cause,
                Cause::NotFound,
                "{uri}: nothing is seen before"
            );
            assert_eq!(
                finalize(&stores, &winner).await.unwrap(),
                Finalized::Stands,
                "{uri}"
            );
            assert!(fetch(&stores, &location).await.unwrap() == content, "{uri}");
            assert_eq!(
                finalize(&stores, &winner).await.unwrap(),
                Finalized::Stands,
                "{uri}: after a lost answer"
            );
            discard(&stores, &loser).await.unwrap();
            discard(&stores, &loser).await.unwrap();
            // Two empty files are one and the same.
            let expected = if content == losing {
                Finalized::Stands
            } else {
                Finalized::Lost
            };
            assert_eq!(finalize(&stores, &loser).await.unwrap(), expected, "{uri}");
            assert!(fetch(&stores, &location).await.unwrap() == content, "{uri}");
        }
    }
}

pub(super) async fn write_over_what_was_not_finished(server: &Server) {
    let stores = server.stores();
    let folder = server.folder("replace");
    let output = |job: &str, mode| {
        let job = JobUid::parse(job).unwrap();
        let own = format!("{folder}-storage");
        Output {
            storage: JobStorage::new(stores.clone(), &own, job.clone()).unwrap(),
            stores: stores.clone(),
            namespace: "ns".to_owned(),
            name: job.to_string(),
            job,
            path: format!("{folder}/{{shard}}"),
            more_paths: Vec::new(),
            mode,
            has_begun: false,
        }
    };
    let first = output("uid", SinkMode::Refuse);
    claim(&first, &mut OwnerWatch::default()).await.unwrap();
    let mut files = Vec::new();
    for (shard, content) in [&b""[..], b"1\n"].into_iter().enumerate() {
        for left in [&b"of a job that did not finish"[..], b""] {
            let uri = format!("{folder}/{shard}");
            let location = Location::parse(&uri).unwrap();
            put(&stores, &uri, left).await;
            let file = upload(&stores, &uri, content.to_vec()).await;
            assert_eq!(fetch(&stores, &location).await.unwrap(), left);
            assert_eq!(finalize(&stores, &file).await.unwrap(), Finalized::Stands);
            assert_eq!(fetch(&stores, &location).await.unwrap(), content);
            if left.is_empty() {
                files.push((attempt(u32::try_from(shard).unwrap()), file));
            }
        }
    }
    let other = output("other", SinkMode::Overwrite);
    let error = claim(&other, &mut OwnerWatch::default()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is held by job ns/uid, uid uid, of which"),
        "{error}"
    );
    give_up(&first).await.unwrap();
    claim(&first, &mut OwnerWatch::default()).await.unwrap();
    let manifest = close(&first, "digest", &files, &[]).await.unwrap();
    assert_eq!(manifest, format!("{folder}/_SUCCESS.json"));
    let text = fetch(&stores, &Location::parse(&manifest).unwrap())
        .await
        .unwrap();
    assert!(
        String::from_utf8(text.to_vec())
            .unwrap()
            .contains("\"planDigest\": \"digest\"")
    );
    claim(&first, &mut OwnerWatch::default()).await.unwrap();
    let refused = output("refused", SinkMode::Refuse);
    let error = claim(&refused, &mut OwnerWatch::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("ns/uid, uid uid"), "{error}");
    // The next output has one file fewer.
    claim(&other, &mut OwnerWatch::default()).await.unwrap();
    let file = upload(&stores, &format!("{folder}/0"), b"2\n".to_vec()).await;
    assert_eq!(finalize(&stores, &file).await.unwrap(), Finalized::Stands);
    close(&other, "digest", &[(attempt(0), file)], &[])
        .await
        .unwrap();
    let left = list_inputs(&stores, &[format!("{folder}/*")], false).await;
    let left: Vec<_> = left.unwrap().into_iter().map(|file| file.uri).collect();
    assert!(left.contains(&format!("{folder}/0")), "{left:?}");
    assert!(!left.contains(&format!("{folder}/1")), "{left:?}");
    let started = Location::parse(&format!("{folder}/_STARTED.json")).unwrap();
    let gone = fetch(&stores, &started).await.unwrap_err();
    assert_eq!(gone.cause, Cause::NotFound);
}

pub(super) async fn read_in_ranges(server: &Server) {
    let stores = server.stores();
    let folder = server.folder("read");
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
    assert!(read(&stores, &listed[0]).await.unwrap() == content);
    let flipped: Vec<u8> = content.iter().map(|byte| byte ^ 1).collect();
    for replacement in [noise(4_999_999), noise(1), flipped, Vec::new()] {
        put(&stores, &location.to_string(), &replacement).await;
        let error = read(&stores, &listed[0]).await.unwrap_err();
        assert!(
            error.to_string().contains("changed while reading"),
            "{error}"
        );
    }
    let store = stores.open(&location).unwrap().objects;
    store.delete(location.path()).await.unwrap();
    let error = read(&stores, &listed[0]).await.unwrap_err();
    assert!(
        error.to_string().contains("there is no such object (404)"),
        "{error}"
    );
    let error = list_inputs(&stores, &[format!("{folder}/*.gz")], false)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no file matches"), "{error}");
}

pub(super) async fn read_and_remove_odd_names(server: &Server) {
    const NAMES: [&str; 7] = ["a b", "a+b%20c", "é😀", "x?y#z&w=v", "{q}", "~'\"", "empty"];
    let stores = server.stores();
    let folder = server.folder("names");
    let uri = |name: &str| format!("{folder}/in/{name}.txt");
    for name in NAMES {
        let content = if name == "empty" { "" } else { name };
        put(&stores, &uri(name), content.as_bytes()).await;
    }
    put(&stores, &format!("{folder}/in2/beside"), b"x").await;
    let by_pattern = list_inputs(&stores, &[format!("{folder}/in/*.txt")], false)
        .await
        .unwrap();
    let mut expected: Vec<String> = NAMES.into_iter().map(uri).collect();
    expected.sort();
    let found: Vec<&str> = by_pattern.iter().map(|file| file.uri.as_str()).collect();
    assert_eq!(found, expected);
    for file in &by_pattern {
        let content = read(&stores, file).await.unwrap();
        assert_eq!(content.len() as u64, file.size, "{file:?}");
    }
    // A file that is given by its name is requested directly, without a listing.
    for name in ["a b", "empty"] {
        let by_name = list_inputs(&stores, &[uri(name)], false).await.unwrap();
        let listed = by_pattern.iter().find(|file| file.uri == uri(name));
        assert_eq!(by_name.first(), listed);
        read(&stores, &by_name[0]).await.unwrap();
    }
    put(&stores, &uri("empty"), b"no more").await;
    let empty = by_pattern.iter().find(|file| file.size == 0).unwrap();
    let error = read(&stores, empty).await.unwrap_err();
    assert!(
        error.to_string().contains("changed while reading"),
        "{error}"
    );
    let inputs = Location::parse(&format!("{folder}/in")).unwrap();
    assert_eq!(remove_folder(&stores, &inputs).await.unwrap(), 7);
    assert_eq!(remove_folder(&stores, &inputs).await.unwrap(), 0);
    let left = list_inputs(&stores, &[format!("{folder}/**")], false).await;
    assert_eq!(left.unwrap().len(), 1);
}

pub(super) async fn list_by_prefix_and_pass_over_markers(server: &Server) {
    let stores = server.stores();
    let folder = server.folder("markers");
    let uri = |name: &str| format!("{folder}/{name}");
    for name in [
        "in/2024-1",
        "in/2024-2/x",
        "in/2023-9",
        "in/_SUCCESS.json",
        "in/.x.crc",
        "in/_t/x",
    ] {
        put(&stores, &uri(name), b"x").await;
    }
    for (pattern, expected) in [
        ("in/2024-*", vec!["in/2024-1"]),
        ("in/2024-**/*", vec!["in/2024-2/x"]),
        ("in/**", vec!["in/2023-9", "in/2024-1", "in/2024-2/x"]),
        ("in/_*", vec!["in/_SUCCESS.json"]),
        ("in/_SUCCESS.json", vec!["in/_SUCCESS.json"]),
        ("in/2024", vec![]),
    ] {
        let found = list_inputs(&stores, &[uri(pattern)], true).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|file| file.uri).collect();
        let expected: Vec<_> = expected.into_iter().map(uri).collect();
        assert_eq!(found, expected, "{pattern}");
    }
    let folder = list_inputs(&stores, &[uri("in")], true).await.unwrap_err();
    let is_said = folder
        .to_string()
        .contains(": is a folder and not a file (got ");
    assert!(is_said, "{folder}");
}

/// More objects than a page has.
pub(super) async fn list_several_pages(server: &Server) {
    const OBJECTS: usize = 1_101;
    let stores = server.stores();
    let folder = server.folder("pages");
    let puts = (0..OBJECTS).map(|number| {
        let (stores, uri) = (stores.clone(), format!("{folder}/in/a b+{number}"));
        async move { put(&stores, &uri, b"x").await }
    });
    futures::stream::iter(puts)
        .buffer_unordered(32)
        .collect::<()>()
        .await;
    let found = list_inputs(&stores, &[format!("{folder}/in/a b*")], false).await;
    assert_eq!(found.unwrap().len(), OBJECTS);
}

pub(super) async fn publish_and_load(server: &Server) {
    let storage = server.job_storage("outputs");
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

pub(super) async fn distinguish_mistakes(server: &Server) {
    let scheme = server.scheme;
    let uri = format!("{scheme}://no-such-bucket-here/x");
    let missing = JobStorage::new(server.stores(), &uri, uid()).unwrap();
    let error = probe(&missing).await.unwrap_err();
    assert!(!error.is_transient());
    assert_eq!(
        error.to_string(),
        format!(
            "spec.storage.uri: writing {uri}/uid/probe: bucket \"no-such-bucket-here\" does not exist (NoSuchBucket)"
        ),
    );
    for name in ["*", "in/x*", "in/x"] {
        let path = format!("{scheme}://no-such-bucket-here/{name}");
        let error = list_inputs(&server.stores(), &[path], true)
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("bucket \"no-such-bucket-here\" does not exist (NoSuchBucket)"),
            "{error}"
        );
    }

    let folder = format!("{scheme}://{}/", server.bucket);
    let listed = |wrong: Setting| {
        let stores = server.stores_with(&wrong);
        let pattern = format!("{folder}*");
        async move { list_inputs(&stores, &[pattern], true).await.unwrap_err() }
    };
    let denied = listed(server.wrong_credentials.clone()).await;
    assert!(!denied.is_transient(), "{denied}");
    assert!(
        denied
            .to_string()
            .contains(&format!("listing {folder}: access denied: ")),
        "{denied}"
    );
    let forbidden = listed((server.allow_http, "false".to_owned())).await;
    assert!(!forbidden.is_transient(), "{forbidden}");
    let hint = format!("used only with {}: \"true\"", server.allow_http);
    assert!(forbidden.to_string().contains(&hint), "{forbidden}");
    let dead = listed(server.dead_endpoint.clone()).await;
    assert!(dead.is_transient(), "{dead}");
    assert!(
        dead.to_string().contains("no connection to the store"),
        "{dead}"
    );
}
