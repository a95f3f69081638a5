//! Ends an output. It removes files that are not of this job, then writes `_SUCCESS.json`, and then
//! removes `_STARTED.json`. Each step begins only after the previous step is complete. The process
//! may end at any point. Then [`close`] can be called again.
//!
//! Deletes only files under names that the sink's path can produce, and unchanged files that the
//! claim lists as replaced. Deletes only while the folder belongs to this job. Never deletes an
//! input of the job, or a file behind a link to a folder below the sink's folder.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::{ObjectStoreExt, PutPayload};
use zephyr_crds::pipeline::SinkMode;
use zephyr_engine::coordinator::record::OutputFile;
use zephyr_engine::id::TaskAttempt;

use super::claim::{
    CALLS_AT_ONCE, finished_meanwhile, in_the_way, named, pattern_in, read_record,
    refuse_another_jobs_folder, see, sizes, superseded,
};
use super::inputs::Inputs;
use super::intent::{Intent, IntentState, intent_location, read_intent};
use super::leftovers::remove_staged;
use super::links::refuse_files_behind_links;
use super::output::Output;
use super::owner::{place_of, read_owner};
use super::replaced::unchanged;
use super::{
    Finalized, MANIFEST_NAME, Outcome, OutputError, final_uri, local_folder, manifest,
    manifest_location, staging_folders,
};
use crate::storage::{
    Cause, Location, Match, MatchKind, NamePattern, Placed, Replaced, StorageError, persist,
    put_if_absent, read_versioned, remove_object, replace, size_of,
};

/// How many names are collected for deletion at most before the folder is listed again.
const DELETED_AT_ONCE: usize = 10_000;

/// How many files are deleted between two checks of the folder's owner.
const DELETED_BETWEEN_LOOKS: usize = 500;

/// Removes the files that the output replaces, and writes the manifest beside the sink's files.
/// Returns the uri of the manifest. All files of the output must be complete. `more` are
/// the files that are not those of the sink.
pub async fn close(
    output: &Output,
    plan_digest: &str,
    files: &[(TaskAttempt, OutputFile)],
    more: &[(TaskAttempt, OutputFile)],
) -> Result<String, OutputError> {
    let location = manifest_location(&output.path).map_err(OutputError::Store)?;
    let text = manifest(&output.job, &output.full_name(), plan_digest, files, more);
    let files: Vec<(TaskAttempt, OutputFile)> = files.iter().chain(more).cloned().collect();
    let files = files.as_slice();
    let text = bytes::Bytes::from(text.map_err(|error| {
        let cause = Cause::Other(error.to_string());
        OutputError::Store(StorageError::new("writing", &location, cause))
    })?);
    let mut writers = vec![output.job.to_string()];
    let mut paths = vec![output.path.clone()];
    paths.extend(output.more_paths.iter().cloned());
    match read_owner(&output.stores, &location).await? {
        Some(owner) if !owner.is(&output.job) => {
            return Err(finished_meanwhile(output, &location, &owner));
        }
        Some(_) if stands(output, &location, &text).await? => {
            // An earlier process of this job wrote the manifest, and ended before it removed the
            // claim. Perhaps it also left the staged files of other jobs.
            let stored = read_intent(&output.stores, &intent_location(&location)).await;
            let intent = stored.ok().flatten().map(|stored| stored.intent);
            let own = intent.filter(|intent| intent.job_uid == output.job.as_str());
            if let Some(own) = own {
                writers.extend(own.earlier_uids);
                paths.extend(own.earlier_paths);
            }
        }
        Some(_) | None => {
            let intent = hold(output).await?;
            for path in &output.more_paths {
                refuse_another_jobs_folder(output, &location, path).await?;
            }
            remove_what_is_replaced(output, &location, &intent, files).await?;
            if intent.continues || intent.took_over_from.is_some() {
                check_contents(output, files).await?;
            }
            hold(output).await?;
            write(output, &location, text).await?;
            writers.extend(intent.earlier_uids);
            paths.extend(intent.earlier_paths);
        }
    }
    // An earlier run may have staged files where this one has none, such as dead letters.
    let mut folders = staging_folders(files);
    folders.extend(paths.iter().filter_map(|path| local_folder(path)));
    remove_staged(&writers, folders).await;
    release(output).await?;
    Ok(location.to_string())
}

async fn stands(output: &Output, location: &Location, text: &[u8]) -> Result<bool, OutputError> {
    let found = read_versioned(&output.stores, location, text.len() as u64).await;
    match found {
        Ok(found) => Ok(found.is_some_and(|found| found.bytes == text)),
        Err(error) if error.is_transient() => Err(OutputError::Store(error)),
        Err(_) => Ok(false),
    }
}

async fn write(
    output: &Output,
    location: &Location,
    text: bytes::Bytes,
) -> Result<(), OutputError> {
    let placed = put_if_absent(&output.stores, location, text.clone()).await;
    match placed.map_err(OutputError::Store)? {
        Placed::Mine => Ok(()),
        Placed::Theirs(_) => match read_owner(&output.stores, location).await? {
            Some(owner) if !owner.is(&output.job) => {
                Err(finished_meanwhile(output, location, &owner))
            }
            // An earlier coordinator of this job wrote the manifest with other bytes.
            Some(_) | None => {
                let store = output.stores.open(location).map_err(OutputError::Store)?;
                let payload = PutPayload::from(text);
                let put = || store.durable.put(location.path(), payload.clone());
                let put = persist(&output.stores, "writing", location, put).await;
                put.map(drop).map_err(OutputError::Store)
            }
        },
    }
}

/// Fails unless the folder belongs to this job now. If somebody removed the claim, and no other job
/// has claimed the folder since, the claim is written again. Returns whether existing files with
/// names of output files may be replaced.
pub async fn hold_output(output: &Output) -> Result<bool, OutputError> {
    let location = manifest_location(&output.path).map_err(OutputError::Store)?;
    if let Some(owner) = read_owner(&output.stores, &location).await? {
        return if owner.is(&output.job) {
            Ok(true)
        } else {
            Err(finished_meanwhile(output, &location, &owner))
        };
    }
    hold(output).await.map(|intent| may_replace(&intent))
}

/// Whether existing files under the names that the job writes may be replaced.
pub(super) fn may_replace(intent: &Intent) -> bool {
    intent.mode == SinkMode::Overwrite || intent.continues
}

/// Completes the upload of a committed attempt while the folder belongs to this job. In mode
/// `Refuse`, a file that appeared under its name after the job's check is not replaced.
///
/// # Errors
/// The folder now belongs to another job, the file belongs to another job, or a store failed.
pub async fn complete_output(output: &Output, file: &OutputFile) -> Result<Finalized, OutputError> {
    if !hold_output(output).await? {
        let (location, _) = super::upload(file).map_err(OutputError::Store)?;
        let size = size_of(&output.stores, &location).await;
        if size.map_err(OutputError::Store)?.is_some() {
            return match super::stands(&output.stores, &location, file).await {
                Ok(true) => Ok(Finalized::Stands),
                Ok(false) => Err(OutputError::InTheWay {
                    found: location.to_string(),
                    problem: "a file with the name of an output file appeared there while the job ran, or the store damaged a finished file",
                    allowed: "let nothing else write there, and create a new job",
                }),
                Err(error) => Err(OutputError::Store(error)),
            };
        }
    }
    let outcome = super::complete_and_compare(&output.stores, file).await;
    match outcome.map_err(OutputError::Store)? {
        Outcome::Stands => Ok(Finalized::Stands),
        Outcome::Lost => Ok(Finalized::Lost),
        Outcome::Damaged => {
            make_way(output, file).await?;
            Ok(Finalized::Lost)
        }
    }
}

/// Removes a file that this coordinator has just completed and that the store damaged, while the
/// folder belongs to this job. Otherwise the next attempt of the task could not complete its file
/// under this name.
async fn make_way(output: &Output, file: &OutputFile) -> Result<(), OutputError> {
    hold_output(output).await?;
    let (location, _) = super::upload(file).map_err(OutputError::Store)?;
    let removed = remove_object(&output.stores, &location).await;
    removed.map_err(OutputError::Store)
}

async fn hold(output: &Output) -> Result<Intent, OutputError> {
    let manifest = manifest_location(&output.path).map_err(OutputError::Store)?;
    let location = intent_location(&manifest);
    if let Some(stored) = read_intent(&output.stores, &location).await? {
        return mine(output, &location, stored.intent);
    }
    // The copy of the claim in the job's own storage is missing too, so the job never held the
    // folder.
    let Some(record) = read_record(output).await? else {
        return Err(OutputError::InTheWay {
            found: location.to_string(),
            problem: "the marker by which this job claimed its folder is gone",
            allowed: "create a new job",
        });
    };
    let said = put_if_absent(&output.stores, &location, record.found.bytes).await;
    match said.map_err(OutputError::Store)? {
        Placed::Mine => Ok(record.intent),
        Placed::Theirs(found) => match Intent::parse(&found) {
            Ok(intent) => mine(output, &location, intent),
            Err(problem) => Err(super::owner::unknown(&location, &problem)),
        },
    }
}

fn mine(output: &Output, location: &Location, intent: Intent) -> Result<Intent, OutputError> {
    if intent.job_uid == output.job.as_str() {
        return Ok(intent);
    }
    Err(superseded(output, location, &intent))
}

/// The size of each file of this job, by the path of the file.
type Own = BTreeMap<String, u64>;

async fn remove_what_is_replaced(
    output: &Output,
    manifest: &Location,
    intent: &Intent,
    files: &[(TaskAttempt, OutputFile)],
) -> Result<(), OutputError> {
    let own: Arc<Own> = Arc::new(
        (files.iter())
            .filter_map(|(_, file)| {
                let location = Location::parse(final_uri(file)).ok()?;
                Some((location.path().to_string(), file.bytes))
            })
            .collect(),
    );
    let inputs = Inputs::of(output).await?;
    let pattern = output.pattern()?;
    sweep(output, &pattern, intent, &own, &inputs).await?;
    for path in &intent.earlier_paths {
        let pattern = pattern_in(path, manifest)?;
        sweep(output, &pattern, intent, &own, &inputs).await?;
    }
    let folder = manifest.parent();
    let listed = intent.replaces.files.iter().filter_map(|old| {
        let place = place_of(&folder, old)?;
        (!own.contains_key(place.path().as_ref())).then_some((place, old))
    });
    // If a file changed after it was checked, it is not the listed file any more, so it stays.
    let old = unchanged(output, listed.collect()).await?;
    // A link may have appeared while the job ran.
    refuse_files_behind_links(&folder, &old).await?;
    delete(output, &old, &inputs).await
}

/// Deletes every file whose name matches and that is not of this job. Checks that all files of this
/// job exist and have their sizes.
async fn sweep(
    output: &Output,
    pattern: &NamePattern,
    intent: &Intent,
    own: &Arc<Own>,
    inputs: &Inputs,
) -> Result<(), OutputError> {
    loop {
        let seen = Arc::new(AtomicU64::new(0));
        let (known, counted) = (Arc::clone(own), Arc::clone(&seen));
        let wanted = move |entry: &Match| match known.get(entry.location.path().as_ref()) {
            Some(bytes) if *bytes == entry.size && entry.kind == MatchKind::File => {
                counted.fetch_add(1, Ordering::Relaxed);
                false
            }
            Some(_) | None => true,
        };
        let sight = see(output, pattern, DELETED_AT_ONCE, wanted).await?;
        let of_this_job = |entry: &&Match| own.contains_key(entry.location.path().as_ref());
        let named_so = own.keys().filter(|path| pattern.matches(path)).count();
        let is_complete = seen.load(Ordering::Relaxed) >= named_so as u64;
        if named_so > 0 && (!is_complete || sight.entries.iter().any(|entry| of_this_job(&entry))) {
            check_own(output, own).await?;
        }
        let foreign: Vec<&Match> = (sight.entries.iter())
            .filter(|entry| !of_this_job(entry))
            .collect();
        if foreign.is_empty() {
            return Ok(());
        }
        if !may_replace(intent) {
            return Err(OutputError::InTheWay {
                found: named(&sight),
                problem: "files with names of output files appeared there while the job ran",
                allowed: "let nothing else write there, and create a new job",
            });
        }
        if let Some(odd) = foreign.iter().find(|entry| entry.kind != MatchKind::File) {
            return Err(in_the_way(odd));
        }
        let foreign: Vec<Location> = foreign
            .into_iter()
            .map(|entry| entry.location.clone())
            .collect();
        delete(output, &foreign, inputs).await?;
        if sight.count <= foreign.len() as u64 {
            return Ok(());
        }
    }
}

/// Fails unless every file of this job exists as it was written. If another job has written in the
/// meantime, the folder contains a mixture.
async fn check_own(output: &Output, own: &Own) -> Result<(), OutputError> {
    let folder = manifest_location(&output.path).map_err(OutputError::Store)?;
    let place = |path: &String| {
        let path = object_store::path::Path::parse(path).unwrap_or_default();
        folder.with_path(path)
    };
    let places: Vec<Location> = own.keys().map(place).collect();
    let sizes = sizes(&output.stores, places.clone()).await?;
    for ((place, size), bytes) in places.into_iter().zip(sizes).zip(own.values()) {
        if size == Some(*bytes) {
            continue;
        }
        return Err(OutputError::InTheWay {
            found: match size {
                Some(size) => format!("{place} of {size} bytes; {bytes} were written"),
                None => format!("no {place}; {bytes} bytes were written"),
            },
            problem: "a finished file differs from what this job wrote",
            allowed: "let nothing else write there, and create a new job",
        });
    }
    Ok(())
}

/// Compares the contents of this job's files. The job that held the folder earlier may have
/// completed a file with the same size after it lost the folder.
async fn check_contents(
    output: &Output,
    files: &[(TaskAttempt, OutputFile)],
) -> Result<(), OutputError> {
    for (_, file) in files {
        let (location, _) = super::upload(file).map_err(OutputError::Store)?;
        let is_own = super::stands(&output.stores, &location, file).await;
        if !is_own.map_err(OutputError::Store)? {
            return Err(OutputError::InTheWay {
                found: location.to_string(),
                problem: "a finished file differs from what this job wrote",
                allowed: "let nothing else write there, and create a new job",
            });
        }
    }
    Ok(())
}

async fn delete(output: &Output, files: &[Location], inputs: &Inputs) -> Result<(), OutputError> {
    inputs.spare(files)?;
    for files in files.chunks(DELETED_BETWEEN_LOOKS) {
        hold(output).await?;
        let (first, count) = (files.first().map(ToString::to_string), files.len());
        tracing::info!(first, count, "files that the output replaces are removed");
        let removal = |file: &Location| {
            let (stores, file) = (output.stores.clone(), file.clone());
            async move { remove_object(&stores, &file).await }.boxed()
        };
        let removals: Vec<_> = files.iter().map(removal).collect();
        let removals = futures::stream::iter(removals).buffered(CALLS_AT_ONCE);
        let removed: Result<Vec<()>, _> = removals.try_collect().await;
        removed.map_err(OutputError::Store)?;
    }
    Ok(())
}

/// Removes the claim. The claim has no effect beside the job's own manifest, so it may stay if it
/// cannot be removed.
async fn release(output: &Output) -> Result<(), OutputError> {
    let manifest = manifest_location(&output.path).map_err(OutputError::Store)?;
    let location = intent_location(&manifest);
    let is_own = match read_intent(&output.stores, &location).await {
        Ok(stored) => stored.is_some_and(|stored| stored.intent.job_uid == output.job.as_str()),
        Err(error) if error.is_transient() => return Err(error),
        Err(_) => false,
    };
    if !is_own {
        return Ok(());
    }
    match remove_object(&output.stores, &location).await {
        Err(error) if error.is_transient() => Err(OutputError::Store(error)),
        Err(error) => {
            tracing::warn!(%error, "{MANIFEST_NAME} is written; the marker of the job's start stays beside it");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Records that the job has ended without output, if it holds the folder. Then a later job may
/// claim it.
pub async fn give_up(output: &Output) -> Result<(), OutputError> {
    let manifest = manifest_location(&output.path).map_err(OutputError::Store)?;
    let location = intent_location(&manifest);
    let Some(stored) = read_intent(&output.stores, &location).await? else {
        return Ok(());
    };
    let is_own = stored.intent.job_uid == output.job.as_str();
    if !is_own || stored.intent.state == IntentState::Failed {
        return Ok(());
    }
    let failed = Intent {
        state: IntentState::Failed,
        ..stored.intent
    };
    let text = failed.print(&location)?;
    let replaced = replace(&output.stores, &location, &stored.found, text).await;
    // If the claim was changed in the meantime, another job holds the folder.
    let (Replaced::Done | Replaced::Changed) = replaced.map_err(OutputError::Store)?;
    Ok(())
}
