//! Counts the records that an attempt skipped at each place of its stage, and keeps the first one
//! of each place. Decides nothing: the coordinator compares the numbers with what the job allows.

use std::collections::BTreeMap;
use std::fmt::Display;

use zephyr_engine::coordinator::record::BadRecords;
use zephyr_engine::pipeline::Origin;
use zephyr_engine::plan::{Plan, Stage};

/// The longest sentence about a bad record, in characters. The ledger stores one sentence for each
/// task and place, and the job's status shows one for each place.
const MAX_MESSAGE_CHARS: usize = 300;

/// Cuts the sentence to the length that is reported.
pub(crate) fn cut_message(text: &str) -> String {
    match text.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The bad records of one attempt.
pub(super) struct BadBook {
    places: BTreeMap<Origin, Counted>,
}

struct Counted {
    shows_messages: bool,
    /// Whether the job limits the share of bad records, so that the number of all records is
    /// reported too.
    has_share: bool,
    arrived: u64,
    skipped: u64,
    /// The first bad record: the position of its file in the assignment, and the sentence.
    first: Option<(usize, String)>,
}

impl Counted {
    /// Counts a bad record or file, and keeps the sentence about the first one. The bad records of
    /// one file must arrive in their order.
    fn skip(&mut self, position: usize, sentence: impl FnOnce(bool) -> String) {
        self.skipped += 1;
        let is_first = self
            .first
            .as_ref()
            .is_none_or(|(first, _)| position < *first);
        if is_first {
            let sentence = sentence(self.shows_messages);
            self.first = Some((position, cut_message(&sentence)));
        }
    }
}

impl BadBook {
    /// Returns an empty book for an attempt of a task of this stage.
    pub(super) fn new(plan: &Plan, stage: &Stage) -> Self {
        let places = plan.origins(stage).into_iter().filter_map(|origin| {
            let on_error = plan.on_errors.get(&origin)?;
            let counted = Counted {
                shows_messages: on_error.shows_messages,
                has_share: on_error.max_skipped_per_million.is_some(),
                arrived: 0,
                skipped: 0,
                first: None,
            };
            Some((origin, counted))
        });
        Self {
            places: places.collect(),
        }
    }

    /// Whether bad records are skipped at this place.
    pub(super) fn has(&self, origin: Origin) -> bool {
        self.places.contains_key(&origin)
    }

    /// Counts records that arrived at a place.
    pub(super) fn arrived(&mut self, origin: Origin, records: u64) {
        if let Some(counted) = self.places.get_mut(&origin) {
            counted.arrived += records;
        }
    }

    /// Counts a bad record, which was read at `place`. `position` is that of its file in the
    /// assignment.
    pub(super) fn skip(
        &mut self,
        origin: Origin,
        position: usize,
        place: impl Display,
        message: impl Display,
    ) {
        if let Some(counted) = self.places.get_mut(&origin) {
            counted.skip(position, |shows_messages| {
                if shows_messages {
                    format!("{place}: {message}")
                } else {
                    place.to_string()
                }
            });
        }
    }

    /// Counts a bad file. The error already names the file.
    pub(super) fn skip_file(&mut self, origin: Origin, position: usize, error: impl Display) {
        if let Some(counted) = self.places.get_mut(&origin) {
            counted.skip(position, |_| error.to_string());
        }
    }

    /// Returns the entries of the report. A place has no entry if nothing was skipped there and the
    /// job does not limit the share of bad records.
    pub(super) fn finish(self) -> Vec<BadRecords> {
        let said = self.places.into_iter().filter_map(|(origin, counted)| {
            let matters = counted.skipped > 0 || counted.has_share;
            matters.then_some(BadRecords {
                origin,
                arrived: counted.arrived,
                skipped: counted.skipped,
                first: counted.first.map(|(_, sentence)| sentence),
            })
        });
        said.collect()
    }
}
