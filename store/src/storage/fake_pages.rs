//! Makes listings for tests. Some of them fail, the pages of some lead in circles, and some have
//! keys that no test server accepts. They are never part of a program.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use object_store::memory::InMemory;

use crate::storage::pages::{Ask, Entry, ListPages, Page};
use crate::storage::{Store, Stores};

/// The requests that a store received.
pub(crate) type Asked = Arc<Mutex<Vec<Ask>>>;

/// A store that answers with these pages in order, and repeats the last one.
pub(crate) struct FakePages {
    answers: Mutex<VecDeque<Result<Page, &'static str>>>,
    asked: Asked,
}

#[async_trait::async_trait]
impl ListPages for FakePages {
    async fn page(&self, ask: &Ask) -> object_store::Result<Page> {
        self.asked.lock().unwrap().push(ask.clone());
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 {
            answers.pop_front().unwrap()
        } else {
            answers.front().unwrap().clone()
        };
        answer.map_err(|said| object_store::Error::Generic {
            store: "fake",
            source: said.into(),
        })
    }
}

/// Makes an entry of an object with this number of bytes.
pub(crate) fn entry(key: &[u8], size: u64) -> Entry {
    Entry {
        key: key.to_vec(),
        size,
        etag: None,
        modified: Some(SystemTime::UNIX_EPOCH),
        is_folder: false,
    }
}

/// Makes an entry of a folder in Azure's listing, which is an object without bytes.
pub(crate) fn folder(key: &[u8]) -> Entry {
    Entry {
        is_folder: true,
        ..entry(key, 0)
    }
}

/// Makes a page with these objects and the token of the next page.
#[expect(
    clippy::unnecessary_wraps,
    reason = "all pages of a test have this type, and some fail"
)]
pub(crate) fn page(entries: &[Entry], next: Option<&str>) -> Result<Page, &'static str> {
    Ok(Page {
        entries: entries.to_vec(),
        folders: Vec::new(),
        next: next.map(str::to_owned),
    })
}

/// Makes stores in which `s3://b` has this listing. Also returns the requests that it receives.
pub(crate) fn listing(answers: Vec<Result<Page, &'static str>>) -> (Stores, Asked) {
    let asked = Asked::default();
    let pages = FakePages {
        answers: Mutex::new(answers.into()),
        asked: Arc::clone(&asked),
    };
    let store = Store::remote(Arc::new(InMemory::new())).with_pages(Arc::new(pages));
    (Stores::in_memory().with_store("s3://b", store), asked)
}
