//! Parses the listings of S3, Google Cloud Storage and Azure. It keeps keys byte by byte. This
//! module sends no request.
//!
//! The client of `object_store` converts keys to paths, and refuses a whole page if it has a key
//! that cannot be converted. Here every key is kept.

use std::time::SystemTime;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::storage::pages::{Entry, Page};

/// How deep the elements of a page may nest. `EnumerationResults/Blobs/Blob/Properties/Etag` has
/// five levels.
const MAX_DEPTH: usize = 32;

/// Parses a page. The error says why the page is not understood.
pub(super) fn parse(body: &[u8]) -> Result<Page, String> {
    let mut reader = Reader::from_reader(body);
    reader.config_mut().expand_empty_elements = true;
    let mut answer = Answer::default();
    loop {
        match reader.read_event().map_err(|e| not_understood(&e))? {
            Event::Start(start) => answer.open(&start)?,
            Event::End(_) => answer.close()?,
            Event::Text(text) => answer.text.extend_from_slice(&text),
            Event::CData(text) => answer.text.extend_from_slice(&text),
            Event::GeneralRef(reference) => answer.refer(&reference)?,
            Event::Eof => return answer.page(),
            Event::Empty(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_) => {}
        }
    }
}

fn not_understood(problem: &dyn std::fmt::Display) -> String {
    format!("the store's listing is not understood: {problem}")
}

/// An object while it is parsed.
#[derive(Default)]
struct Object {
    key: Option<Vec<u8>>,
    /// Whether the object's name is encoded. Azure reports this for each name.
    is_encoded: bool,
    size: Option<u64>,
    etag: Option<String>,
    modified: Option<SystemTime>,
    is_folder: bool,
}

#[derive(Default)]
struct Answer {
    /// The names of the elements that are open.
    open: Vec<Vec<u8>>,
    text: Vec<u8>,
    was_root_seen: bool,
    object: Object,
    objects: Vec<Object>,
    /// The folders of the page. Only their keys are read.
    folders: Vec<Object>,
    /// Whether keys are encoded. S3 reports this once for all keys.
    is_encoded: bool,
    is_truncated: bool,
    next: Option<String>,
}

impl Answer {
    fn open(&mut self, start: &BytesStart<'_>) -> Result<(), String> {
        let name = start.local_name().as_ref().to_vec();
        if self.open.is_empty() {
            let is_listing = name == b"ListBucketResult" || name == b"EnumerationResults";
            if !is_listing || self.was_root_seen {
                let name = String::from_utf8_lossy(&name);
                return Err(not_understood(&format!("it is <{name}>")));
            }
            self.was_root_seen = true;
        }
        if matches!(
            name.as_slice(),
            b"Contents" | b"Blob" | b"CommonPrefixes" | b"BlobPrefix"
        ) {
            self.object = Object::default();
        }
        if name == b"Name" {
            let encoded = start.try_get_attribute("Encoded").ok().flatten();
            self.object.is_encoded = encoded.is_some_and(|value| value.value.as_ref() == b"true");
        }
        self.open.push(name);
        if self.open.len() > MAX_DEPTH {
            return Err(not_understood(&"it is nested too deep"));
        }
        self.text.clear();
        Ok(())
    }

    fn refer(&mut self, name: &[u8]) -> Result<(), String> {
        let character = match name {
            b"amp" => Some('&'),
            b"lt" => Some('<'),
            b"gt" => Some('>'),
            b"quot" => Some('"'),
            b"apos" => Some('\''),
            _ => numbered(name),
        };
        let character = character.ok_or_else(|| {
            not_understood(&format!("it has &{};", String::from_utf8_lossy(name)))
        })?;
        let mut bytes = [0; 4];
        self.text
            .extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(name) = self.open.pop() else {
            return Err(not_understood(&"it closes what is not open"));
        };
        let above: Vec<&[u8]> = self.open.iter().skip(1).map(Vec::as_slice).collect();
        let text = std::mem::take(&mut self.text);
        let as_text = || String::from_utf8_lossy(&text).into_owned();
        match (above.as_slice(), name.as_slice()) {
            ([], b"EncodingType") => self.is_encoded = text == b"url",
            ([], b"IsTruncated") => self.is_truncated = text == b"true",
            ([], b"NextContinuationToken" | b"NextMarker") if !text.is_empty() => {
                self.next = Some(as_text());
            }
            ([b"Contents"], b"Key")
            | ([b"CommonPrefixes"], b"Prefix")
            | ([b"Blobs", b"Blob" | b"BlobPrefix"], b"Name") => {
                self.object.key = Some(text);
            }
            ([b"Contents"], b"Size") | ([b"Blobs", b"Blob", b"Properties"], b"Content-Length") => {
                let size = as_text().trim().parse();
                self.object.size =
                    Some(size.map_err(|_| not_understood(&"a size is not a number"))?);
            }
            ([b"Contents"], b"ETag") | ([b"Blobs", b"Blob", b"Properties"], b"Etag") => {
                self.object.etag = Some(as_text());
            }
            ([b"Contents"], b"LastModified")
            | ([b"Blobs", b"Blob", b"Properties"], b"Last-Modified") => {
                self.object.modified = time(&as_text());
            }
            ([b"Blobs", b"Blob", b"Properties"], b"ResourceType") => {
                self.object.is_folder |= text == b"directory";
            }
            ([b"Blobs", b"Blob", b"Metadata"], b"hdi_isfolder") => {
                self.object.is_folder |= text.eq_ignore_ascii_case(b"true");
            }
            ([], b"Contents") | ([b"Blobs"], b"Blob") => {
                self.objects.push(std::mem::take(&mut self.object));
            }
            ([], b"CommonPrefixes") | ([b"Blobs"], b"BlobPrefix") => {
                self.folders.push(std::mem::take(&mut self.object));
            }
            _ => {}
        }
        Ok(())
    }

    fn page(self) -> Result<Page, String> {
        if !self.was_root_seen || !self.open.is_empty() {
            return Err(not_understood(&"it ends too early"));
        }
        if self.is_truncated && self.next.is_none() {
            return Err(not_understood(
                &"it is cut off and does not say where the next page begins (no NextContinuationToken)",
            ));
        }
        let are_encoded = self.is_encoded;
        let folders = self.folders.into_iter();
        let folders = folders.map(|mut folder| folder.take_key(are_encoded));
        let entries = self.objects.into_iter().map(|mut object| {
            Ok(Entry {
                key: object.take_key(are_encoded)?,
                size: object
                    .size
                    .ok_or_else(|| not_understood(&"an object has no size"))?,
                etag: object.etag,
                modified: object.modified,
                is_folder: object.is_folder,
            })
        });
        Ok(Page {
            entries: entries.collect::<Result<_, String>>()?,
            folders: folders.collect::<Result<_, String>>()?,
            next: self.next,
        })
    }
}

impl Object {
    /// Returns the key byte by byte.
    fn take_key(&mut self, are_encoded: bool) -> Result<Vec<u8>, String> {
        let key = self.key.take();
        let key = key.ok_or_else(|| not_understood(&"an object has no key"))?;
        Ok(if are_encoded {
            decoded(&key, true)
        } else if self.is_encoded {
            decoded(&key, false)
        } else {
            key
        })
    }
}

/// Parses a time in the format of S3 and Google, or of Azure. `None` for any other text.
fn time(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.into());
    }
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text);
    time.ok().map(SystemTime::from)
}

/// Returns the character of a reference such as `#10` or `#xA`. Control characters are accepted
/// too. XML does not allow them, but stores send them.
fn numbered(name: &[u8]) -> Option<char> {
    let digits = std::str::from_utf8(name).ok()?.strip_prefix('#')?;
    let number = match digits.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    char::from_u32(number.ok()?)
}

/// Decodes percent signs with two digits into bytes. If `plus_is_space`, decodes `+` into a space,
/// as S3 writes it.
fn decoded(key: &[u8], plus_is_space: bool) -> Vec<u8> {
    let hex = |digit: &u8| {
        char::from(*digit)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                if let (Some(high), Some(low)) = (hex(high), hex(low)) {
                    bytes.push(high * 16 + low);
                    rest = after;
                } else {
                    bytes.push(b'%');
                }
            }
            (b'+', _) if plus_is_space => bytes.push(b' '),
            _ => bytes.push(*first),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(body: &str) -> Vec<Vec<u8>> {
        let page = parse(body.as_bytes()).unwrap();
        page.entries.into_iter().map(|entry| entry.key).collect()
    }

    #[test]
    fn a_listing_of_s3_keeps_every_key_byte_by_byte() {
        let listed = |key: &str| {
            format!(
                "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated><Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified><ETag>&quot;e&quot;</ETag><Size>3</Size><Owner><ID>x</ID></Owner></Contents></ListBucketResult>"
            )
        };
        for (key, bytes) in [
            ("a%2F%2Fx", b"a//x".as_slice()),
            ("a+b%2Bc", b"a b+c"),
            ("%FF%0A%00", b"\xff\n\0"),
            ("100%", b"100%"),
            ("%zz", b"%zz"),
            ("%C3%A9&amp;", "é&".as_bytes()),
        ] {
            assert_eq!(keys(&listed(key)), [bytes], "{key}");
        }
        let page = parse(listed("k").as_bytes()).unwrap();
        assert_eq!(page.entries[0].size, 3);
        assert_eq!(page.entries[0].etag.as_deref(), Some("\"e\""));
        assert_eq!(page.entries[0].modified, Some(at(1_767_225_600)));
        assert_eq!(page.next, None);
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
    }

    #[test]
    fn folders_and_times_of_every_store_are_read() {
        let s3 = "<ListBucketResult><EncodingType>url</EncodingType><Prefix>in%2F</Prefix><CommonPrefixes><Prefix>in%2Fa+b%2F</Prefix></CommonPrefixes><CommonPrefixes><Prefix>in%2F%FF%2F</Prefix></CommonPrefixes></ListBucketResult>";
        let azure = "<EnumerationResults><Prefix>in/</Prefix><Blobs><BlobPrefix><Name>in/a+b/</Name></BlobPrefix><Blob><Name>in/x</Name><Properties><Last-Modified>Fri, 27 Nov 2026 07:24:03 GMT</Last-Modified><Content-Length>1</Content-Length></Properties></Blob><BlobPrefix><Name Encoded=\"true\">in%2F%EF%BF%BE/</Name></BlobPrefix></Blobs><NextMarker/></EnumerationResults>";
        let page = parse(s3.as_bytes()).unwrap();
        assert_eq!(page.folders, [b"in/a b/".to_vec(), b"in/\xff/".to_vec()]);
        let page = parse(azure.as_bytes()).unwrap();
        assert_eq!(page.folders, [b"in/a+b/".to_vec(), "in/\u{fffe}/".into()]);
        assert_eq!(page.entries.len(), 1);
        assert_eq!(page.entries[0].modified, Some(at(1_795_764_243)));
        assert_eq!(time("2026-11-27T07:24:03.000Z"), Some(at(1_795_764_243)));
        assert_eq!(time("yesterday"), None);
    }

    #[test]
    fn keys_that_are_not_encoded_are_used_unchanged() {
        let body = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t/&amp;=</NextContinuationToken><Contents><Key>a+b%20&#x1;&#10;&lt;</Key><Size>0</Size></Contents><Contents><Key><![CDATA[<&>]]></Key><Size>1</Size></Contents></ListBucketResult>";
        assert_eq!(keys(body), [b"a+b%20\x01\n<".to_vec(), b"<&>".to_vec()]);
        let page = parse(body.as_bytes()).unwrap();
        assert_eq!(page.next.as_deref(), Some("t/&="));
        let mut raw = b"<ListBucketResult><Contents><Key>\xff\r</Key><Size>0</Size></Contents></ListBucketResult>".to_vec();
        assert_eq!(parse(&raw).unwrap().entries[0].key, b"\xff\r");
        raw.truncate(raw.len() - 3);
        assert!(parse(&raw).is_err());
    }

    #[test]
    fn a_listing_of_azure_shows_names_and_folders() {
        let body = "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"https://a/\" ContainerName=\"c\"><Prefix>in/</Prefix><Blobs><Blob><Name>in/a+b</Name><Properties><Content-Length>5</Content-Length><Etag>0x8D</Etag><ResourceType>file</ResourceType></Properties></Blob><Blob><Name>in/d</Name><Properties><Content-Length>0</Content-Length><ResourceType>directory</ResourceType></Properties><Metadata/></Blob><Blob><Name>in/h</Name><Properties><Content-Length>0</Content-Length></Properties><Metadata><hdi_isfolder>true</hdi_isfolder></Metadata></Blob><Blob><Name Encoded=\"true\">in%2Fx%EF%BF%BE+</Name><Properties><Content-Length>1</Content-Length></Properties></Blob></Blobs><NextMarker>m</NextMarker></EnumerationResults>";
        let page = parse(body.as_bytes()).unwrap();
        let seen: Vec<_> = page
            .entries
            .iter()
            .map(|entry| (entry.name().into_owned(), entry.size, entry.is_folder))
            .collect();
        assert_eq!(
            seen,
            [
                ("in/a+b".to_owned(), 5, false),
                ("in/d".to_owned(), 0, true),
                ("in/h".to_owned(), 0, true),
                ("in/x\u{fffe}+".to_owned(), 1, false)
            ]
        );
        assert_eq!(page.entries[0].etag.as_deref(), Some("0x8D"));
        assert_eq!(page.next.as_deref(), Some("m"));
        let last = "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>";
        assert_eq!(parse(last.as_bytes()).unwrap(), Page::default());
    }

    #[test]
    fn an_incomplete_listing_is_refused() {
        for (body, problem) in [
            ("", "it ends too early"),
            ("<ListBucketResult><Contents>", "it ends too early"),
            ("<html><body>Sign in</body></html>", "it is <html>"),
            ("<Error><Code>X</Code></Error>", "it is <Error>"),
            (
                "<ListBucketResult></ListBucketResult><ListBucketResult></ListBucketResult>",
                "it is <ListBucketResult>",
            ),
            (
                "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
                "does not say where the next page begins",
            ),
            (
                "<ListBucketResult><Contents><Key>k</Key></Contents></ListBucketResult>",
                "an object has no size",
            ),
            (
                "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
                "an object has no key",
            ),
            (
                "<ListBucketResult><Contents><Key>k</Key><Size>-1</Size></Contents></ListBucketResult>",
                "a size is not a number",
            ),
            (
                "<ListBucketResult><Contents><Key>&what;</Key><Size>1</Size></Contents></ListBucketResult>",
                "it has &what;",
            ),
        ] {
            let said = parse(body.as_bytes()).unwrap_err();
            assert!(said.contains(problem), "{body}: {said}");
        }
    }
}
