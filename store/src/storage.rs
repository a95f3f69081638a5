//! Object storage and local files, which have one common form of addresses. Every call has finite
//! timeouts and is retried with jitter, and its errors are sentences.
//!
//! This module knows nothing about tasks, ledgers or formats. It decides whether a failure may
//! disappear by itself, but not whose fault the failure is.

mod answer;
#[cfg(test)]
mod checked_uploads;
mod checksums;
mod client;
mod complete;
mod empty_file;
mod error;
mod error_codes;
mod exclusive;
#[cfg(test)]
pub(crate) mod fake_http;
#[cfg(test)]
pub(crate) mod fake_pages;
mod folders;
mod glob_text;
mod job;
mod list;
mod local;
mod local_files;
mod local_way;
mod location;
mod matching;
mod object_writer;
mod page_xml;
mod pages;
mod pattern;
mod presence;
mod probe;
mod ranges;
mod read;
mod remove;
mod retry;
mod stores;
mod tap;
mod upload;
mod uploads;
mod verify;
mod versioned;

pub use complete::{Completed, abandon, complete};
pub use error::{CallKind, Cause, StorageError};
pub use exclusive::{Placed, put_if_absent};
pub use folders::{FolderEntry, server_time, subfolders, walk};
pub use job::JobStorage;
pub use list::{InputFile, ListError, MAX_INPUT_FILES, list_files, list_inputs};
pub use local_way::{Need, obstacle};
pub use location::{Location, LocationError, Scheme};
pub use matching::NamePattern;
pub(crate) use matching::{Match, MatchKind, Sight, list_matching};
pub use object_writer::ObjectWriter;
pub use pages::{Ask, Entry, ListPages, Page, list_prefix};
pub use presence::{is_object_alone, is_write_question};
pub use probe::{
    ProbeError, SIGN_OF_LIFE_INTERVAL, Sign, is_suspended, last_touched, probe, touch,
};
pub(crate) use read::meta_of;
pub use read::{ObjectReader, ReadCounter, fetch, fetch_range, fetch_range_of, size_of};
pub use remove::{remove_chosen, remove_folder};
pub use retry::Reminder;
pub use retry::persist;
pub use stores::{Store, Stores};
pub use upload::{PartUpload, UploadPlace, Uploaded};
pub(crate) use uploads::UploadLister;
pub use uploads::{UnfinishedUpload, abort_upload, unfinished_uploads};
pub use verify::{Verified, verify};
pub use versioned::{Replaced, Versioned, read_versioned, remove_object, replace};
