//! Distinguishes an outage of a store from a single object that cannot be reached. After a failed
//! call, it tests whether the store answers similar calls. An outage may affect only writes, or
//! only one prefix of a bucket. So after a failed read it reads a neighbouring object. After a
//! failed write it writes a neighbouring object, and an object in the job's own folder. Each test
//! call is made once, and the written objects are removed.

use std::time::Duration;

use object_store::{ObjectStoreExt, PutPayload};
use tokio::time::timeout;

use crate::storage::{CallKind, Location, StorageError, Stores, remove_object};

/// How long one answer may take. If the store is slower, it counts as unavailable for all objects.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The name of the neighbouring object that is read. It is in the same folder, so the same part of
/// the store has to answer. "It does not exist" counts as an answer.
const READ_NAME: &str = "_zephyr-is-the-store-there";

/// The beginning of the name of an object that is written and removed at once. A name that begins
/// with `_` is neither input nor output.
const WRITE_NAME: &str = "_zephyr-write-";

/// The content of the object that is written.
const WRITTEN: &[u8] = b"written to test whether the store accepts writes; it may be removed\n";

/// The result of one test call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The call succeeded, or the object does not exist.
    Given,
    /// The store refused permanently, for example because the credentials do not allow the call.
    Refused,
    /// There was no answer in time, or a temporary error. So the store fails for this call as it
    /// did for the failed call.
    Missing,
}

/// The results of the test calls for one failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answers {
    /// The answer to a call of the same kind on a neighbouring object.
    beside: Answer,
    /// The answer to a write in the job's own folder. After a failed read, there is no such call.
    in_storage: Option<Answer>,
}

impl Answers {
    /// Whether the answers mean that only this object cannot be reached. Then it is useless to wait
    /// for the store. A refusal counts as an answer, because the credentials may not allow other
    /// names in that folder.
    fn mean_object_alone(self) -> bool {
        let is_answered = |answer| match answer {
            Answer::Given | Answer::Refused => true,
            Answer::Missing => false,
        };
        is_answered(self.beside) && self.in_storage.is_none_or(is_answered)
    }
}

/// Whether only this object cannot be reached. This is so if the store answers the same kind of
/// call on a neighbouring object. After a failed write, it must also accept a write in the job's
/// own folder.
pub async fn is_object_alone(
    stores: &Stores,
    job_folder: &Location,
    failed: CallKind,
    object: &Location,
) -> bool {
    let folder = object.parent();
    let answers = match failed {
        CallKind::Read => Answers {
            beside: ask_to_read(stores, &folder).await,
            in_storage: None,
        },
        CallKind::Write => {
            let data = job_folder.with_path(job_folder.path().clone().join("data"));
            let asked = (ask_to_write(stores, &folder), ask_to_write(stores, &data));
            let (beside, in_storage) = tokio::join!(asked.0, asked.1);
            Answers {
                beside,
                in_storage: Some(in_storage),
            }
        }
    };
    tracing::info!(%object, ?failed, ?answers, "calls for an object failed; its store was asked for others");
    answers.mean_object_alone()
}

/// Whether this is the name of an object that is written only to test whether a store accepts
/// writes.
pub fn is_write_question(name: &str) -> bool {
    let number = name.strip_prefix(WRITE_NAME);
    number.is_some_and(|number| {
        number.len() == 32 && number.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

async fn ask_to_read(stores: &Stores, folder: &Location) -> Answer {
    let asked = folder.with_path(folder.path().clone().join(READ_NAME));
    let Ok(store) = stores.open(&asked) else {
        return Answer::Missing;
    };
    match timeout(ANSWER_TIMEOUT, store.objects.get(asked.path())).await {
        Ok(Ok(_) | Err(object_store::Error::NotFound { .. })) => Answer::Given,
        Ok(Err(error)) => refusal(&StorageError::from_store("reading", &asked, &error)),
        Err(_) => Answer::Missing,
    }
}

async fn ask_to_write(stores: &Stores, folder: &Location) -> Answer {
    let name = format!("{WRITE_NAME}{:032x}", stores.chance().unique());
    let asked = folder.with_path(folder.path().clone().join(name));
    let Ok(store) = stores.open(&asked) else {
        return Answer::Missing;
    };
    let put = store
        .objects
        .put(asked.path(), PutPayload::from_static(WRITTEN));
    let answer = match timeout(ANSWER_TIMEOUT, put).await {
        Ok(Ok(_)) => Answer::Given,
        Ok(Err(error)) => refusal(&StorageError::from_store("writing", &asked, &error)),
        Err(_) => Answer::Missing,
    };
    // The write may have been carried out, whatever the answer was. So the object is removed.
    let removed = timeout(ANSWER_TIMEOUT, remove_object(stores, &asked)).await;
    if !matches!(removed, Ok(Ok(()))) {
        tracing::debug!(object = %asked, "a test object may remain in the store");
    }
    answer
}

fn refusal(error: &StorageError) -> Answer {
    if error.is_transient() {
        Answer::Missing
    } else {
        Answer::Refused
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use object_store::memory::InMemory;

    use super::*;
    use crate::fixtures::tricky::{Trick, Tricks, tricky};
    use crate::storage::fake_http::{FakeHttp, Reply, Request};

    const OBJECT: &str = "s3://b/folder/k";
    const STORAGE: &str = "s3://b/jobs/uid";

    fn at(uri: &str) -> Location {
        Location::parse(uri).unwrap()
    }

    #[test]
    fn an_object_is_alone_only_if_each_like_call_is_answered() {
        use Answer::{Given, Missing, Refused};
        for (beside, in_storage, expected) in [
            (Given, None, true),
            (Refused, None, true),
            (Missing, None, false),
            (Given, Some(Given), true),
            (Given, Some(Refused), true),
            (Given, Some(Missing), false),
            (Refused, Some(Given), true),
            (Refused, Some(Refused), true),
            (Refused, Some(Missing), false),
            (Missing, Some(Given), false),
            (Missing, Some(Refused), false),
            (Missing, Some(Missing), false),
        ] {
            let answers = Answers { beside, in_storage };
            assert_eq!(answers.mean_object_alone(), expected, "{answers:?}");
        }
    }

    /// A way in which a store fails, and the expected results.
    struct Outage {
        name: &'static str,
        /// Returns the answer that the store gives instead of the normal one, if it fails for this
        /// call.
        fails: fn(method: &str, path: &str) -> Option<Reply>,
        /// Whether only the object cannot be reached, in three cases: after a failed read of
        /// `OBJECT`, after a failed write of `OBJECT`, and after a failed write in the job's own
        /// folder.
        alone: [bool; 3],
    }

    fn slow_down() -> Reply {
        Reply::error(503, "SlowDown")
    }

    const OUTAGES: [Outage; 8] = [
        Outage {
            name: "nothing but the object",
            fails: |_, path| (path.ends_with("/k") || path.ends_with("/shuffle")).then(slow_down),
            alone: [true, true, true],
        },
        Outage {
            name: "everything",
            fails: |_, _| Some(slow_down()),
            alone: [false, false, false],
        },
        Outage {
            name: "writes",
            fails: |method, _| (!matches!(method, "GET" | "HEAD")).then(slow_down),
            alone: [true, false, false],
        },
        Outage {
            name: "reads",
            fails: |method, _| matches!(method, "GET" | "HEAD").then(slow_down),
            alone: [false, true, true],
        },
        Outage {
            name: "the object's prefix",
            fails: |_, path| path.starts_with("/b/folder/").then(slow_down),
            alone: [false, false, true],
        },
        Outage {
            name: "writes of the object's prefix",
            fails: |method, path| {
                (path.starts_with("/b/folder/") && method == "PUT").then(slow_down)
            },
            alone: [true, false, true],
        },
        Outage {
            name: "the job's own storage",
            fails: |_, path| path.starts_with("/b/jobs/").then(slow_down),
            alone: [true, false, false],
        },
        Outage {
            name: "a prefix in which the credentials allow nothing else",
            fails: |_, path| {
                let denied = Reply::error(403, "AccessDenied");
                path.starts_with("/b/folder/").then_some(denied)
            },
            alone: [true, true, true],
        },
    ];

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_outage_of_writes_or_of_one_prefix_is_not_blamed_on_one_object() {
        for Outage { name, fails, alone } in OUTAGES {
            let objects = Arc::new(Mutex::new(Vec::<String>::new()));
            let held = Arc::clone(&objects);
            let server = FakeHttp::start(move |request: &Request| {
                let Request { method, path, .. } = request;
                let mut held = held.lock().unwrap();
                match (fails(method, path), method.as_str()) {
                    (Some(reply), _) => reply,
                    (None, "PUT") => {
                        held.push(path.clone());
                        Reply::new(200, "").with("etag", "\"x\"")
                    }
                    (None, "POST") => {
                        let body = String::from_utf8_lossy(&request.body).into_owned();
                        held.retain(|path| !body.contains(path.trim_start_matches("/b/")));
                        Reply::new(200, "<DeleteResult></DeleteResult>")
                    }
                    (None, _) => Reply::error(404, "NoSuchKey"),
                }
            })
            .await;
            let stores = server.stores();
            let (storage, object) = (at(STORAGE), at(OBJECT));
            let shuffle = at("s3://b/jobs/uid/data/0/7/e1a1/shuffle");
            let asked = [
                (CallKind::Read, &object),
                (CallKind::Write, &object),
                (CallKind::Write, &shuffle),
            ];
            for ((kind, object), expected) in asked.into_iter().zip(alone) {
                let found = is_object_alone(&stores, &storage, kind, object).await;
                assert_eq!(found, expected, "{name}: {kind:?} {object}");
            }
            // The object that was written for the test is removed.
            assert_eq!(*objects.lock().unwrap(), [""; 0], "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_silent_answers_no_kind_of_call() {
        let silent: Tricks = Arc::new(|_, _| Box::pin(std::future::pending::<Trick>()));
        let stores = tricky(&Arc::new(InMemory::new()), silent);
        for kind in [CallKind::Read, CallKind::Write] {
            let is_alone = is_object_alone(&stores, &at(STORAGE), kind, &at(OBJECT)).await;
            assert!(!is_alone, "{kind:?}");
        }
    }

    #[test]
    fn only_objects_written_for_the_test_have_such_names() {
        let name = format!("{WRITE_NAME}{:032x}", 7);
        assert!(is_write_question(&name));
        for name in ["_zephyr-write-", "_zephyr-write-7", "shuffle", READ_NAME] {
            assert!(!is_write_question(name), "{name}");
        }
    }
}
