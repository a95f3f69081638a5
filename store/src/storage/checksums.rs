//! Compares sent data with the checksums that a store reports. These are MD5, CRC-32C or CRC-64,
//! depending on the store. This module sends and repeats nothing.
//!
//! On S3 a part's etag is the MD5 of its bytes, unless the part is encrypted with a customer's key.
//! A finished upload's etag is the MD5 of the MD5s of its parts. Google reports the CRC-32C and the
//! MD5 of each object. Azure reports the MD5 or the CRC-64 of each block.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body::Body as HttpBody;
use md5::{Digest, Md5};
use object_store::client::HttpRequest;

use crate::storage::Scheme;

/// How many hexadecimal digits an MD5 has.
const MD5_DIGITS: usize = 32;

/// The reflected polynomial of Azure's CRC-64, which `NVMe` uses too.
const CRC64_POLYNOMIAL: u64 = 0x9A6C_9329_AC4B_C9B5;

/// How many bytes one step of a CRC-64 processes.
const CRC64_STEP: usize = 8;

const CRC64_TABLES: [[u64; 256]; CRC64_STEP] = crc64_tables();

/// The error if the store has other data than was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store answered that the data it received has the {kind} {got}, but the data that was sent has {sent}"
)]
pub(crate) struct WrongChecksum {
    kind: &'static str,
    got: String,
    sent: String,
}

/// What a store reports about a whole object, in addition to size and etag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReportedSums {
    /// The CRC-32C of all bytes.
    pub(super) crc32c: Option<u32>,
    /// Whether the etag is not an MD5 of the bytes, because the bytes are encrypted.
    pub(super) etag_is_opaque: bool,
}

/// Bytes that are uploaded with one request.
pub(super) struct Sent {
    chunks: Vec<Bytes>,
    md5: [u8; 16],
    scheme: Scheme,
}

impl Sent {
    /// Returns the data that a request uploads. This is a part, a block, or a whole object that is
    /// put without a condition. For a conditional put there is no result, because its caller
    /// compares the object.
    pub(super) fn of(scheme: Scheme, request: &HttpRequest) -> Option<Self> {
        const CONDITIONS: [&str; 4] = [
            "if-match",
            "if-none-match",
            "x-goog-if-generation-match",
            "x-amz-copy-source",
        ];
        let headers = request.headers();
        let is_plain = !CONDITIONS.iter().any(|name| headers.contains_key(*name));
        let query = request.uri().query().unwrap_or_default();
        let has = |name: &str| {
            let mut pairs = query.split('&');
            pairs.any(|pair| pair.split('=').next() == Some(name))
        };
        let is_upload = match scheme {
            Scheme::S3 | Scheme::Gs => query.is_empty() || has("partNumber"),
            Scheme::Az => headers.contains_key("x-ms-blob-type") || has("blockid"),
            Scheme::File => false,
        };
        if *request.method() != Method::PUT || !is_plain || !is_upload {
            return None;
        }
        let chunks = chunks_of(request)?;
        let md5 = chunks.iter().fold(Md5::new(), Md5::chain_update);
        Some(Self {
            md5: md5.finalize().into(),
            chunks,
            scheme,
        })
    }

    /// Returns the value of `Content-MD5`. `None` if the request must not have this header. A
    /// request that is signed already must not get it, because the signature would have to cover
    /// it. One-zone buckets of S3 do not support it.
    pub(super) fn header(&self, request: &HttpRequest) -> Option<String> {
        let headers = request.headers();
        let authorization = headers
            .get("authorization")
            .map(http::HeaderValue::as_bytes);
        let is_covered = self.scheme == Scheme::Az
            && authorization.is_some_and(|value| value.starts_with(b"SharedKey"));
        let may_have = !is_covered && !headers.contains_key("x-amz-s3session-token");
        may_have.then(|| base64(&self.md5))
    }

    /// Compares the data with the checksums in the store's answer.
    pub(super) fn check(&self, answer: &HeaderMap) -> Result<(), WrongChecksum> {
        let differs = |kind, got: &str, sent: String| {
            Err(WrongChecksum {
                kind,
                got: got.to_owned(),
                sent,
            })
        };
        let md5 = base64(&self.md5);
        match google_hash(answer, "md5") {
            Some(got) if got != md5 => return differs("MD5", got, md5),
            Some(_) | None => {}
        }
        if let Some(got) = google_hash(answer, "crc32c") {
            let sent = base64(&self.crc32c().to_be_bytes());
            if got != sent {
                return differs("CRC-32C", got, sent);
            }
        }
        if let Some(got) = text(answer, "content-md5")
            && got != md5
        {
            return differs("MD5", got, md5);
        }
        if let Some(got) = text(answer, "x-ms-content-crc64") {
            let sent = base64(&self.crc64().to_le_bytes());
            if got != sent {
                return differs("CRC-64", got, sent);
            }
        }
        let is_md5 = self.scheme != Scheme::Az && !is_opaque(answer);
        if let Some(got) = text(answer, "etag").and_then(md5_of_etag)
            && is_md5
            && got != self.md5
        {
            return differs("MD5", &hex(&got), hex(&self.md5));
        }
        Ok(())
    }

    fn crc32c(&self) -> u32 {
        self.chunks
            .iter()
            .fold(0, |crc, chunk| crc32c::crc32c_append(crc, chunk))
    }

    fn crc64(&self) -> u64 {
        !self
            .chunks
            .iter()
            .fold(!0, |crc, chunk| crc64_append(crc, chunk))
    }
}

impl ReportedSums {
    /// Reads the answer to a request for an object's metadata.
    pub(super) fn of(answer: &HeaderMap) -> Self {
        Self {
            crc32c: google_hash(answer, "crc32c").and_then(crc32c_of_base64),
            etag_is_opaque: is_opaque(answer),
        }
    }
}

/// Returns the etag, such as `"…-3"`, that an upload of these parts has if the names of the parts
/// are the MD5s of their bytes.
pub(super) fn etag_of_parts(parts: &[String]) -> Option<String> {
    let mut md5 = Md5::new();
    for part in parts {
        // If a part has a separate checksum, the name of the part is an XML element that contains
        // the etag.
        let etag = match part.split_once("<ETag>") {
            Some((_, rest)) => rest.split_once("</ETag>")?.0.replace("&quot;", "\""),
            None => part.clone(),
        };
        md5.update(md5_of_etag(&etag)?);
    }
    (!parts.is_empty()).then(|| format!("\"{}-{}\"", hex(&md5.finalize()), parts.len()))
}

/// Whether an etag has the form of one that is made from the etags of this number of parts, such as
/// `"<32 digits>-3"`.
pub(super) fn is_of_parts(etag: &str, parts: usize) -> bool {
    let bare = etag.trim_matches('"');
    let Some((digits, count)) = bare.split_once('-') else {
        return false;
    };
    count == parts.to_string() && bytes_of_hex(digits).is_some()
}

/// Whether the object is encrypted with a customer's key or with a key of the key service. Then the
/// etag is not an MD5 of the object's bytes.
fn is_opaque(answer: &HeaderMap) -> bool {
    let encryption = text(answer, "x-amz-server-side-encryption").unwrap_or_default();
    encryption.starts_with("aws:")
        || answer.contains_key("x-amz-server-side-encryption-customer-algorithm")
        || answer.contains_key("x-goog-encryption-algorithm")
        || answer.contains_key("x-goog-encryption-kms-key-name")
}

fn text<'a>(answer: &'a HeaderMap, name: &str) -> Option<&'a str> {
    answer.get(name)?.to_str().ok()
}

/// Returns one value of `x-goog-hash: crc32c=…,md5=…`. The two values may be in one header or in
/// two.
fn google_hash<'a>(answer: &'a HeaderMap, kind: &str) -> Option<&'a str> {
    let values = answer.get_all("x-goog-hash").iter();
    let mut hashes = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    hashes.find_map(|hash| hash.trim().strip_prefix(kind)?.strip_prefix('='))
}

fn md5_of_etag(etag: &str) -> Option<[u8; 16]> {
    bytes_of_hex(etag.trim_matches('"'))
}

fn bytes_of_hex(digits: &str) -> Option<[u8; 16]> {
    if digits.len() != MD5_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn crc32c_of_base64(text: &str) -> Option<u32> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// Returns the body of a request in pieces. The body is in memory, so nothing is copied.
fn chunks_of(request: &HttpRequest) -> Option<Vec<Bytes>> {
    let mut body = request.body().clone();
    let mut context = Context::from_waker(Waker::noop());
    let mut chunks = Vec::new();
    loop {
        match Pin::new(&mut body).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => chunks.extend(frame.into_data().ok()),
            Poll::Ready(None) => return Some(chunks),
            Poll::Ready(Some(Err(_))) | Poll::Pending => return None,
        }
    }
}

const fn crc64_tables() -> [[u64; 256]; CRC64_STEP] {
    let mut tables = [[0; 256]; CRC64_STEP];
    let mut value = 0;
    while value < 256 {
        let mut crc = value as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (CRC64_POLYNOMIAL * (crc & 1));
            bit += 1;
        }
        tables[0][value] = crc;
        value += 1;
    }
    let mut step = 1;
    while step < CRC64_STEP {
        let mut value = 0;
        while value < 256 {
            let before = tables[step - 1][value];
            tables[step][value] = (before >> 8) ^ tables[0][(before & 0xFF) as usize];
            value += 1;
        }
        step += 1;
    }
    tables
}

fn crc64_append(mut crc: u64, bytes: &[u8]) -> u64 {
    let (steps, rest) = bytes.as_chunks::<CRC64_STEP>();
    for step in steps {
        let word = (crc ^ u64::from_le_bytes(*step)).to_le_bytes();
        crc = 0;
        for (table, byte) in CRC64_TABLES.iter().rev().zip(word) {
            crc ^= table[usize::from(byte)];
        }
    }
    for byte in rest {
        crc = (crc >> 8) ^ CRC64_TABLES[0][usize::from(crc.to_le_bytes()[0] ^ byte)];
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(headers: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        pairs.collect()
    }

    fn sent(scheme: Scheme, bytes: &[u8]) -> Sent {
        Sent {
            chunks: bytes.chunks(5).map(Bytes::copy_from_slice).collect(),
            md5: Md5::digest(bytes).into(),
            scheme,
        }
    }

    #[test]
    fn the_checksums_are_those_of_the_published_examples() {
        let nine = sent(Scheme::S3, b"123456789");
        assert_eq!(nine.crc64(), 0xAE8B_1486_0A79_9888);
        assert_eq!(nine.crc32c(), 0xE306_9283);
        assert_eq!(hex(&nine.md5), "25f9e794323b453885f5181f1b624d0b");
        let long: Vec<u8> = (0..100).collect();
        let slowly = long
            .iter()
            .fold(!0_u64, |crc, byte| crc64_append(crc, &[*byte]));
        assert_eq!(sent(Scheme::Az, &long).crc64(), !slowly);
        assert_eq!(!crc64_append(!0, &long), !slowly);
    }

    #[test]
    fn the_checksums_that_a_store_reports_are_compared() {
        let of = |text: &[u8]| base64(&Md5::digest(text));
        let (md5, other) = (of(b"some"), of(b"other"));
        let tag = |text: &[u8]| format!("\"{}\"", hex(&Md5::digest(text)));
        let crc = |text: &[u8]| format!("crc32c={}", base64(&crc32c::crc32c(text).to_be_bytes()));
        let crc64 = |text: &[u8]| base64(&(!crc64_append(!0, text)).to_le_bytes());
        let google = format!("{},md5={md5}", crc(b"some"));
        for (scheme, headers, is_right) in [
            (Scheme::S3, vec![("etag", tag(b"some"))], true),
            (Scheme::S3, vec![("etag", tag(b"other"))], false),
            (Scheme::S3, vec![("etag", "\"no md5\"".to_owned())], true),
            (Scheme::S3, vec![], true),
            (
                Scheme::S3,
                vec![
                    ("etag", tag(b"other")),
                    ("x-amz-server-side-encryption", "AES256".to_owned()),
                ],
                false,
            ),
            (
                Scheme::S3,
                vec![
                    ("etag", tag(b"other")),
                    ("x-amz-server-side-encryption", "aws:kms".to_owned()),
                ],
                true,
            ),
            (Scheme::Gs, vec![("x-goog-hash", google.clone())], true),
            (Scheme::Gs, vec![("x-goog-hash", crc(b"some"))], true),
            (Scheme::Gs, vec![("x-goog-hash", crc(b"other"))], false),
            (
                Scheme::Gs,
                vec![("x-goog-hash", format!("md5={other}"))],
                false,
            ),
            (
                Scheme::Az,
                vec![("content-md5", md5), ("etag", tag(b"other"))],
                true,
            ),
            (Scheme::Az, vec![("content-md5", other)], false),
            (
                Scheme::Az,
                vec![("x-ms-content-crc64", crc64(b"some"))],
                true,
            ),
            (
                Scheme::Az,
                vec![("x-ms-content-crc64", crc64(b"other"))],
                false,
            ),
        ] {
            let borrowed: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let checked = sent(scheme, b"some").check(&answer(&borrowed));
            assert_eq!(
                checked.is_ok(),
                is_right,
                "{scheme:?} {headers:?}: {checked:?}"
            );
        }
        let reported = ReportedSums::of(&answer(&[("x-goog-hash", &google)]));
        assert_eq!(reported.crc32c, Some(crc32c::crc32c(b"some")));
    }

    #[test]
    fn the_etag_of_an_upload_follows_from_its_parts() {
        let first = "\"25f9e794323b453885f5181f1b624d0b\"".to_owned();
        let second = "<PartMetadata><ETag>&quot;25f9e794323b453885f5181f1b624d0b&quot;</ETag></PartMetadata>".to_owned();
        let bytes = bytes_of_hex("25f9e794323b453885f5181f1b624d0b").unwrap();
        let expected = format!("\"{}-2\"", hex(&Md5::digest([bytes, bytes].concat())));
        let found = etag_of_parts(&[first.clone(), second]).unwrap();
        assert_eq!(found, expected);
        assert!(is_of_parts(&found, 2) && !is_of_parts(&found, 3));
        assert!(!is_of_parts(&first, 1) && !is_of_parts("\"x-1\"", 1));
        assert_eq!(etag_of_parts(&[first, "block id".to_owned()]), None);
        assert_eq!(etag_of_parts(&[]), None);
    }
}
