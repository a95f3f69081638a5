//! Tests with a store that damages the data that it receives. They use the real client and a real
//! socket.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest, Md5};
use tokio::runtime::Handle;
use zephyr_engine::coordinator::record::{FinalPlace, OutputFile};

use crate::finalize::{Finalized, finalize};
use crate::storage::fake_http::{FakeHttp, Reply, Request};
use crate::storage::stores::Times;
use crate::storage::{
    Cause, Location, PartUpload, StorageError, Stores, UploadPlace, Uploaded, fetch,
};

/// How the store damages received data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// A part arrives damaged this number of times.
    OnTheWay(usize),
    /// One byte of the finished object is changed.
    Flipped,
    Shortened,
    Reordered,
    /// No `ETag` is an MD5, because a key of the key service encrypts the object. The answer says
    /// so.
    Encrypted,
    /// Like `Encrypted`, and the object is shortened.
    EncryptedAndShortened,
    /// The `ETag` of each part is its MD5. The `ETag` of the object looks like an MD5 of MD5s of
    /// parts, but is something else.
    OwnEtag,
    /// Like `OwnEtag`, and one byte is flipped.
    OwnEtagAndFlipped,
}

struct Server {
    fault: Fault,
    parts: BTreeMap<usize, Bytes>,
    object: Option<(Bytes, String)>,
    damaged: usize,
}

fn md5_hex(bytes: &[u8]) -> String {
    let digest: [u8; 16] = Md5::digest(bytes).into();
    format!("{:032x}", u128::from_be_bytes(digest))
}

fn flipped(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes.into()
}

impl Server {
    fn answer(&mut self, request: &Request) -> Reply {
        let encrypted = matches!(self.fault, Fault::Encrypted | Fault::EncryptedAndShortened);
        let said = if encrypted { "aws:kms" } else { "AES256" };
        let reply = match (request.method.as_str(), request.parameter("partNumber")) {
            ("POST", _) if request.parameter("uploads").is_some() => Reply::new(
                200,
                "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId></InitiateMultipartUploadResult>",
            ),
            ("PUT", Some(number)) => self.take_part(number.parse().unwrap(), request, encrypted),
            ("POST", _) => self.complete(),
            ("HEAD" | "GET", _) => self.read(request),
            _ => Reply::error(400, "InvalidRequest"),
        };
        reply.with("x-amz-server-side-encryption", said)
    }

    fn take_part(&mut self, number: usize, request: &Request, encrypted: bool) -> Reply {
        let expected = request.headers.get("content-md5").unwrap();
        assert_eq!(expected.len(), 24, "every part is sent with its MD5");
        let mut bytes = request.body.clone();
        if let Fault::OnTheWay(times) = self.fault
            && number == 2
            && self.damaged < times
        {
            self.damaged += 1;
            bytes = flipped(&bytes);
        }
        let etag = if encrypted {
            md5_hex(b"secret")
        } else {
            md5_hex(&bytes)
        };
        self.parts.insert(number, bytes);
        Reply::new(200, "").with("etag", format!("\"{etag}\""))
    }

    fn complete(&mut self) -> Reply {
        let mut parts: Vec<Bytes> = std::mem::take(&mut self.parts).into_values().collect();
        match self.fault {
            Fault::Flipped | Fault::OwnEtagAndFlipped => parts[1] = flipped(&parts[1]),
            Fault::Shortened | Fault::EncryptedAndShortened => drop(parts.pop()),
            Fault::Reordered => parts.swap(0, 1),
            Fault::None | Fault::OnTheWay(_) | Fault::Encrypted | Fault::OwnEtag => {}
        }
        let md5s: Vec<u8> = parts.iter().flat_map(Md5::digest).collect();
        let of_parts = match self.fault {
            Fault::OwnEtag | Fault::OwnEtagAndFlipped | Fault::Encrypted => md5_hex(b"own"),
            Fault::None
            | Fault::OnTheWay(_)
            | Fault::Flipped
            | Fault::Shortened
            | Fault::Reordered
            | Fault::EncryptedAndShortened => md5_hex(&md5s),
        };
        let etag = format!("\"{of_parts}-{}\"", parts.len());
        let answer = format!(
            "<CompleteMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
        );
        self.object = Some((parts.concat().into(), etag));
        Reply::new(200, answer)
    }

    fn read(&self, request: &Request) -> Reply {
        let Some((bytes, etag)) = &self.object else {
            return Reply::error(404, "NoSuchKey");
        };
        let (status, start, end) = match request.range() {
            Some((start, end)) => (206, start, end.min(bytes.len())),
            None => (200, 0, bytes.len()),
        };
        Reply::new(status, bytes.slice(start..end))
            .with("etag", etag)
            .with("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT")
            .with(
                "content-range",
                format!("bytes {start}-{}/{}", end - 1, bytes.len()),
            )
    }
}

async fn damaging(fault: Fault) -> (FakeHttp, Stores) {
    let server = Mutex::new(Server {
        fault,
        parts: BTreeMap::new(),
        object: None,
        damaged: 0,
    });
    let server = FakeHttp::start(move |request| server.lock().unwrap().answer(request)).await;
    let stores = server.stores().with_times(Times {
        client_retries: 2,
        ..Times::default()
    });
    (server, stores.with_retry_time(Duration::from_secs(5)))
}

/// Writes a file as a task does.
async fn write(
    stores: &Stores,
    uri: &str,
    content: Arc<Vec<u8>>,
) -> Result<OutputFile, StorageError> {
    let (runtime, stores) = (Handle::current(), stores.clone());
    let location = Location::parse(uri).unwrap();
    let (sender, written) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let write = || -> Result<OutputFile, StorageError> {
            let mut upload = PartUpload::begin(&runtime, &stores, &location, "w")?;
            if let Err(error) = upload.write_all(&content) {
                return Err(*error.into_inner().unwrap().downcast().unwrap());
            }
            let Uploaded {
                bytes,
                crc32c,
                place,
            } = upload.finish()?;
            let UploadPlace::Multipart { upload, parts } = place else {
                panic!("{place:?}")
            };
            let uri = location.to_string();
            let place = FinalPlace::Multipart { uri, upload, parts }.into();
            Ok(OutputFile {
                rows: 1,
                bytes,
                crc32c,
                place,
            })
        };
        drop(sender.send(write()));
    });
    written.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_the_store_damaged_never_becomes_final() {
    let content: Arc<Vec<u8>> = Arc::new((0..20_000_000_u32).map(|n| (n % 251) as u8).collect());
    let uri = "s3://b/k";
    for (fault, stands) in [
        (Fault::None, Some(true)),
        // The part is sent again at once.
        (Fault::OnTheWay(1), Some(true)),
        (Fault::OnTheWay(usize::MAX), None),
        (Fault::Flipped, Some(false)),
        (Fault::Shortened, Some(false)),
        (Fault::Reordered, Some(false)),
        (Fault::Encrypted, Some(true)),
        (Fault::EncryptedAndShortened, Some(false)),
        (Fault::OwnEtag, Some(true)),
        (Fault::OwnEtagAndFlipped, Some(false)),
    ] {
        let (_server, stores) = damaging(fault).await;
        match (write(&stores, uri, Arc::clone(&content)).await, stands) {
            (Ok(file), Some(stands)) => {
                let finalized = finalize(&stores, &file).await.unwrap();
                assert_eq!(finalized == Finalized::Stands, stands, "{fault:?}");
                let found = fetch(&stores, &Location::parse(uri).unwrap())
                    .await
                    .unwrap();
                assert_eq!(found == **content, stands, "{fault:?}");
            }
            (Err(error), None) => {
                assert!(matches!(error.cause, Cause::Damaged(_)), "{error}");
                let text = error.to_string();
                let expected = "writing s3://b/k: damaged: the store answered that the data it received has the MD5 ";
                assert!(text.starts_with(expected), "{text}");
                assert!(!error.is_transient());
            }
            (Ok(_), None) => panic!("{fault:?} was not noticed"),
            (Err(error), Some(_)) => panic!("{fault:?}: {error}"),
        }
    }
}
