//! Lists the contents of a store page by page. It returns the original keys, including keys that no
//! path can represent. If a page fails, only this page is requested again, and not the whole
//! listing. This module does not judge what it lists.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::storage::{Cause, Location, Scheme, StorageError, Stores, local, persist};

/// How many pages without an entry may follow each other. A bucket has such pages after many
/// deletions, and each of them represents a thousand or more deleted objects. An endless number of
/// them is a fault of the store.
const MAX_EMPTY_PAGES: u32 = 1_000;

/// An entry in a store's listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key, byte by byte. For a local file, it is the path without the first slash.
    pub key: Vec<u8>,
    /// The size in bytes.
    pub size: u64,
    /// A value that changes when the object changes. Some stores have none.
    pub etag: Option<String>,
    /// When the object was written, by the store's clock. `None` if the store does not report it.
    pub modified: Option<SystemTime>,
    /// Whether the store says that the entry represents a folder.
    pub is_folder: bool,
}

/// A part of a store's listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The objects, in the store's order.
    pub entries: Vec<Entry>,
    /// The folders, if the listing shows one folder only. Each is the beginning of keys up to and
    /// including the next slash, byte by byte.
    pub folders: Vec<Vec<u8>>,
    /// The token for the next page. `None` on the last page.
    pub next: Option<String>,
}

/// The page to request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// The text with which the listed keys begin.
    pub prefix: String,
    /// Whether the listing shows one folder only. Then keys with another slash after the prefix are
    /// shown only as folders.
    pub one_folder: bool,
    /// The key after which the first page begins.
    pub after: Option<String>,
    /// The token that leads to the page. Without a token, it is the first page.
    pub token: Option<String>,
}

/// A store that lists page by page.
#[async_trait::async_trait]
pub trait ListPages: Send + Sync {
    /// Requests a page.
    async fn page(&self, ask: &Ask) -> object_store::Result<Page>;
}

impl Entry {
    /// Returns the key as text. Invalid UTF-8 is shown as replacement characters.
    pub fn name(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }

    /// Whether the entry is the marker of a folder, `folder/` without bytes. The web consoles of
    /// stores create such markers.
    pub fn is_marker(&self) -> bool {
        self.is_folder || (self.size == 0 && self.key.ends_with(b"/"))
    }

    /// Returns the entry's address in the store of `place`. The error says why the key cannot be an
    /// address.
    pub fn location(&self, place: &Location) -> Result<Location, &'static str> {
        let key = std::str::from_utf8(&self.key).map_err(|_| "its name is not UTF-8")?;
        if key.ends_with('/') {
            return Err("its name ends with a slash");
        }
        if key.split('/').any(str::is_empty) {
            return Err("its name has an empty segment");
        }
        if key
            .split('/')
            .any(|segment| segment == "." || segment == "..")
        {
            return Err("its name has a . or .. segment");
        }
        if key.chars().any(|character| character.is_ascii_control()) {
            return Err("its name has a control character");
        }
        let path = Path::parse(key).map_err(|_| "its name cannot be an address")?;
        let location = place.with_path(path);
        // The object is read by its address, so the address must lead to exactly this object.
        match Location::parse(&location.to_string()) {
            Ok(parsed) if parsed == location && location.path().as_ref() == key => Ok(location),
            Ok(_) | Err(_) => Err("its name cannot be an address"),
        }
    }
}

/// Calls `visit` for every object in the store of `place` whose key begins with `prefix`, until
/// `visit` stops the listing. Marker files, folder markers and keys that no path can represent are
/// shown too. On a local disk, all files are shown.
pub async fn list_prefix<V>(
    stores: &Stores,
    place: &Location,
    prefix: &str,
    mut visit: V,
) -> Result<(), StorageError>
where
    V: FnMut(Entry) -> ControlFlow<()> + Send,
{
    if place.scheme() == Scheme::File {
        return local::list_prefix(place, prefix, visit).await;
    }
    let mut listing = Listing::begin(stores, place, Ask::beginning_with(prefix))?;
    while let Some(page) = listing.next().await? {
        for entry in page.entries {
            if visit(entry).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Ask {
    /// Makes a request for all keys that begin with `prefix`.
    pub(super) fn beginning_with(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            ..Self::default()
        }
    }

    /// Makes a request for all keys in a folder, at any depth.
    pub(super) fn below(folder: &Location) -> Self {
        Self::beginning_with(&match folder.path().as_ref() {
            "" => String::new(),
            path => format!("{path}/"),
        })
    }
}

/// A listing of a store other than the local disk, one page after another.
pub(super) struct Listing<'a> {
    stores: &'a Stores,
    place: &'a Location,
    /// The address that errors name.
    shown: Location,
    pages: Arc<dyn ListPages>,
    way: Way,
    /// The request for the next page. `None` after the last page.
    ask: Option<Ask>,
}

impl<'a> Listing<'a> {
    pub(super) fn begin(
        stores: &'a Stores,
        place: &'a Location,
        ask: Ask,
    ) -> Result<Self, StorageError> {
        Ok(Self {
            stores,
            place,
            shown: place.with_path(Path::parse(&ask.prefix).unwrap_or_default()),
            pages: stores.open(place)?.pages,
            way: Way::default(),
            ask: Some(ask),
        })
    }

    /// Returns the next page. `None` after the last page.
    pub(super) async fn next(&mut self) -> Result<Option<Page>, StorageError> {
        let Some(ask) = self.ask.take() else {
            return Ok(None);
        };
        let call = || self.pages.page(&ask);
        let page = persist(self.stores, "listing", &self.shown, call).await;
        let page = page.map_err(|error| without_bucket(self.place, error))?;
        let next = self.way.follow(&page);
        let next = next
            .map_err(|problem| StorageError::new("listing", &self.shown, Cause::Other(problem)))?;
        self.ask = next.map(|token| Ask {
            token: Some(token),
            ..ask
        });
        Ok(Some(page))
    }
}

/// Returns a whole key on one line, for messages.
pub(super) fn on_one_line(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(key) => key.escape_debug().to_string(),
        Err(_) => key.escape_ascii().to_string(),
    }
}

/// Converts "not found" to the error of a missing bucket. If no key matches, a listing is empty and
/// not an error, so only the bucket can be missing.
fn without_bucket(place: &Location, error: StorageError) -> StorageError {
    let says_404 = matches!(&error.cause, Cause::Other(detail) if detail.starts_with("404"));
    let is_404 = says_404 || error.cause == Cause::NotFound;
    if is_404 {
        let cause = Cause::NoSuchBucket(place.bucket().to_owned());
        StorageError { cause, ..error }
    } else {
        error
    }
}

/// What was seen of the pages so far, to detect a store whose pages lead in a circle.
#[derive(Default)]
struct Way {
    tokens: BTreeSet<u64>,
    empty_in_a_row: u32,
}

impl Way {
    /// Returns the token of the next page, if there is one.
    fn follow(&mut self, page: &Page) -> Result<Option<String>, String> {
        let is_empty = page.entries.is_empty() && page.folders.is_empty();
        self.empty_in_a_row = if is_empty { self.empty_in_a_row + 1 } else { 0 };
        if self.empty_in_a_row > MAX_EMPTY_PAGES {
            return Err(format!(
                "the store sent more than {MAX_EMPTY_PAGES} pages without an object in a row, and announced more"
            ));
        }
        let Some(next) = page.next.clone() else {
            return Ok(None);
        };
        let mut hasher = DefaultHasher::new();
        next.hash(&mut hasher);
        if !self.tokens.insert(hasher.finish()) {
            return Err(
                "the store sent one continuation token twice, so its pages never end".to_owned(),
            );
        }
        Ok(Some(next))
    }
}

/// A store that can only list everything at once, such as a store in memory. Its listing has one
/// page.
pub(crate) struct WholeListing(pub(crate) Arc<dyn ObjectStore>);

#[async_trait::async_trait]
impl ListPages for WholeListing {
    async fn page(&self, ask: &Ask) -> object_store::Result<Page> {
        let (folder, _) = ask.prefix.rsplit_once('/').unwrap_or_default();
        let folder = Path::parse(folder)?;
        let is_asked_for = |key: &str| {
            key.starts_with(&ask.prefix) && ask.after.as_deref().is_none_or(|after| key > after)
        };
        let (listed, folders) = if ask.one_folder {
            let listed = self.0.list_with_delimiter(Some(&folder)).await?;
            let folders = listed.common_prefixes.into_iter();
            let folders = folders.map(|folder| format!("{folder}/").into_bytes());
            (listed.objects, folders.collect())
        } else {
            let listed = self.0.list(Some(&folder)).try_collect().await?;
            (listed, Vec::new())
        };
        let entries = listed.into_iter().filter_map(|meta| {
            let key = meta.location.as_ref();
            is_asked_for(key).then(|| Entry {
                key: key.as_bytes().to_vec(),
                size: meta.size,
                etag: meta.e_tag.clone(),
                modified: Some(meta.last_modified.into()),
                is_folder: false,
            })
        });
        Ok(Page {
            entries: entries.collect(),
            folders,
            next: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fake_pages::{entry, listing, page};

    const BUSY: Result<Page, &str> =
        Err("Server returned non-2xx status code: 503 Service Unavailable: ");

    async fn keys(stores: &Stores, prefix: &str) -> Result<Vec<String>, StorageError> {
        let mut keys = Vec::new();
        let place = Location::parse("s3://b").unwrap();
        list_prefix(stores, &place, prefix, |entry| {
            keys.push(entry.name().into_owned());
            ControlFlow::Continue(())
        })
        .await?;
        Ok(keys)
    }

    #[tokio::test]
    async fn only_a_page_that_fails_is_requested_again() {
        let (stores, asked) = listing(vec![
            page(&[entry(b"in/1", 1)], Some("one")),
            BUSY,
            BUSY,
            page(&[entry(b"in/2", 1)], Some("two")),
            page(&[], Some("three")),
            BUSY,
            page(&[entry(b"in//3\xff", 1)], None),
        ]);
        let found = keys(&stores, "in/").await.unwrap();
        assert_eq!(found, ["in/1", "in/2", "in//3\u{fffd}"]);
        let asked: Vec<_> = asked.lock().unwrap().drain(..).collect();
        assert!(asked.iter().all(|ask| ask.prefix == "in/"));
        let tokens: Vec<_> = asked.iter().map(|ask| ask.token.as_deref()).collect();
        let (one, two, three) = (Some("one"), Some("two"), Some("three"));
        assert_eq!(tokens, [None, one, one, one, two, three, three]);
    }

    #[tokio::test]
    async fn pages_without_end_are_an_error() {
        let (stores, _) = listing(vec![
            page(&[entry(b"1", 1)], Some("a")),
            page(&[entry(b"2", 1)], Some("b")),
            page(&[entry(b"1", 1)], Some("a")),
        ]);
        let error = keys(&stores, "").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "listing s3://b/: the store sent one continuation token twice, so its pages never end"
        );
        let mut way = Way::default();
        let empty = |number: u32| page(&[], Some(&number.to_string())).unwrap();
        for number in 0..MAX_EMPTY_PAGES {
            assert!(way.follow(&empty(number)).is_ok());
        }
        let said = way.follow(&empty(MAX_EMPTY_PAGES)).unwrap_err();
        assert!(said.contains("without an object in a row"), "{said}");
    }

    #[tokio::test]
    async fn if_a_listing_finds_nothing_there_is_no_bucket() {
        let (stores, _) = listing(vec![Err(
            "Server returned non-2xx status code: 404 Not Found: ",
        )]);
        let error = keys(&stores, "").await.unwrap_err();
        assert_eq!(error.cause, Cause::NoSuchBucket("b".to_owned()));
    }

    #[tokio::test]
    async fn a_listing_in_memory_begins_within_a_name() {
        let stores = Stores::in_memory();
        for key in ["in/a1", "in/a2/x", "in/b", "_x"] {
            let place = Location::parse(&format!("s3://b/{key}")).unwrap();
            let store = stores.open(&place).unwrap().objects;
            let put = object_store::PutPayload::from_static(b"x");
            object_store::ObjectStoreExt::put(&*store, place.path(), put)
                .await
                .unwrap();
        }
        assert_eq!(keys(&stores, "in/a").await.unwrap(), ["in/a1", "in/a2/x"]);
        assert_eq!(keys(&stores, "").await.unwrap().len(), 4);
    }

    #[test]
    fn a_key_that_cannot_be_an_address_is_listed_separately() {
        let place = Location::parse("s3://b/in").unwrap();
        for (key, problem) in [
            (b"a//x".as_slice(), "its name has an empty segment"),
            (b"/x", "its name has an empty segment"),
            (b"a/./x", "its name has a . or .. segment"),
            (b"../x", "its name has a . or .. segment"),
            (b"a\n", "its name has a control character"),
            (b"a\xff", "its name is not UTF-8"),
            (b"a/", "its name ends with a slash"),
        ] {
            assert_eq!(entry(key, 1).location(&place), Err(problem));
        }
        for key in ["a b", "x#1", "x%20y", "x?y", "a\\b", "[x]{y}*", "é", "a/.b"] {
            let location = entry(key.as_bytes(), 1).location(&place).unwrap();
            assert_eq!(location.path().as_ref(), key);
        }
    }
}
