//! Tests that objects are read in ranges, that slow readers succeed, and that changed objects are
//! noticed.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fixtures::tricky::{Trick, Tricks, tricky};
use crate::storage::fake_http::{FakeHttp, Reply};
use crate::storage::stores::Times;
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
fn the_end_of_a_runtime_is_not_mistaken_for_the_end_of_the_file() {
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

/// A request that behaves like those of real clients. It has a minute in total from its first poll,
/// and must be polled from time to time.
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

/// Reads everything. `pause` is called for each megabyte and may take long.
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
    let stores = tricky(&inner, tricks).with_retry_time(Duration::from_mins(2));
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
                let expected = format!("bytes {start}-{}/{all}", range.end - 1);
                let reply = good(206, content.slice(range)).with("content-range", expected);
                // Each range takes longer than the one before. So one range is in progress while
                // the earlier one waits to be consumed.
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
        .with_retry_time(Duration::from_secs(1));
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
        // The consumer is twice as slow as all timers together allow, at two places.
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
async fn a_limited_number_of_ranges_is_ahead_of_a_reader_that_does_not_read() {
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

/// Reads `take` bytes of a part of a file, and counts requests and the bytes that they return.
async fn read_part(content: &[u8], part: Range<u64>, take: usize) -> (u64, u64, bool) {
    let inner = Arc::new(InMemory::new());
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let tricks: Tricks = Arc::new(move |call, _| {
        counted.fetch_add(u64::from(call == "get"), Ordering::SeqCst);
        Box::pin(std::future::ready(Trick::Pass))
    });
    let stores = tricky(&inner, tricks);
    let location = Location::parse("s3://b/k").unwrap();
    let file = put(&stores, &location, content.to_vec()).await;
    calls.store(0, Ordering::SeqCst);
    let (runtime, start) = (Handle::current(), part.start);
    let bytes = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&bytes);
    let counted: ReadCounter = Arc::new(move |bytes| {
        count.fetch_add(bytes, Ordering::SeqCst);
    });
    let read = tokio::task::spawn_blocking(move || {
        let reader = ObjectReader::open_part(&runtime, &stores, &file, &location, part, counted);
        let mut found = Vec::new();
        reader.take(take as u64).read_to_end(&mut found).unwrap();
        found
    });
    let found = read.await.unwrap();
    let start = usize::try_from(start).unwrap();
    let expected = &content[start..(start + take).min(content.len())];
    let (calls, bytes) = (calls.load(Ordering::SeqCst), bytes.load(Ordering::SeqCst));
    (calls, bytes, found == expected)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_costs_its_own_ranges_and_a_few_bytes_unless_reading_continues() {
    const MIB: u64 = 1 << 20;
    let content = pattern(40 << 20);
    for (part, take, calls, bytes) in [
        (0..MIB, MIB, 1, MIB + BYTES_BEHIND),
        (
            MIB - 1..17 * MIB,
            16 * MIB + 1,
            2,
            16 * MIB + 1 + BYTES_BEHIND,
        ),
        (
            8 * MIB..16 * MIB,
            8 * MIB + BYTES_BEHIND,
            1,
            8 * MIB + BYTES_BEHIND,
        ),
        (
            8 * MIB..16 * MIB,
            8 * MIB + BYTES_BEHIND + 1,
            2,
            8 * MIB + 2 * BYTES_BEHIND,
        ),
        (MIB..2 * MIB, 39 * MIB, 12, 39 * MIB),
        (39 * MIB..40 * MIB, MIB, 1, MIB),
        (40 * MIB..40 * MIB, 7, 0, 0),
        (0..40 * MIB, 40 * MIB, 5, 40 * MIB),
    ] {
        let take = usize::try_from(take).unwrap();
        let found = read_part(&content, part.clone(), take).await;
        assert_eq!(found, (calls, bytes, true), "{part:?} {take}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_became_shorter_has_changed_whatever_its_name() {
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
    // These errors do not mean that the object changed.
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

const MODIFIED: &str = "Mon, 01 Jan 2024 00:00:00 GMT";

/// Reads an object of 20 bytes, listed with this tag, from a store with these answers.
async fn read_from(
    listed: Option<&str>,
    answer: impl Fn(&crate::storage::fake_http::Request) -> Reply + Send + Sync + 'static,
) -> Result<Vec<u8>, String> {
    let server = FakeHttp::start(answer).await;
    let location = Location::parse("s3://b/k").unwrap();
    let file = InputFile {
        uri: location.to_string(),
        size: 20,
        etag: listed.map(str::to_owned),
    };
    let read = read(&server.stores(), &file, &location);
    read.map(|(bytes, _)| bytes)
        .map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_another_version_or_size_is_not_accepted_for_the_listed_object() {
    const CHANGED: &str = "reading s3://b/k: changed while reading: it is not the object that was listed when the job was planned";
    for (listed, tag, range, expected) in [
        (Some("\"a\""), Some("\"a\""), "bytes 0-19/20", Ok(())),
        (Some("\"a\""), Some("W/\"a\""), "bytes 0-19/20", Ok(())),
        (Some("W/\"a\""), Some("\"a\""), "bytes 0-19/20", Ok(())),
        (Some("\"a\""), None, "bytes 0-19/20", Ok(())),
        (None, Some("\"a\""), "bytes 0-19/20", Ok(())),
        (None, None, "bytes 0-19/20", Ok(())),
        (Some("\"a\""), Some("\"b\""), "bytes 0-19/20", Err(CHANGED)),
        (
            Some("\"a\""),
            Some("W/\"b\""),
            "bytes 0-19/20",
            Err(CHANGED),
        ),
        (Some("\"a\""), Some("\"a\""), "bytes 0-19/21", Err(CHANGED)),
        (Some("\"a\""), Some("\"a\""), "bytes 0-27/28", Err(CHANGED)),
        (Some("\"a\""), Some("\"a\""), "bytes 5-24/99", Err(CHANGED)),
        (
            Some("\"a\""),
            Some("\"a\""),
            "bytes 0-9/20",
            Err("reading s3://b/k: the store answered bytes 0 to 9 of 20 instead of bytes 0 to 19"),
        ),
        (
            Some("\"a\""),
            Some("\"a\""),
            "bytes 0-19/*",
            Err(
                "reading s3://b/k: the store answered a part of the object and does not say which (Content-Range \"bytes 0-19/*\"); it must be like \"bytes 0-7/8\"",
            ),
        ),
    ] {
        let answered = read_from(listed, move |request| {
            let status = if request.method == "GET" { 206 } else { 200 };
            let reply = Reply::new(status, pattern(20)).with("last-modified", MODIFIED);
            let reply = match tag {
                Some(tag) => reply.with("etag", tag),
                None => reply,
            };
            match request.range() {
                Some(_) => reply.with("content-range", range),
                None => reply,
            }
        })
        .await;
        let expected = expected.map(|()| pattern(20)).map_err(str::to_owned);
        assert_eq!(answered, expected, "{listed:?} {tag:?} {range}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_of_an_object_without_a_tag_are_of_one_version() {
    let size = 20_u64 << 20;
    for (later, is_same) in [(MODIFIED, true), ("Mon, 01 Jan 2024 00:00:01 GMT", false)] {
        let server = FakeHttp::start(move |request| {
            let (start, end) = request.range().unwrap();
            let time = if start == 0 { MODIFIED } else { later };
            Reply::new(206, vec![1; end - start])
                .with("last-modified", time)
                .with("content-range", format!("bytes {start}-{}/{size}", end - 1))
        })
        .await;
        let location = Location::parse("s3://b/k").unwrap();
        let file = InputFile {
            uri: location.to_string(),
            size,
            etag: None,
        };
        let read = read(&server.stores(), &file, &location);
        match read {
            Ok((bytes, _)) => assert!(is_same && bytes.len() as u64 == size),
            Err(error) => {
                assert!(!is_same, "{error}");
                assert!(error.to_string().contains("changed while reading"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_sends_whole_objects_for_ranges_is_read_up_to_a_limit() {
    let content = pattern(20 << 20);
    let body = Bytes::from(content.clone());
    let server = FakeHttp::start(move |request| {
        let reply = Reply::new(200, body.clone())
            .with("etag", "\"a\"")
            .with("last-modified", MODIFIED);
        // This is only for the last check, with an object of 70 MiB. It is too large, and the
        // server need not send it to show that.
        if request.method == "HEAD" {
            reply.with("content-length", (70 << 20).to_string())
        } else {
            reply
        }
    })
    .await;
    for uri in ["s3://b/k", "gs://b/k", "az://b/k"] {
        let location = Location::parse(uri).unwrap();
        let file = InputFile {
            uri: location.to_string(),
            size: content.len() as u64,
            etag: Some("\"a\"".to_owned()),
        };
        let (bytes, counted) = read(&server.stores(), &file, &location).unwrap();
        assert!(bytes == content && counted == content.len() as u64, "{uri}");
        let longer = InputFile {
            size: 21 << 20,
            ..file
        };
        let error = read(&server.stores(), &longer, &location).unwrap_err();
        assert!(
            error.to_string().contains("changed while reading"),
            "{error}"
        );
        let far = 65 << 20;
        let error = fetch_range(&server.stores(), &location, 70 << 20, far..far + 5).await;
        let error = error.unwrap_err().to_string();
        assert!(
            error.ends_with(
                "the store sends the whole object instead of bytes 68157440 to 68157444; of a store that cannot send ranges, only the first 64 MiB of an object can be read"
            ),
            "{error}"
        );
    }
}
