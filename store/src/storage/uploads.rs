//! Lists uncompleted multipart uploads, and aborts one. Only S3 can list them. The client has no
//! such call, so it only signs the request, and this module sends it. This module does not decide
//! to which job an upload belongs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions, Signer};

use crate::storage::pages::Ask;
use crate::storage::{Cause, Location, StorageError, Stores, persist};

/// How long a signed request is valid. The clocks of this machine and of the store may differ by
/// some minutes.
const SIGNATURE_VALIDITY: Duration = Duration::from_mins(5);

/// How long one page may take.
const PAGE_TIMEOUT: Duration = Duration::from_mins(1);

/// How many pages of 1000 uploads are read at most. A bucket with more uploads needs a lifecycle
/// rule.
const MAX_PAGES: usize = 100;

/// An uncompleted upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedUpload {
    /// The key of the object that the upload would create.
    pub key: String,
    /// The store's id of the upload.
    pub upload: String,
    /// When the upload began, by the store's clock.
    pub initiated: SystemTime,
}

/// Lists the uncompleted uploads below a folder. `None` if the store cannot list uploads.
pub async fn unfinished_uploads(
    stores: &Stores,
    folder: &Location,
) -> Result<Option<Vec<UnfinishedUpload>>, StorageError> {
    match UploadLister::of(stores, folder)? {
        Some(lister) => lister.list(&Ask::below(folder).prefix).await.map(Some),
        None => Ok(None),
    }
}

/// Lists the uncompleted uploads of one store, with one HTTP client.
pub(crate) struct UploadLister<'a> {
    stores: &'a Stores,
    place: &'a Location,
    signer: Arc<dyn Signer>,
    client: reqwest::Client,
}

impl<'a> UploadLister<'a> {
    /// Makes a lister for the store of `place`. `None` if this store cannot list uploads.
    pub(crate) fn of(
        stores: &'a Stores,
        place: &'a Location,
    ) -> Result<Option<Self>, StorageError> {
        let Some(signer) = stores.open(place)?.signer else {
            return Ok(None);
        };
        let client = reqwest::Client::builder().timeout(PAGE_TIMEOUT).build();
        let client = client.map_err(|error| {
            StorageError::from_store("listing uploads of", place, &generic(error))
        })?;
        Ok(Some(Self {
            stores,
            place,
            signer,
            client,
        }))
    }

    /// Lists the uncompleted uploads whose keys begin with `prefix`. An upload whose key is not
    /// UTF-8 is skipped, because no client of this program can have begun it.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<UnfinishedUpload>, StorageError> {
        let mut uploads = Vec::new();
        let mut next = Next::default();
        for _ in 0..MAX_PAGES {
            let page = persist(self.stores, "listing uploads of", self.place, || async {
                let query = [
                    ("uploads", ""),
                    ("encoding-type", "url"),
                    ("prefix", prefix),
                    ("key-marker", &next.key),
                    ("upload-id-marker", &next.upload),
                ];
                let query = query
                    .into_iter()
                    .filter(|(name, value)| *name == "uploads" || !value.is_empty());
                let options = SignedUrlOptions::new().with_query(query);
                let url = self
                    .signer
                    .signed_url_opts(Method::GET, &Path::default(), SIGNATURE_VALIDITY, &options)
                    .await?;
                let answer = self.client.get(url).send().await.map_err(generic)?;
                let status = answer.status();
                let text = answer.text().await.map_err(generic)?;
                if !status.is_success() {
                    return Err(generic(format!(
                        "Server returned non-2xx status code: {status}: {text}"
                    )));
                }
                read_page(&text).map_err(generic)
            })
            .await?;
            uploads.extend(page.uploads);
            match page.next {
                Some(after) => next = after,
                None => break,
            }
        }
        Ok(uploads)
    }
}

/// Aborts an upload. Succeeds if the upload no longer exists.
pub async fn abort_upload(
    stores: &Stores,
    place: &Location,
    upload: &UnfinishedUpload,
) -> Result<(), StorageError> {
    let path = Path::parse(&upload.key).map_err(|error| {
        StorageError::from_store("aborting an upload below", place, &generic(error))
    })?;
    let location = place.with_path(path);
    let Some(store) = stores.open(&location)?.multipart else {
        return Ok(());
    };
    let abort = || store.abort_multipart(location.path(), &upload.upload);
    match persist(stores, "aborting the upload of", &location, abort).await {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.cause, Cause::NoSuchUpload | Cause::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

fn generic(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
    object_store::Error::Generic {
        store: "S3",
        source: error.into(),
    }
}

/// The position after which the next page begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Next {
    key: String,
    upload: String,
}

#[derive(Debug, PartialEq, Eq)]
struct UploadsPage {
    uploads: Vec<UnfinishedUpload>,
    next: Option<Next>,
}

/// Parses a page. Keys are percent-encoded, so no value contains an angle bracket.
fn read_page(text: &str) -> Result<UploadsPage, String> {
    if !text.contains("<ListMultipartUploadsResult") {
        return Err("the answer is not a list of uploads".to_owned());
    }
    let is_encoded = text_of(text, "EncodingType").is_some_and(|encoding| encoding == "url");
    let decode = |key: &str| {
        if is_encoded {
            from_address(key)
        } else {
            Some(from_xml(key))
        }
    };
    let mut uploads = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("<Upload>") {
        let (upload, after) = after
            .split_once("</Upload>")
            .ok_or("an upload is cut off")?;
        rest = after;
        let field = |name: &str| text_of(upload, name).ok_or(format!("an upload has no {name}"));
        let initiated: jiff::Timestamp = field("Initiated")?
            .parse()
            .map_err(|error| format!("an upload's time cannot be read: {error}"))?;
        let (key, upload) = (field("Key")?, from_xml(field("UploadId")?));
        let Some(key) = decode(key) else {
            continue;
        };
        uploads.push(UnfinishedUpload {
            key,
            upload,
            initiated: initiated.into(),
        });
    }
    let is_truncated = text_of(text, "IsTruncated").is_some_and(|truncated| truncated == "true");
    if !is_truncated {
        return Ok(UploadsPage {
            uploads,
            next: None,
        });
    }
    let marker = |name| text_of(text, name).unwrap_or_default();
    // If the next key cannot be decoded, the list ends here. The rest is found after these uploads
    // were removed.
    let next = decode(marker("NextKeyMarker")).map(|key| Next {
        key,
        upload: from_xml(marker("NextUploadIdMarker")),
    });
    if next == Some(Next::default()) {
        return Err(
            "the list continues, but the answer does not say after which upload".to_owned(),
        );
    }
    Ok(UploadsPage { uploads, next })
}

fn text_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(&format!("<{name}>"))?;
    Some(after.split_once(&format!("</{name}>"))?.0)
}

fn from_xml(text: &str) -> String {
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&#34;", "\""),
        ("&#39;", "'"),
    ];
    let plain = entities
        .iter()
        .fold(text.to_owned(), |text, (entity, plain)| {
            text.replace(entity, plain)
        });
    plain.replace("&amp;", "&")
}

/// Decodes a key that is percent-encoded as in the query of a URL.
fn from_address(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_uploads_is_read_with_odd_keys_and_the_start_of_the_next_page() {
        let text = "<?xml version=\"1.0\"?><ListMultipartUploadsResult xmlns=\"x\"><Bucket>b</Bucket>\
            <NextKeyMarker>a%2Fb</NextKeyMarker><NextUploadIdMarker>2</NextUploadIdMarker><EncodingType>url</EncodingType>\
            <IsTruncated>true</IsTruncated>\
            <Upload><Key>a%2F%3Cx%3E+%C3%A9%2B</Key><UploadId>1</UploadId><Initiated>1970-01-01T00:01:40.000Z</Initiated></Upload>\
            <Upload><Key>a/b</Key><UploadId>2</UploadId><Initiated>1970-01-01T00:00:07Z</Initiated></Upload></ListMultipartUploadsResult>";
        let upload = |key: &str, upload: &str, seconds| UnfinishedUpload {
            key: key.to_owned(),
            upload: upload.to_owned(),
            initiated: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        };
        let next = Next {
            key: "a/b".to_owned(),
            upload: "2".to_owned(),
        };
        let expected = UploadsPage {
            uploads: vec![upload("a/<x> é+", "1", 100), upload("a/b", "2", 7)],
            next: Some(next),
        };
        assert_eq!(read_page(text), Ok(expected));
        let plain = text
            .replace("<EncodingType>url</EncodingType>", "")
            .replace("true", "false");
        let page = read_page(&plain.replace("a%2F%3Cx%3E+%C3%A9%2B", "a&amp;lt;+%")).unwrap();
        assert_eq!(page.uploads[0].key, "a&lt;+%");
        assert_eq!(page.next, None);
    }

    #[test]
    fn an_answer_that_is_not_a_list_of_uploads_is_refused() {
        let list = |inner: &str| {
            format!("<ListMultipartUploadsResult>{inner}</ListMultipartUploadsResult>")
        };
        for text in [
            "",
            "<html>a proxy</html>",
            &list("<Upload><Key>a</Key>"),
            &list("<Upload><Key>a</Key><UploadId>1</UploadId></Upload>"),
            &list("<Upload><Key>a</Key><UploadId>1</UploadId><Initiated>now</Initiated></Upload>"),
            &list("<IsTruncated>true</IsTruncated>"),
        ] {
            assert!(read_page(text).is_err(), "{text}");
        }
        let odd = "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextKeyMarker>%FF</NextKeyMarker><Upload><Key>%FF</Key><UploadId>1</UploadId><Initiated>1970-01-01T00:00:07Z</Initiated></Upload>";
        let page = read_page(&list(odd)).unwrap();
        assert_eq!((page.uploads.len(), page.next), (0, None));
    }

    #[tokio::test]
    async fn a_store_without_such_a_list_says_so() {
        for uri in ["s3://b/x", "file:///tmp"] {
            let place = Location::parse(uri).unwrap();
            let listed = unfinished_uploads(&Stores::in_memory(), &place).await;
            assert_eq!(listed.unwrap(), None);
        }
    }
}
