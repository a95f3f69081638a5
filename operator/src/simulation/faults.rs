//! The fault layer between the operator's client and the API server. It applies faults to requests,
//! and keeps the journal of all requests. It knows no scenario and judges nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::api::request::{ApiRequest, Verb};

/// The identity of a request, without the parts that differ between runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Signature {
    pub(crate) verb: Verb,
    pub(crate) kind: &'static str,
    /// The name of the object. It is a star for events, whose names contain the time, and empty for
    /// lists.
    pub(crate) name: String,
    pub(crate) subresource: String,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The operator dies before the request arrives.
    CrashBefore,
    /// The request takes effect, and the operator dies before it has the answer.
    CrashAfter,
    /// The request takes effect, and the connection breaks before the answer.
    ReplyLost,
    /// The connection breaks before the request arrives.
    Reset,
    /// There is no answer until the client gives up.
    Hang,
    /// The answer is an error with this code, and the request has no effect.
    Status(u16),
    /// The answer is 429 with this number of seconds in `Retry-After`.
    TooMany(u32),
    /// The answer shows the state from this number of versions ago.
    Stale(u64),
    /// The watch ends after this many lines.
    Drop(u32),
    /// The watch breaks in the middle of a line.
    Cut,
    /// The watch stays open and is silent for this number of seconds.
    Hold(u32),
    /// After this number of lines the watch stays open and is silent for two minutes.
    Deaf(u32),
    /// The watch reports that its version is too old.
    Expire,
}

/// For which requests a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Span {
    Once,
    /// For all requests with this signature, for this number of seconds after the first one.
    Seconds(u32),
}

/// One fault of a run: it applies to the `nth` request (from 1) with this signature.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) signature: Signature,
    pub(crate) nth: u32,
    pub(crate) span: Span,
    pub(crate) fault: Fault,
}

/// One request, and its result.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) process: u32,
    pub(crate) at: Timestamp,
    pub(crate) signature: Signature,
    pub(crate) nth: u32,
    /// Whether the request is about the objects of one job, unlike a list of all jobs' objects.
    pub(crate) is_for_job: bool,
    /// The body of a deletion.
    pub(crate) options: Value,
    /// The code of the server's answer, even if the answer did not arrive. Absent if the request
    /// never reached the server.
    pub(crate) code: Option<u16>,
    pub(crate) fault: Option<Fault>,
}

/// The faults of one run, and its journal.
#[derive(Clone)]
pub(crate) struct Faults(Arc<Mutex<State>>, watch::Sender<u32>);

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    /// The rules that stay active for some time, each with its end.
    storms: Vec<(Rule, Instant)>,
    journal: Vec<Exchange>,
    /// How many requests of each signature there were so far.
    counts: BTreeMap<Signature, u32>,
}

impl Faults {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        let state = State {
            rules,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)), watch::Sender::new(0))
    }

    /// Records a request. Returns its number in the journal, and its fault.
    pub(super) fn meet(
        &self,
        process: u32,
        at: Timestamp,
        request: &ApiRequest,
    ) -> (usize, Option<Fault>) {
        let signature = Signature::of(request);
        let mut state = self.lock();
        let count = state.counts.entry(signature.clone()).or_default();
        *count += 1;
        let nth = *count;
        let now = Instant::now();
        let mut fault = state
            .storms
            .iter()
            .find(|(rule, ends)| rule.signature == signature && now < *ends)
            .map(|(rule, _)| rule.fault);
        if let Some(index) = state
            .rules
            .iter()
            .position(|rule| rule.signature == signature && rule.nth == nth)
        {
            let rule = state.rules.remove(index);
            fault = Some(rule.fault);
            if let Span::Seconds(seconds) = rule.span {
                let ends = now + Duration::from_secs(seconds.into());
                state.storms.push((rule, ends));
            }
        }
        let options = if request.verb == Verb::Delete {
            request.body.clone()
        } else {
            Value::Null
        };
        state.journal.push(Exchange {
            process,
            at,
            signature,
            nth,
            is_for_job: request.namespace.is_some(),
            options,
            code: None,
            fault,
        });
        (state.journal.len() - 1, fault)
    }

    /// Records the server's answer.
    pub(super) fn answered(&self, number: usize, code: u16) {
        if let Some(exchange) = self.lock().journal.get_mut(number) {
            exchange.code = Some(code);
        }
    }

    /// Makes the operator's process die.
    pub(super) fn crash(&self, process: u32) {
        self.1.send_if_modified(|newest| {
            let is_new = process > *newest;
            *newest = process.max(*newest);
            is_new
        });
    }

    /// Waits until the process must die.
    pub(crate) async fn crashed(&self, process: u32) {
        let mut died = self.1.subscribe();
        // The result is ignored, because the sender exists as long as `self`.
        drop(died.wait_for(|newest| *newest >= process).await);
    }

    pub(crate) fn journal(&self) -> Vec<Exchange> {
        self.lock().journal.clone()
    }

    /// Returns when the operator last tried to write anything.
    pub(crate) fn last_write(&self) -> Option<Timestamp> {
        self.lock()
            .journal
            .iter()
            .rev()
            .find(|one| one.signature.verb.is_write())
            .map(|one| one.at)
    }

    /// Returns when the last request met a fault.
    pub(crate) fn last_fault(&self) -> Option<Timestamp> {
        let state = self.lock();
        let mut met = state.journal.iter().rev().filter(|one| one.fault.is_some());
        met.next().map(|one| one.at)
    }

    /// Returns whether a request waits for an answer that does not arrive, or a watch waits for
    /// lines that do not arrive.
    pub(crate) fn keeps_waiting(&self) -> bool {
        let waits = |fault| matches!(fault, Some(Fault::Hang | Fault::Hold(_) | Fault::Deaf(_)));
        self.lock().journal.iter().any(|one| waits(one.fault))
    }

    /// Returns whether no fault is active.
    pub(crate) fn is_over(&self) -> bool {
        let now = Instant::now();
        self.lock().storms.iter().all(|(_, ends)| now >= *ends)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signature {
    fn of(request: &ApiRequest) -> Self {
        let facts = request.kind.facts();
        let given = request
            .name
            .as_deref()
            .or_else(|| request.body["metadata"]["name"].as_str())
            .unwrap_or("");
        let name = if facts.plural == "events" && !given.is_empty() {
            "*"
        } else {
            given
        };
        Self {
            verb: request.verb,
            kind: facts.plural,
            name: name.to_owned(),
            subresource: request.subresource.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.verb.as_str(), self.kind)?;
        for part in [&self.name, &self.subresource]
            .into_iter()
            .filter(|part| !part.is_empty())
        {
            write!(formatter, "/{part}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} #{}: {:?}",
            self.signature, self.nth, self.fault
        )?;
        match self.span {
            Span::Once => Ok(()),
            Span::Seconds(seconds) => write!(formatter, " for {seconds} s"),
        }
    }
}
