//! Tests of reading: in ranges, slowly, and of what changed meanwhile.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::storage::fake_http::{FakeHttp, Reply};
use crate::storage::stores::Times;
use crate::storage::tricky::{Trick, Tricks, tricky};
use object_store::PutPayload;
use object_store::memory::InMemory;
use std::time::Duration;

async fn put(stores: &Stores, location: &Location, bytes: Vec<u8>) -> InputFile {
    let store = stores.open(location).unwrap().objects;
    store
        .put(location.path(), PutPayload::from(bytes))
        .await
        .unwrap();
    let meta = store.head(location.path()).await.unwrap();
    InputFile {
        uri: location.to_string(),
        size: meta.size,
        etag: meta.e_tag,
    }
}

fn read(stores: &Stores, file: &InputFile, location: &Location) -> io::Result<(Vec<u8>, u64)> {
    let (runtime, stores, file, location) = (
        Handle::current(),
        stores.clone(),
        file.clone(),
        location.clone(),
    );
    let thread = std::thread::spawn(move || {
        let total = Arc::new(AtomicU64::new(0));
        let sum = Arc::clone(&total);
        let counted: ReadCounter = Arc::new(move |n| {
            sum.fetch_add(n, Ordering::Relaxed);
        });
        let mut bytes = Vec::new();
        ObjectReader::open(&runtime, &stores, &file, &location, counted).read_to_end(&mut bytes)?;
        Ok((bytes, total.load(Ordering::Relaxed)))
    });
    thread.join().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_several_ranges_is_read_in_order_and_counted() {
    let stores = Stores::in_memory();
    let location = Location::parse("s3://b/k").unwrap();
    let content: Vec<u8> = (0..20_000_001_u32).map(|n| (n % 251) as u8).collect();
    let file = put(&stores, &location, content.clone()).await;
    let (bytes, counted) = read(&stores, &file, &location).unwrap();
    assert!(bytes == content);
    assert_eq!(counted, content.len() as u64);
    let empty = put(&stores, &location, Vec::new()).await;
    assert_eq!(read(&stores, &empty, &location).unwrap().0, b"");
}

#[test]
fn a_runtime_that_ends_is_not_taken_for_the_end_of_the_file() {
    let stores = Stores::in_memory();
    let location = Location::parse("s3://b/k").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let file = runtime.block_on(put(&stores, &location, vec![1; 30 << 20]));
    let counted: ReadCounter = Arc::new(|_| ());
    let mut reader = ObjectReader::open(runtime.handle(), &stores, &file, &location, counted);
    reader.read_exact(&mut [0; 10]).unwrap();
    runtime.shutdown_background();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(
        error.to_string().contains("reading was ended early"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_not_the_listed_one_is_refused() {
    let stores = Stores::in_memory();
    let location = Location::parse("s3://b/k").unwrap();
    let listed = put(&stores, &location, b"old".to_vec()).await;
    for replacement in [&b"new"[..], b"longer than before", b""] {
        put(&stores, &location, replacement.to_vec()).await;
        let error = read(&stores, &listed, &location).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("reading s3://b/k: changed while reading"),
            "{error}"
        );
    }
    let unknown = InputFile {
        etag: None,
        size: 30,
        ..listed.clone()
    };
    assert!(
        read(&stores, &unknown, &location)
            .unwrap_err()
            .to_string()
            .contains("changed while reading")
    );
    stores
        .open(&location)
        .unwrap()
        .objects
        .delete(location.path())
        .await
        .unwrap();
    assert!(
        read(&stores, &listed, &location)
            .unwrap_err()
            .to_string()
            .contains("there is no such object (404)")
    );
}

/// A request in the way of real clients: it has a minute in all from when it is first looked at, and wants to be looked
/// at now and then.
async fn request_with_a_timer() -> object_store::Result<()> {
    let late = tokio::time::Instant::now() + Duration::from_mins(1);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if tokio::time::Instant::now() >= late {
            let source = io::Error::new(io::ErrorKind::TimedOut, "operation timed out");
            return Err(object_store::Error::Generic {
                store: "test",
                source: Box::new(HttpError::new(HttpErrorKind::Timeout, source)),
            });
        }
    }
    Ok(())
}

/// Reads all, and takes so long for each megabyte.
fn read_slowly(reader: &mut ObjectReader, mut pause: impl FnMut()) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        reader.take(1 << 20).read_to_end(&mut bytes)?;
        if bytes.len() == before {
            return Ok(bytes);
        }
        pause();
    }
}

fn pattern(count: u32) -> Vec<u8> {
    (0..count).map(|n| (n % 251) as u8).collect()
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_a_minute_for_each_megabyte_reads_all() {
    let inner = Arc::new(InMemory::new());
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let tricks: Tricks = Arc::new(move |call, _| {
        let is_get = call == "get";
        counted.fetch_add(u64::from(is_get), Ordering::SeqCst);
        Box::pin(async move {
            match request_with_a_timer().await {
                Err(_) if is_get => Trick::Fail,
                Ok(()) | Err(_) => Trick::Pass,
            }
        })
    });
    let stores = tricky(&inner, tricks).with_patience(Duration::from_mins(2));
    let location = Location::parse("s3://b/k").unwrap();
    let content = pattern(40 << 20);
    let file = put(&stores, &location, content.clone()).await;
    calls.store(0, Ordering::SeqCst);
    let runtime = Handle::current();
    let (sender, read) = oneshot::channel();
    std::thread::spawn(move || {
        let counted: ReadCounter = Arc::new(|_| ());
        let mut reader = ObjectReader::open(&runtime, &stores, &file, &location, counted);
        let pause = || runtime.block_on(async { tokio::time::sleep(Duration::from_mins(1)).await });
        sender.send(read_slowly(&mut reader, pause)).unwrap();
    });
    assert!(read.await.unwrap().unwrap() == content);
    assert_eq!(calls.load(Ordering::SeqCst), 5, "no range is read twice");
}

/// Serves one object by ranges, and counts the requests.
async fn serving(content: Vec<u8>) -> (FakeHttp, Arc<AtomicU64>) {
    let requests = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&requests);
    let content = Bytes::from(content);
    let server = FakeHttp::start(move |request| {
        counted.fetch_add(1, Ordering::SeqCst);
        let good = |status, body| {
            Reply::new(status, body)
                .with("etag", "\"tag\"")
                .with("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        };
        let all = content.len();
        match request.range() {
            Some((start, _)) if start >= all => Reply::error(416, "InvalidRange"),
            Some((start, end)) => {
                let range = start..end.min(all);
                let told = format!("bytes {start}-{}/{all}", range.end - 1);
                let reply = good(206, content.slice(range)).with("content-range", told);
                // Each range takes longer than the one before: one is under way while that one waits to be read.
                let number = start as u64 / RANGE_BYTES;
                let pause = Duration::from_millis(300 * number);
                Reply { pause, ..reply }
            }
            None => good(200, content.clone()),
        }
    })
    .await;
    (server, requests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_outlasts_every_timer_of_a_real_connection() {
    let content = pattern(40 << 20);
    let (server, requests) = serving(content.clone()).await;
    let stores = server
        .stores()
        .with_times(Times {
            request: Duration::from_secs(2),
            silence: Duration::from_secs(2),
            client_retries: 0,
            ..Times::default()
        })
        .with_patience(Duration::from_secs(1));
    let location = Location::parse("s3://b/k").unwrap();
    let file = InputFile {
        uri: location.to_string(),
        size: content.len() as u64,
        etag: Some("\"tag\"".to_owned()),
    };
    let runtime = Handle::current();
    let (sender, read) = oneshot::channel();
    std::thread::spawn(move || {
        let counted: ReadCounter = Arc::new(|_| ());
        let mut reader = ObjectReader::open(&runtime, &stores, &file, &location, counted);
        // The load itself: twice as slow as all timers together, at two places.
        let mut megabytes = 0;
        let pause = || {
            megabytes += 1;
            if megabytes == 1 || megabytes == 20 {
                std::thread::sleep(Duration::from_secs(3));
            }
        };
        sender.send(read_slowly(&mut reader, pause)).unwrap();
    });
    assert!(read.await.unwrap().unwrap() == content);
    assert_eq!(requests.load(Ordering::SeqCst), 5, "no range is read twice");
}

#[tokio::test]
async fn only_so_many_ranges_are_ahead_of_a_reader_that_does_not_read() {
    let inner = Arc::new(InMemory::new());
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let tricks: Tricks = Arc::new(move |call, _| {
        counted.fetch_add(u64::from(call == "get"), Ordering::SeqCst);
        Box::pin(std::future::ready(Trick::Pass))
    });
    let stores = tricky(&inner, tricks);
    let location = Location::parse("s3://b/k").unwrap();
    let file = put(&stores, &location, pattern(80 << 20)).await;
    calls.store(0, Ordering::SeqCst);
    let runtime = Handle::current();
    let reader = ObjectReader::open(&runtime, &stores, &file, &location, Arc::new(|_| ()));
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(calls.load(Ordering::SeqCst), RANGES_AHEAD as u64);
    drop(reader);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shorter_than_it_was_has_changed_and_a_name_says_nothing_of_that() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = serving(pattern(100)).await;
    let local = format!("file://{}/416 range", folder.path().display());
    std::fs::write(folder.path().join("416 range"), pattern(100)).unwrap();
    for (stores, uri) in [
        (server.stores(), "s3://b/416 range".to_owned()),
        (server.stores(), "gs://b/416 range".to_owned()),
        (server.stores(), "az://b/416 range".to_owned()),
        (Stores::in_memory(), local),
    ] {
        let location = Location::parse(&uri).unwrap();
        let ranges = [
            (100, 10..20, true),
            (200, 150..160, false),
            (99, 10..20, false),
        ];
        for (size, range, is_same) in ranges {
            let bytes = fetch_range(&stores, &location, size, range).await;
            match bytes {
                Ok(bytes) => assert!(is_same && bytes == pattern(100)[10..20], "{uri}"),
                Err(error) => {
                    assert_eq!((error.cause, is_same), (Cause::Changed, false), "{uri}");
                }
            }
        }
    }
    // What is wrong here is not that it changed.
    for status in [400, 405, 503] {
        let body = "<Error><Code>Unheard</Code><Message>range 416</Message></Error>";
        let server = FakeHttp::start(move |request| match request.method.as_str() {
            "HEAD" => Reply::new(200, vec![0; 100])
                .with("etag", "\"tag\"")
                .with("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT"),
            _ => Reply::new(status, body),
        })
        .await;
        let location = Location::parse("s3://b/416 range").unwrap();
        let error = fetch_range(&server.stores(), &location, 100, 10..20)
            .await
            .unwrap_err();
        assert!(
            matches!(error.cause, Cause::Other(_) | Cause::Busy(_)),
            "{error}"
        );
    }
}
