//! Lists pages through the clients of `object_store`, which know address, credentials and options.
//! It intercepts each answer before the clients convert its keys to paths. This module sends no
//! requests itself.
//!
//! The connector is between client and network. It passes every call through, except those that
//! carry a [`Tap`].

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::{ClientOptions, Extensions};

use crate::storage::page_xml;
use crate::storage::pages::{Ask, ListPages, Page};

/// How often a page is requested if it cannot be parsed. A proxy may have answered instead of the
/// store, or may have truncated the page.
const MAX_READS: u32 = 5;

/// The pause before such a page is requested again. Each further pause is twice as long. All pauses
/// together take 1.5 s.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The answer that replaces an intercepted page: an empty listing without a next page.
const EMPTY_S3: &[u8] = b"<ListBucketResult></ListBucketResult>";
const EMPTY_AZURE: &[u8] = b"<EnumerationResults><Blobs></Blobs></EnumerationResults>";

/// Receives the answer to one call. The call carries this value.
#[derive(Clone)]
struct Tap {
    /// The credentials with which a call to S3 is signed again.
    credentials: Option<AwsCredentialProvider>,
    empty: &'static [u8],
    answer: Arc<Mutex<Option<Result<Page, String>>>>,
}

/// A client that lists page by page.
pub(super) struct TappedStore<S> {
    store: Arc<S>,
    credentials: Option<AwsCredentialProvider>,
    empty: &'static [u8],
    only_folders: bool,
}

impl TappedStore<AmazonS3> {
    /// Makes the client for S3. It requests keys in encoded form. Directory buckets of S3 support
    /// only prefixes that are folders.
    pub(super) fn s3(store: Arc<AmazonS3>, bucket: &str) -> Self {
        Self {
            credentials: Some(Arc::clone(store.credentials())),
            store,
            empty: EMPTY_S3,
            only_folders: bucket.ends_with("--x-s3"),
        }
    }
}

impl<S> TappedStore<S> {
    /// Makes the client for Google Cloud Storage. Its listings have the format of S3.
    pub(super) fn google(store: Arc<S>) -> Self {
        Self::with(store, EMPTY_S3)
    }

    /// Makes the client for Azure, which encodes the names that need it.
    pub(super) fn azure(store: Arc<S>) -> Self {
        Self::with(store, EMPTY_AZURE)
    }

    fn with(store: Arc<S>, empty: &'static [u8]) -> Self {
        Self {
            store,
            credentials: None,
            empty,
            only_folders: false,
        }
    }
}

#[async_trait::async_trait]
impl<S: PaginatedListStore> ListPages for TappedStore<S> {
    async fn page(&self, ask: &Ask) -> object_store::Result<Page> {
        let prefix = ask.prefix.as_str();
        let folder = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        let asked = if self.only_folders { folder } else { prefix };
        let asked = Some(asked).filter(|asked| !asked.is_empty());
        let mut problem = String::new();
        for read in 0..MAX_READS {
            if read > 0 {
                tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(read - 1)).await;
            }
            let answer = Arc::default();
            let mut extensions = Extensions::new();
            extensions.insert(Tap {
                credentials: self.credentials.clone(),
                empty: self.empty,
                answer: Arc::clone(&answer),
            });
            let options = PaginatedListOptions {
                // Only the first page has a start key. For other pages, the token says where they
                // start.
                offset: ask.after.clone().filter(|_| ask.token.is_none()),
                delimiter: ask.one_folder.then_some("/".into()),
                page_token: ask.token.clone(),
                extensions,
                ..PaginatedListOptions::default()
            };
            self.store.list_paginated(asked, options).await?;
            let seen = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
            match seen {
                Some(Ok(mut page)) => {
                    page.entries
                        .retain(|entry| entry.key.starts_with(prefix.as_bytes()));
                    return Ok(page);
                }
                Some(Err(said)) => problem = said,
                None => "the store's listing was not seen".clone_into(&mut problem),
            }
        }
        let problem = format!("{problem}; this page was asked for {MAX_READS} times");
        Err(object_store::Error::Generic {
            store: "listing",
            source: problem.into(),
        })
    }
}

/// A connector that makes HTTP clients whose listings can be intercepted. It wraps the clients that
/// another connector makes.
#[derive(Debug)]
pub(super) struct TapConnector<C>(pub(super) C);

impl<C: HttpConnector> HttpConnector for TapConnector<C> {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let network = self.0.connect(options)?;
        Ok(HttpClient::new(TapService { network }))
    }
}

struct TapService {
    network: HttpClient,
}

impl fmt::Debug for TapService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TapService")
    }
}

#[async_trait::async_trait]
impl HttpService for TapService {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Some(tap) = request.extensions().get::<Tap>().cloned() else {
            return self.network.execute(request).await;
        };
        if let Some(credentials) = &tap.credentials {
            ask_for_encoded_keys(&mut request, credentials).await?;
        }
        let response = self.network.execute(request).await?;
        if !response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let page = page_xml::parse(&body.bytes().await?);
        *tap.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(page);
        let nothing = Bytes::from_static(tap.empty);
        Ok(HttpResponse::from_parts(parts, nothing.into()))
    }
}

/// Adds `encoding-type=url`, which makes S3 encode every key so that XML can contain it, and signs
/// the call again in the same way.
async fn ask_for_encoded_keys(
    request: &mut HttpRequest,
    credentials: &AwsCredentialProvider,
) -> Result<(), HttpError> {
    let scope = scope_of(request);
    if scope.as_ref().is_some_and(|(_, service)| service != "s3") {
        // A call to a directory bucket is not changed. It is signed with the credentials of a
        // session, and only the client has these credentials.
        return Ok(());
    }
    let uri = format!("{}&encoding-type=url", request.uri());
    let uri = uri.parse();
    *request.uri_mut() = uri.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
    let Some((region, service)) = scope else {
        return Ok(());
    };
    let failed = |error| HttpError::new::<object_store::Error>(HttpErrorKind::Unknown, error);
    let credential = credentials.get_credential().await.map_err(failed)?;
    let digest = request.headers().get("x-amz-content-sha256");
    let is_signed = digest.is_none_or(|digest| digest != "UNSIGNED-PAYLOAD");
    AwsAuthorizer::new(&credential, &service, &region)
        .with_sign_payload(is_signed)
        .try_authorize(request, None)
        .map_err(failed)
}

/// Returns the region and the service of a signed call. `None` if the call is not signed.
fn scope_of(request: &HttpRequest) -> Option<(String, String)> {
    let signed = request.headers().get("authorization")?.to_str().ok()?;
    let (_, scope) = signed.split_once("Credential=")?;
    // The access key may contain slashes, so the scope is read from its end.
    let mut parts = scope.split_once(',')?.0.rsplit('/').skip(1);
    let service = parts.next()?.to_owned();
    Some((parts.next()?.to_owned(), service))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use axum::Router;
    use http::{HeaderMap, Uri};

    use super::*;
    use crate::storage::{Stores, list_inputs};

    /// A server that answers with prepared statuses and bodies in order, and keeps the received
    /// requests.
    struct FakeServer {
        address: String,
        asked: Arc<Mutex<Vec<(String, HeaderMap)>>>,
    }

    async fn serve(answers: Vec<(u16, String)>) -> FakeServer {
        crate::install_crypto_provider();
        let asked: Arc<Mutex<Vec<(String, HeaderMap)>>> = Arc::default();
        let (seen, answers) = (
            Arc::clone(&asked),
            Arc::new(Mutex::new(VecDeque::from(answers))),
        );
        let answer = move |uri: Uri, headers: HeaderMap| {
            seen.lock().unwrap().push((uri.to_string(), headers));
            let next = answers.lock().unwrap().pop_front();
            let (status, body) = next.unwrap_or((500, "no answer is left".to_owned()));
            let status = http::StatusCode::from_u16(status).unwrap();
            std::future::ready((status, body))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        FakeServer { address, asked }
    }

    impl FakeServer {
        fn stores(&self, options: &[(&str, &str)]) -> Stores {
            let mut all = BTreeMap::from([
                ("aws_endpoint".to_owned(), self.address.clone()),
                ("google_base_url".to_owned(), self.address.clone()),
                (
                    "azure_storage_endpoint".to_owned(),
                    format!("{}/acc", self.address),
                ),
            ]);
            let defaults = [
                ("aws_allow_http", "true"),
                ("google_allow_http", "true"),
                ("azure_allow_http", "true"),
                ("aws_access_key_id", "id/with/slashes"),
                ("aws_secret_access_key", "secret"),
                ("aws_region", "eu-north-1"),
                ("azure_storage_account_name", "acc"),
                ("azure_storage_account_key", "a2V5"),
                (
                    "google_service_account_key",
                    r#"{"private_key":"","private_key_id":"","client_email":"","disable_oauth":true}"#,
                ),
            ];
            for (key, value) in defaults.iter().chain(options) {
                all.insert((*key).to_owned(), (*value).to_owned());
            }
            Stores::of_options(all)
        }

        fn asked(&self) -> Vec<String> {
            let asked = self.asked.lock().unwrap();
            asked.iter().map(|(uri, _)| uri.clone()).collect()
        }

        fn header(&self, call: usize, name: &str) -> Option<String> {
            let asked = self.asked.lock().unwrap();
            let value = asked[call].1.get(name)?;
            Some(value.to_str().unwrap().to_owned())
        }
    }

    fn s3_page(keys: &[&str], next: Option<&str>) -> (u16, String) {
        let mut objects = String::new();
        for key in keys {
            objects.push_str("<Contents><Key>");
            objects.push_str(key);
            objects.push_str("</Key><Size>1</Size><ETag>&quot;e&quot;</ETag></Contents>");
        }
        let next = next.map_or("<IsTruncated>false</IsTruncated>".to_owned(), |token| {
            format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>")
        });
        (
            200,
            format!(
                "<ListBucketResult><EncodingType>url</EncodingType>{next}{objects}</ListBucketResult>"
            ),
        )
    }

    async fn uris(stores: &Stores, pattern: &str) -> Vec<String> {
        let found = list_inputs(stores, &[pattern.to_owned()], true).await;
        found.unwrap().into_iter().map(|file| file.uri).collect()
    }

    #[tokio::test]
    async fn one_odd_key_of_s3_does_not_break_the_listing_and_a_page_fails_alone() {
        let server = serve(vec![
            s3_page(
                &["logs/2024-a+b", "logs/2024-%2F%2Fx", "logs/2024-%FF%0A"],
                Some("t/1="),
            ),
            (500, "<Error><Code>InternalError</Code></Error>".to_owned()),
            (503, "<Error><Code>SlowDown</Code></Error>".to_owned()),
            s3_page(&["logs/2024-%2Bc", "logs/2024-_"], None),
        ])
        .await;
        let stores = server.stores(&[]);
        let found = uris(&stores, "s3://b/logs/2024-*[b-c_]").await;
        assert_eq!(
            found,
            [
                "s3://b/logs/2024-+c",
                "s3://b/logs/2024-_",
                "s3://b/logs/2024-a b"
            ]
        );
        let asked = server.asked();
        assert_eq!(
            asked[0],
            "/b?list-type=2&prefix=logs%2F2024-&encoding-type=url"
        );
        let second =
            "/b?continuation-token=t%2F1%3D&list-type=2&prefix=logs%2F2024-&encoding-type=url";
        assert_eq!(asked[1..], [second, second, second]);
        let signed = server.header(0, "authorization").unwrap();
        assert!(
            signed.starts_with("AWS4-HMAC-SHA256 Credential=id/with/slashes/"),
            "{signed}"
        );
        assert!(
            signed.contains("/eu-north-1/s3/aws4_request, SignedHeaders=host;"),
            "{signed}"
        );
    }

    #[tokio::test]
    async fn a_listing_of_s3_uses_the_options_of_the_client() {
        let empty = || s3_page(&[], None);
        let server = serve(vec![empty(), empty(), empty()]).await;
        let anonymous = server.stores(&[("aws_skip_signature", "true")]);
        assert!(uris(&anonymous, "s3://b/*").await.is_empty());
        assert_eq!(server.header(0, "authorization"), None);
        assert_eq!(server.asked()[0], "/b?list-type=2&encoding-type=url");
        let options = [
            ("aws_session_token", "token"),
            ("aws_unsigned_payload", "true"),
            ("aws_request_payer", "true"),
            ("aws_virtual_hosted_style_request", "true"),
        ];
        assert!(
            uris(&server.stores(&options), "s3://b/x/*")
                .await
                .is_empty()
        );
        assert_eq!(
            server.header(1, "x-amz-security-token").as_deref(),
            Some("token")
        );
        assert_eq!(
            server.header(1, "x-amz-content-sha256").as_deref(),
            Some("UNSIGNED-PAYLOAD")
        );
        assert_eq!(
            server.header(1, "x-amz-request-payer").as_deref(),
            Some("requester")
        );
        let signed = server.header(1, "authorization").unwrap();
        assert!(signed.contains("x-amz-request-payer"), "{signed}");
        assert_eq!(
            server.asked()[1],
            "/?list-type=2&prefix=x%2F&encoding-type=url"
        );
    }

    #[tokio::test]
    async fn a_page_that_is_not_understood_is_requested_again_but_not_forever() {
        let nonsense = || (200, "<html>Sign in</html>".to_owned());
        let server = serve(vec![nonsense(), nonsense(), s3_page(&["x"], None)]).await;
        assert_eq!(uris(&server.stores(&[]), "s3://b/*").await, ["s3://b/x"]);
        let cut_off = || {
            let (status, page) = s3_page(&["x"], None);
            (status, page[..page.len() / 2].to_owned())
        };
        let empty = || (200, String::new());
        let server = serve(vec![cut_off(), empty(), s3_page(&["x"], None)]).await;
        assert_eq!(uris(&server.stores(&[]), "s3://b/*").await, ["s3://b/x"]);
        let server = serve((0..MAX_READS).map(|_| nonsense()).collect()).await;
        let error = list_inputs(&server.stores(&[]), &["s3://b/*".to_owned()], true).await;
        let error = error.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("listing s3://b/: the store's listing is not understood: it is <html>; this page was asked for 5 times"),
            "{error}"
        );
        assert!(!error.is_transient());
        assert_eq!(server.asked().len(), 5);
    }

    #[tokio::test]
    async fn an_error_in_a_page_with_status_200_has_the_class_of_its_code() {
        let said = |code: &str| {
            (
                200,
                format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>"),
            )
        };
        let page = || s3_page(&["x"], None);
        let server = serve(vec![said("InternalError"), said("SlowDown"), page()]).await;
        assert_eq!(uris(&server.stores(&[]), "s3://b/*").await, ["s3://b/x"]);
        for (code, expected) in [
            ("AccessDenied", "access denied: 403 AccessDenied"),
            ("NoSuchBucket", "bucket \"b\" does not exist (NoSuchBucket)"),
        ] {
            let server = serve((0..9).map(|_| said(code)).collect()).await;
            let error = list_inputs(&server.stores(&[]), &["s3://b/*".to_owned()], true).await;
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(server.asked().len(), 1);
        }
    }

    #[tokio::test]
    async fn odd_keys_of_google_and_azure_do_not_break_the_listing() {
        let google = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>in//x</Key><Size>1</Size></Contents><Contents><Key>in/a+b%20&#1;</Key><Size>1</Size></Contents><Contents><Key>in/y</Key><Size>1</Size></Contents></ListBucketResult>";
        let azure = "<EnumerationResults><Blobs><Blob><Name>in//x</Name><Properties><Content-Length>1</Content-Length><Etag>1</Etag></Properties></Blob><Blob><Name>in/y</Name><Properties><Content-Length>1</Content-Length><Etag>2</Etag></Properties></Blob></Blobs><NextMarker>m/2</NextMarker></EnumerationResults>";
        let last = "<EnumerationResults><Blobs></Blobs><NextMarker/></EnumerationResults>";
        let server = serve(vec![
            (200, google.to_owned()),
            (200, azure.to_owned()),
            (200, last.to_owned()),
        ])
        .await;
        let stores = server.stores(&[]);
        assert_eq!(uris(&stores, "gs://bb/in/[xy]").await, ["gs://bb/in/y"]);
        assert_eq!(uris(&stores, "az://cc/in/[xy]").await, ["az://cc/in/y"]);
        assert_eq!(
            server.asked(),
            [
                "/bb?list-type=2&prefix=in%2F",
                "/acc/cc?restype=container&comp=list&prefix=in%2F",
                "/acc/cc?restype=container&comp=list&prefix=in%2F&marker=m%2F2"
            ]
        );
        assert!(
            server
                .header(1, "authorization")
                .unwrap()
                .starts_with("SharedKey acc:")
        );
    }

    #[tokio::test]
    async fn a_missing_key_is_distinguished_from_a_missing_bucket() {
        let missing = "<Error><Code>NoSuchBucket</Code></Error>";
        let server = serve(vec![
            (404, String::new()),
            s3_page(&[], None),
            // The missing key is not a folder either.
            s3_page(&[], None),
            (404, String::new()),
            (404, missing.to_owned()),
        ])
        .await;
        let stores = server.stores(&[]);
        assert!(uris(&stores, "s3://b/x").await.is_empty());
        let error = list_inputs(&stores, &["s3://b/x".to_owned()], true).await;
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("bucket \"b\" does not exist")
        );
        assert_eq!(
            server.asked()[1..3],
            [
                "/b?list-type=2&prefix=x&encoding-type=url",
                "/b?list-type=2&prefix=x%2F&encoding-type=url"
            ]
        );
    }

    #[tokio::test]
    async fn folders_are_requested_with_a_slash_and_a_start_key() {
        let listed = "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken><Contents><Key>j%2F%2Fx%0A</Key><Size>1</Size></Contents><CommonPrefixes><Prefix>j%2Fb+c%2F</Prefix></CommonPrefixes><CommonPrefixes><Prefix>j%2F%FF%2F</Prefix></CommonPrefixes></ListBucketResult>";
        let azure = "<EnumerationResults><Blobs><BlobPrefix><Name>j/d/</Name></BlobPrefix></Blobs><NextMarker/></EnumerationResults>";
        let server = serve(vec![
            (200, listed.to_owned()),
            s3_page(&[], None),
            (200, azure.to_owned()),
        ])
        .await;
        let stores = server.stores(&[]);
        for (uri, expected) in [("s3://b/j", "b c"), ("az://cc/j", "d")] {
            let place = crate::storage::Location::parse(uri).unwrap();
            let found = crate::storage::subfolders(&stores, &place, "a", 9, |_| true).await;
            assert_eq!(found.unwrap(), [expected]);
        }
        assert_eq!(
            server.asked(),
            [
                "/b?delimiter=%2F&list-type=2&prefix=j%2F&start-after=j%2Fa0&encoding-type=url",
                "/b?continuation-token=t&delimiter=%2F&list-type=2&prefix=j%2F&encoding-type=url",
                "/acc/cc?restype=container&comp=list&prefix=j%2F&delimiter=%2F"
            ]
        );
    }
}
