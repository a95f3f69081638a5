//! Makes one client for each bucket, when it is first used, with finite timeouts.
//!
//! Options come from the frozen job, which contains the installation's settings, and from the
//! environment, which contains the job's own Secret. If both have the same setting, the
//! installation's setting is used. The environment adds other settings, such as credentials.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::signer::Signer;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::chance::Chance;
use crate::storage::client::StoreConnector;
use crate::storage::error::own_words;
use crate::storage::local_files::LocalFiles;
use crate::storage::pages::{ListPages, WholeListing};
use crate::storage::tap::{TapConnector, TappedStore};
use crate::storage::{Cause, Location, Scheme, StorageError};

/// The timeouts of one call, and how often the client itself repeats the call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// How long a connection may take. A store in the same cluster or cloud answers the handshake
    /// in milliseconds.
    pub(crate) connect: Duration,
    /// How long one request may take. No request is larger than a part (8 MiB), so a connection
    /// slower than 140 kB/s counts as dead.
    pub(crate) request: Duration,
    /// How long the store may send nothing in the middle of an answer.
    pub(crate) silence: Duration,
    /// How often the client itself retries a request. This is only a few times. Afterwards,
    /// `retry::persist` continues with new signatures and credentials.
    pub(crate) client_retries: usize,
    /// How long the client itself retries a request.
    pub(crate) client_retry_time: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_mins(1),
            silence: Duration::from_secs(20),
            client_retries: 2,
            client_retry_time: Duration::from_secs(20),
        }
    }
}

/// How long a call is tried in total, by default.
const RETRY_TIME: Duration = Duration::from_mins(2);

/// The pause before the first retry. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The first pause for a store in memory. It can be short, because no other process uses that
/// store.
const FIRST_PAUSE_IN_MEMORY: Duration = Duration::from_millis(1);

/// The client of one bucket, or of the local disk.
#[derive(Clone)]
pub struct Store {
    /// The client for everything except multipart uploads.
    pub objects: Arc<dyn ObjectStore>,
    /// The same client, but every write that it reports as done survives a loss of power.
    pub durable: Arc<dyn ObjectStore>,
    /// The client for multipart uploads that another process completes. A local disk has none.
    pub multipart: Option<Arc<dyn MultipartStore>>,
    /// Signs requests that the client does not support, such as the list of uncompleted uploads.
    /// Only S3 has a signer.
    pub signer: Option<Arc<dyn Signer>>,
    /// Lists pages, also with keys that no path can represent.
    pub pages: Arc<dyn ListPages>,
}

/// The clients of a process. Cheap to clone.
#[derive(Clone)]
pub struct Stores {
    options: Arc<BTreeMap<String, String>>,
    clients: Arc<Mutex<BTreeMap<String, Store>>>,
    retry_time: Duration,
    times: Times,
    in_memory: bool,
    reads_environment: bool,
    chance: Chance,
}

impl Stores {
    /// Makes clients with these options. The keys are those of `object_store`, such as
    /// `aws_endpoint`. The environment (`AWS_ACCESS_KEY_ID`, `GOOGLE_…`, `AZURE_…`) is read too,
    /// and adds settings that the options do not contain.
    pub fn new(options: BTreeMap<String, String>) -> Self {
        Self {
            options: Arc::new(options),
            clients: Arc::default(),
            retry_time: RETRY_TIME,
            times: Times::default(),
            in_memory: false,
            reads_environment: true,
            chance: Chance::system(),
        }
    }

    /// Makes clients for tests. Every bucket is in memory and empty at first. Local files are read
    /// and written as usual.
    pub fn in_memory() -> Self {
        Self {
            in_memory: true,
            ..Self::new(BTreeMap::new())
        }
    }

    /// Makes clients that use only these options, whatever is in the environment of the test.
    #[cfg(test)]
    pub(crate) fn of_options(options: BTreeMap<String, String>) -> Self {
        Self {
            reads_environment: false,
            ..Self::new(options)
        }
    }

    /// Returns these clients with another retry time: how long a failed call is tried again.
    #[must_use]
    pub fn with_retry_time(self, retry_time: Duration) -> Self {
        Self { retry_time, ..self }
    }

    /// Returns these clients with other timeouts for each call.
    #[cfg(test)]
    pub(crate) fn with_times(self, times: Times) -> Self {
        Self { times, ..self }
    }

    /// Returns these clients with random numbers from this source.
    #[must_use]
    pub fn with_chance(self, chance: Chance) -> Self {
        Self { chance, ..self }
    }

    /// Returns these clients, with this client for one bucket, such as `s3://bucket`.
    #[must_use]
    pub fn with_store(self, store_key: &str, store: Store) -> Self {
        self.lock().insert(store_key.to_owned(), store);
        self
    }

    /// Returns how long a failed call is tried again.
    pub fn retry_time(&self) -> Duration {
        self.retry_time
    }

    /// Returns the source of random numbers.
    pub fn chance(&self) -> &Chance {
        &self.chance
    }

    pub(crate) fn first_pause(&self) -> Duration {
        if self.in_memory {
            FIRST_PAUSE_IN_MEMORY
        } else {
            FIRST_PAUSE
        }
    }

    /// Returns the client for an address.
    pub fn open(&self, location: &Location) -> Result<Store, StorageError> {
        let key = location.store_key();
        if let Some(store) = self.lock().get(&key) {
            return Ok(store.clone());
        }
        let store = self.build(location).map_err(|detail| {
            StorageError::new("opening", location, Cause::Configuration(detail))
        })?;
        self.lock().insert(key, store.clone());
        Ok(store)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Store>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn build(&self, location: &Location) -> Result<Store, String> {
        self.check_options()?;
        let bucket = location.bucket();
        match location.scheme() {
            Scheme::File => {
                let objects = Arc::new(LocalFiles(LocalFileSystem::new()));
                let durable = Arc::new(LocalFiles(LocalFileSystem::new().with_fsync(true)));
                Ok(Store::new(objects, durable, None))
            }
            Scheme::S3 | Scheme::Gs | Scheme::Az if self.in_memory => {
                Ok(Store::remote(Arc::new(InMemory::new())))
            }
            Scheme::S3 => {
                let new = AmazonS3Builder::new()
                    .with_client_options(client_options(self.times))
                    .with_http_connector(TapConnector(StoreConnector(location.scheme())))
                    .with_retry(retry_config(self.times));
                let builder = self
                    .settings("AWS_")
                    .filter_map(|(k, v)| Some((k.parse::<AmazonS3ConfigKey>().ok()?, v)))
                    .fold(new, |b, (k, v)| b.with_config(k, v));
                builder
                    .with_bucket_name(bucket)
                    .build()
                    .map(|store| {
                        let store = Arc::new(store);
                        let pages = TappedStore::s3(Arc::clone(&store), bucket);
                        Store::remote(Arc::clone(&store))
                            .with_pages(Arc::new(pages))
                            .with_signer(store)
                    })
                    .map_err(|error| own_words(&error))
            }
            Scheme::Gs => {
                let new = GoogleCloudStorageBuilder::new()
                    .with_client_options(client_options(self.times))
                    .with_http_connector(TapConnector(StoreConnector(location.scheme())))
                    .with_retry(retry_config(self.times));
                let builder = self
                    .settings("GOOGLE_")
                    .filter_map(|(k, v)| Some((k.parse::<GoogleConfigKey>().ok()?, v)))
                    .fold(new, |b, (k, v)| b.with_config(k, v));
                builder
                    .with_bucket_name(bucket)
                    .build()
                    .map(|store| {
                        let store = Arc::new(store);
                        let pages = TappedStore::google(Arc::clone(&store));
                        Store::remote(store).with_pages(Arc::new(pages))
                    })
                    .map_err(|error| own_words(&error))
            }
            Scheme::Az => {
                let new = MicrosoftAzureBuilder::new()
                    .with_client_options(client_options(self.times))
                    .with_http_connector(TapConnector(StoreConnector(location.scheme())))
                    .with_retry(retry_config(self.times));
                let builder = self
                    .settings("AZURE_")
                    .filter_map(|(k, v)| Some((k.parse::<AzureConfigKey>().ok()?, v)))
                    .fold(new, |b, (k, v)| b.with_config(k, v));
                builder
                    .with_container_name(bucket)
                    .build()
                    .map(|store| {
                        let store = Arc::new(store);
                        let pages = TappedStore::azure(Arc::clone(&store));
                        Store::remote(store).with_pages(Arc::new(pages))
                    })
                    .map_err(|error| azure_problem(&own_words(&error)))
            }
        }
    }

    /// Fails if an option is unknown, so that it is not ignored silently.
    fn check_options(&self) -> Result<(), String> {
        let known = |key: &str| {
            key.parse::<AmazonS3ConfigKey>().is_ok()
                || key.parse::<GoogleConfigKey>().is_ok()
                || key.parse::<AzureConfigKey>().is_ok()
        };
        match self
            .options
            .keys()
            .find(|key| !known(&key.to_ascii_lowercase()))
        {
            Some(key) => Err(format!(
                "storageOptions.{key}: not an option (got {key:?}); allowed are keys such as aws_endpoint, aws_region, google_bucket_url and azure_storage_account_name"
            )),
            None => Ok(()),
        }
    }

    /// Returns these options, and the settings that the environment adds.
    fn settings(&self, prefix: &'static str) -> impl Iterator<Item = (String, String)> {
        let environment = std::env::vars_os()
            .filter(|_| self.reads_environment)
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let merged = merge(&self.options, environment, prefix);
        for name in &merged.passed_over {
            tracing::warn!(
                name,
                "the operator's installation sets this, so the value from the environment is ignored"
            );
        }
        merged.settings.into_iter()
    }
}

/// The settings of one kind of store.
#[derive(Debug, Default)]
struct Merged {
    settings: Vec<(String, String)>,
    /// The variables that contradict the installation's settings.
    passed_over: Vec<String>,
}

/// Merges the installation's options with the environment's variables that begin with `prefix`. A
/// variable is left out if the installation has the same setting, which may have another name.
fn merge(
    options: &BTreeMap<String, String>,
    environment: impl Iterator<Item = (String, String)>,
    prefix: &str,
) -> Merged {
    let said: BTreeMap<String, &str> = options
        .iter()
        .map(|(key, value)| (setting(&key.to_ascii_lowercase()), value.as_str()))
        .collect();
    let says_where_s3_is = S3_ENDPOINTS.iter().any(|key| said.contains_key(*key));
    let mut merged = Merged::default();
    for (name, value) in environment {
        if !name.starts_with(prefix) || value.is_empty() {
            continue;
        }
        let key = name.to_ascii_lowercase();
        let setting = setting(&key);
        let goes_with_endpoint = says_where_s3_is
            && (S3_ENDPOINTS.contains(&setting.as_str())
                || GOES_WITH_S3_ENDPOINT.contains(&setting.as_str()));
        match said.get(&setting) {
            Some(own) if *own == value => {}
            Some(_) => merged.passed_over.push(name),
            None if goes_with_endpoint => merged.passed_over.push(name),
            None => merged.settings.push((key, value)),
        }
    }
    merged.settings.extend(
        options
            .iter()
            .map(|(key, value)| (key.to_ascii_lowercase(), value.clone())),
    );
    merged
}

/// The two names of the setting for S3's endpoint. If both were set, the client would use the
/// second one, which is for S3 alone.
const S3_ENDPOINTS: [&str; 2] = ["aws_endpoint", "aws_endpoint_url_s3"];

/// Settings that belong to one endpoint. They would be wrong for another endpoint.
const GOES_WITH_S3_ENDPOINT: [&str; 3] = [
    "aws_allow_http",
    "aws_s3_express",
    "aws_virtual_hosted_style_request",
];

/// Returns the canonical name of a setting, such as `aws_endpoint` for `aws_endpoint_url`.
fn setting(key: &str) -> String {
    let of = |provider: &str, name: &str| {
        if name.starts_with(provider) {
            name.to_owned()
        } else {
            // A setting of the HTTP client has the same name for every provider.
            format!("{provider}{name}")
        }
    };
    if key.starts_with("aws_")
        && let Ok(known) = key.parse::<AmazonS3ConfigKey>()
    {
        if matches!(known, AmazonS3ConfigKey::DefaultRegion) {
            return "aws_region".to_owned();
        }
        return of("aws_", known.as_ref());
    }
    if key.starts_with("google_")
        && let Ok(known) = key.parse::<GoogleConfigKey>()
    {
        return of("google_", known.as_ref());
    }
    if key.starts_with("azure_")
        && let Ok(known) = key.parse::<AzureConfigKey>()
    {
        return of("azure_", known.as_ref());
    }
    key.to_owned()
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores")
            .field("patience", &self.retry_time)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Makes the client of a remote store. Every write that such a store reports as done is
    /// durable, and it has multipart uploads.
    pub fn remote<S: ObjectStore + MultipartStore>(store: Arc<S>) -> Self {
        let objects: Arc<dyn ObjectStore> = Arc::clone(&store) as _;
        Self::new(Arc::clone(&objects), objects, Some(store))
    }

    /// Makes a client that returns each listing as one page.
    pub fn new(
        objects: Arc<dyn ObjectStore>,
        durable: Arc<dyn ObjectStore>,
        multipart: Option<Arc<dyn MultipartStore>>,
    ) -> Self {
        Self {
            pages: Arc::new(WholeListing(Arc::clone(&objects))),
            objects,
            durable,
            multipart,
            signer: None,
        }
    }

    /// Returns this client with a signer.
    #[must_use]
    pub fn with_signer(self, signer: Arc<dyn Signer>) -> Self {
        Self {
            signer: Some(signer),
            ..self
        }
    }

    /// Returns this client with another source of listings.
    #[must_use]
    pub fn with_pages(self, pages: Arc<dyn ListPages>) -> Self {
        Self { pages, ..self }
    }
}

/// Makes the message for an error of the Azure client. The account is not part of an address, so
/// users easily forget it.
fn azure_problem(said: &str) -> String {
    if said.contains("Account must be specified") {
        "no storage account is named; set AZURE_STORAGE_ACCOUNT_NAME".to_owned()
    } else {
        said.to_owned()
    }
}

fn client_options(times: Times) -> ClientOptions {
    ClientOptions::new()
        .with_connect_timeout(times.connect)
        .with_timeout(times.request)
        .with_read_timeout(times.silence)
}

fn retry_config(times: Times) -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        base: 2.0,
    };
    RetryConfig {
        backoff,
        max_retries: times.client_retries,
        retry_timeout: times.client_retry_time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fake_http::{FakeHttp, Reply};

    fn pairs(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// Returns the value that an S3 client gets for this setting.
    fn taken(options: &[(&str, &str)], environment: &[(&str, &str)], key: &str) -> Option<String> {
        let merged = merge(&pairs(options), pairs(environment).into_iter(), "AWS_");
        let builder = merged
            .settings
            .into_iter()
            .fold(AmazonS3Builder::new(), |builder, (key, value)| {
                builder.with_config(key.parse().unwrap(), value)
            });
        builder.get_config_value(&key.parse().unwrap())
    }

    #[test]
    fn the_installations_endpoint_wins_over_every_name_that_a_jobs_secret_has_for_it() {
        let options = [
            ("aws_endpoint", "https://ours:9000"),
            ("aws_region", "eu-1"),
        ];
        for variable in [
            "AWS_ENDPOINT",
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_S3",
            "AWS_ALLOW_HTTP",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
            "AWS_S3_EXPRESS",
            "AWS_REGION",
            "AWS_DEFAULT_REGION",
        ] {
            let environment = [(variable, "true"), ("AWS_ACCESS_KEY_ID", "key")];
            let merged = merge(&pairs(&options), pairs(&environment).into_iter(), "AWS_");
            assert_eq!(merged.passed_over, [variable]);
            for (key, value) in options {
                assert_eq!(
                    taken(&options, &environment, key).as_deref(),
                    Some(value),
                    "{variable}"
                );
            }
            assert_eq!(
                taken(&options, &environment, "aws_access_key_id").as_deref(),
                Some("key")
            );
            let lowered = variable.to_ascii_lowercase();
            assert_ne!(
                taken(&options, &environment, &lowered).as_deref(),
                Some("true"),
                "{variable}"
            );
        }
    }

    #[test]
    fn a_jobs_secret_may_set_what_the_installation_does_not() {
        let environment = [
            ("AWS_ENDPOINT_URL", "http://theirs"),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "eu-1"),
            ("AWS_PROXY_URL", "http://proxy"),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("GOOGLE_BASE_URL", "http://another-store"),
        ];
        let merged = merge(&pairs(&[]), pairs(&environment).into_iter(), "AWS_");
        assert_eq!(merged.passed_over, [""; 0]);
        assert_eq!(merged.settings.len(), 4, "{merged:?}");
        // The permission to use plain HTTP does not say where the store is.
        let allowed = [("aws_allow_http", "true")];
        assert_eq!(
            taken(&allowed, &environment, "aws_endpoint").as_deref(),
            Some("http://theirs")
        );
        // If both have the same value, there is no contradiction to report.
        let same = [("aws_endpoint", "http://theirs")];
        let endpoint = [("AWS_ENDPOINT_URL", "http://theirs")];
        let merged = merge(&pairs(&same), pairs(&endpoint).into_iter(), "AWS_");
        assert_eq!(merged.passed_over, [""; 0]);
    }

    #[test]
    fn one_name_stands_for_all_names_of_a_setting() {
        for (key, name) in [
            ("aws_endpoint_url", "aws_endpoint"),
            ("aws_token", "aws_session_token"),
            ("aws_allow_http", "aws_allow_http"),
            ("aws_proxy_url", "aws_proxy_url"),
            ("azure_endpoint", "azure_storage_endpoint"),
            ("azure_allow_http", "azure_allow_http"),
            ("google_service_account_path", "google_service_account"),
            ("something_else", "something_else"),
        ] {
            assert_eq!(setting(key), name);
        }
    }

    #[test]
    fn an_option_that_no_store_knows_is_named() {
        let stores = Stores::new(BTreeMap::from([(
            "aws_endpiont".to_owned(),
            "x".to_owned(),
        )]));
        let error = stores
            .open(&Location::parse("s3://b/k").unwrap())
            .map(|_| ())
            .unwrap_err();
        assert!(
            error.to_string().contains("storageOptions.aws_endpiont"),
            "{error}"
        );
        assert!(!error.is_transient());
    }

    #[test]
    fn a_missing_azure_account_is_requested_in_the_error() {
        let without = MicrosoftAzureBuilder::new().with_container_name("c");
        assert_eq!(
            azure_problem(&without.build().unwrap_err().to_string()),
            "no storage account is named; set AZURE_STORAGE_ACCOUNT_NAME"
        );
    }

    #[test]
    fn every_variable_that_the_page_on_object_stores_names_is_read_by_its_client() {
        let page = include_str!("../../../docs/storage.md");
        let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
        let names: Vec<&str> = page
            .split(|c| !is_name(c))
            .filter(|word| word.len() > "GOOGLE_".len())
            .collect();
        let read = |name: &str| {
            let key = name.to_ascii_lowercase();
            match name.split('_').next() {
                Some("AWS") => key.parse::<AmazonS3ConfigKey>().is_ok(),
                Some("GOOGLE") => key.parse::<GoogleConfigKey>().is_ok(),
                Some("AZURE") => key.parse::<AzureConfigKey>().is_ok(),
                _ => true,
            }
        };
        assert!(names.len() > 25, "{names:?}");
        for name in names {
            assert!(read(name), "{name}");
        }
    }

    #[tokio::test]
    async fn requests_are_signed_with_the_credentials_of_the_agent_of_eks_pod_identity() {
        let server = FakeHttp::start(|request| {
            let header = |name: &str| request.headers.get(name).map_or("", String::as_str);
            if request.path == "/v1/credentials" {
                return match header("authorization") {
                    "the token of the pod" => Reply::new(
                        200,
                        r#"{"AccessKeyId": "pods-key", "SecretAccessKey": "secret", "Token": "session", "Expiration": "2099-01-01T00:00:00Z"}"#,
                    ),
                    _ => Reply::new(400, "who are you?"),
                };
            }
            let is_signed = header("authorization").contains("Credential=pods-key/");
            if is_signed && header("x-amz-security-token") == "session" {
                Reply::new(200, "hello")
                    .with("etag", "\"1\"")
                    .with("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT")
            } else {
                Reply::error(403, "AccessDenied")
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "the token of the pod").unwrap();
        let stores = Stores::of_options(pairs(&[
            ("aws_endpoint", &server.url()),
            ("aws_allow_http", "true"),
            ("aws_region", "eu-west-1"),
            (
                "aws_container_credentials_full_uri",
                &format!("{}/v1/credentials", server.url()),
            ),
            (
                "aws_container_authorization_token_file",
                token.to_str().unwrap(),
            ),
        ]));
        let location = Location::parse("s3://b/k").unwrap();
        let text = crate::storage::fetch(&stores, &location).await.unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn fault_8402_a_bucket_is_opened_once() {
        let stores = Stores::in_memory();
        let first = stores.open(&Location::parse("s3://b/x").unwrap()).unwrap();
        let second = stores.open(&Location::parse("s3://b/y").unwrap()).unwrap();
        let other = stores.open(&Location::parse("s3://c/y").unwrap()).unwrap();
        assert!(Arc::ptr_eq(&first.objects, &second.objects));
        assert!(!Arc::ptr_eq(&first.objects, &other.objects));
    }
}
