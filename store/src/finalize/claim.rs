//! Claims an output folder: a job writes `_STARTED.json` before any of its workers starts, and only
//! if the folder contains nothing that would mix with its output. The function `decide` decides the
//! next step from the contents of the folder. After each step the folder is read again, so the
//! process may end after any step.
//!
//! This module deletes only the `_SUCCESS.json` that the job has recorded as replaced.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{FutureExt, StreamExt, TryStreamExt};
use zephyr_crds::pipeline::SinkMode;

use super::close::may_replace;
use super::inputs::{Inputs, is_input};
use super::intent::{Intent, IntentState, StoredIntent, intent_location, read_intent};
use super::output::Output;
use super::owner::{Owner, place_of, read_old_files, read_owner};
use super::replaced::as_listed;
use super::silence::{Gone, OwnerWatch, storage_uri};
use super::{MANIFEST_NAME, OutputError, STARTED_NAME, manifest_location};
use crate::storage::{
    Cause, Location, Match, MatchKind, NamePattern, Placed, Replaced, Sight, StorageError, Stores,
    list_matching, put_if_absent, read_versioned, remove_object, replace, size_of,
};

/// How many files one message names at most.
pub(super) const MAX_NAMED: usize = 3;

/// How many steps one call makes at most. A call needs more only if other jobs change the folder
/// before each of its steps. Then it fails and is tried again later.
const ROUNDS: u32 = 10;

/// How many different paths runs of one job may have written to in a folder. If there are more,
/// somebody has to clean up.
const MAX_EARLIER_PATHS: usize = 64;

/// Unfinished jobs may have left staged files on a local disk. At the end, those of at most this
/// many jobs are removed. The staged files of older jobs stay as hidden files.
const MAX_EARLIER_UIDS: usize = 16;

/// How many sizes are requested at the same time.
pub(super) const CALLS_AT_ONCE: usize = 16;

/// All facts about the folder that the decision depends on.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The copy of this job's claim in its own storage, if this job has claimed the folder.
    pub(super) record: Option<Intent>,
    pub(super) intent: Option<Intent>,
    pub(super) manifest: Option<Owner>,
    /// The job with another name that holds the folder, if it is known that this job has no running
    /// process any more.
    pub(super) gone: Option<Gone>,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The folder belongs to this job, so it can continue.
    GoOn,
    /// Store a copy of the claim in the job's own storage.
    KeepRecord,
    /// Write the claim again, because somebody removed it.
    SayAgain,
    /// Say in the claim that the job runs, because it was restarted after it had failed, or because
    /// a job of another name continues it.
    RunAgain,
    /// Remove the manifest of the output that is replaced.
    RemoveManifest,
    /// Check whether the job with another name that holds the folder may still be running.
    AskOwner(Box<Intent>),
    /// Read the contents of the folder, and claim it for this job.
    Claim(Box<Claim>),
}

/// The facts with which a claim begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// An unfinished run of the job with this name, which this one continues.
    continues: Option<Intent>,
    /// A job with another name that held the folder and failed, or that no longer runs.
    after: Option<Intent>,
    /// How it is known that the job in `after` no longer runs.
    took_over: Option<Gone>,
    /// The job whose manifest is replaced.
    replaces: Option<String>,
    /// The claim of a finished job. Its process ended before it removed the claim.
    finished: Option<Intent>,
}

/// Claims the sink's folder for the job, if that is allowed. If the job already holds the folder,
/// it keeps it. The process may end at any point. Then the same or another process may call this
/// function again. `watch` must be the same value in all calls of one process.
pub async fn claim(output: &Output, watch: &mut OwnerWatch) -> Result<(), OutputError> {
    let manifest = manifest_location(&output.path).map_err(OutputError::Store)?;
    let location = intent_location(&manifest);
    let mut gone = None;
    for _ in 0..ROUNDS {
        let record = read_record(output).await?;
        let stored = read_intent(&output.stores, &location).await?;
        let facts = Facts {
            record: record.as_ref().map(|stored| stored.intent.clone()),
            intent: stored.as_ref().map(|stored| stored.intent.clone()),
            manifest: read_owner(&output.stores, &manifest).await?,
            gone: gone.clone(),
        };
        match decide(output, &manifest, &facts)? {
            Step::GoOn => return Ok(()),
            Step::KeepRecord => {
                if let Some(stored) = stored {
                    keep_record(output, stored.found.bytes).await?;
                }
            }
            Step::SayAgain => {
                if let Some(record) = record {
                    let said = put_if_absent(&output.stores, &location, record.found.bytes);
                    said.await.map_err(OutputError::Store)?;
                }
            }
            Step::RunAgain => {
                if let Some(stored) = stored {
                    let running = Intent {
                        state: IntentState::Running,
                        namespace: output.namespace.clone(),
                        name: output.name.clone(),
                        ..stored.intent.clone()
                    };
                    say(output, &location, Some(&stored), &running).await?;
                }
            }
            Step::RemoveManifest => {
                let removed = remove_object(&output.stores, &manifest);
                removed.await.map_err(OutputError::Store)?;
            }
            Step::AskOwner(owner) => {
                gone = Some(watch.ask(output, &location, &owner).await?);
            }
            Step::Claim(claim) => {
                let intent = look_around(output, &manifest, &claim, None).await?;
                say(output, &location, stored.as_ref(), &intent).await?;
                if let Some(from) = &intent.took_over_from {
                    tracing::warn!(%location, from, "the output's folder is taken over");
                }
            }
        }
    }
    let cause = Cause::Busy("other jobs write there too, and were faster each time".to_owned());
    Err(OutputError::Store(StorageError::new(
        "writing", &location, cause,
    )))
}

/// Decides the next step from what was read in the folder. Pure.
pub(super) fn decide(
    output: &Output,
    manifest: &Location,
    facts: &Facts,
) -> Result<Step, OutputError> {
    let Facts {
        record,
        intent,
        manifest: owner,
        gone: _,
    } = facts;
    if owner.as_ref().is_some_and(|owner| owner.is(&output.job)) {
        return Ok(Step::GoOn);
    }
    // If this job had claimed the folder, the job that finished there has taken the folder from it.
    let taken = |owner: &Owner| match record {
        Some(_) => finished_meanwhile(output, manifest, owner),
        None => taken(output, manifest, owner),
    };
    match (record, intent) {
        // The job's own storage was removed after the job had failed. What the job left in the
        // folder does not belong to its new run, and is handled like the files of an earlier one.
        (None, Some(intent))
            if intent.job_uid == output.job.as_str()
                && intent.state == IntentState::Failed
                && owner.is_none() =>
        {
            decide_after(output, manifest, intent, facts)
        }
        (record, Some(intent)) if intent.job_uid == output.job.as_str() => match owner {
            _ if record.is_none() => Ok(Step::KeepRecord),
            None if intent.state == IntentState::Failed || !intent.is_called_as(output) => {
                Ok(Step::RunAgain)
            }
            None => Ok(Step::GoOn),
            Some(owner) if intent.replaces.manifests_of.contains(&owner.job_uid) => {
                Ok(Step::RemoveManifest)
            }
            Some(owner) => Err(taken(owner)),
        },
        (Some(_), Some(other)) => Err(superseded(output, &intent_location(manifest), other)),
        (Some(record), None) => match owner {
            Some(owner) if !record.replaces.manifests_of.contains(&owner.job_uid) => {
                Err(taken(owner))
            }
            Some(_) | None => Ok(Step::SayAgain),
        },
        (None, None) => match (owner, output.mode) {
            (Some(owner), SinkMode::Refuse) => Err(taken(owner)),
            (Some(_), SinkMode::Overwrite) | (None, _) => {
                Ok(Step::Claim(Claim::of(owner.as_ref(), None, None)))
            }
        },
        (None, Some(other)) => decide_after(output, manifest, other, facts),
    }
}

/// Decides the next step if there is a claim of another job and this job has not claimed the folder
/// yet.
fn decide_after(
    output: &Output,
    manifest: &Location,
    other: &Intent,
    facts: &Facts,
) -> Result<Step, OutputError> {
    let owner = facts.manifest.as_ref();
    let is_same_name = other.is_called_as(output);
    let location = intent_location(manifest);
    // The owner of the finished output also wrote this claim. It writes nothing any more, but its
    // process ended before it removed the claim.
    let is_finished = owner.is_some_and(|owner| owner.job_uid == other.job_uid);
    let gone = facts.gone.as_ref().filter(|gone| gone.is(other));
    let may_run = other.state == IntentState::Running && gone.is_none();
    if !is_finished && !is_same_name && may_run {
        return Ok(Step::AskOwner(Box::new(other.clone())));
    }
    if let (Some(owner), SinkMode::Refuse) = (owner, output.mode) {
        return Err(taken(output, manifest, owner));
    }
    if is_finished {
        let mut claim = Claim::of(owner, None, None);
        claim.finished = Some(other.clone());
        return Ok(Step::Claim(claim));
    }
    if !is_same_name {
        let mut claim = Claim::of(owner, None, Some(other));
        claim.took_over = gone.cloned();
        return Ok(Step::Claim(claim));
    }
    if other.mode == SinkMode::Overwrite && output.mode == SinkMode::Refuse {
        return Err(OutputError::Overwriting {
            folder: manifest.parent().to_string(),
            intent: location.to_string(),
            owner: other.owner(),
        });
    }
    Ok(Step::Claim(Claim::of(owner, Some(other), None)))
}

impl Claim {
    fn of(owner: Option<&Owner>, continues: Option<&Intent>, after: Option<&Intent>) -> Box<Self> {
        Box::new(Self {
            continues: continues.cloned(),
            after: after.cloned(),
            took_over: None,
            replaces: owner.map(|owner| owner.job_uid.clone()),
            finished: None,
        })
    }
}

/// Returns the error if another job's output is finished in the folder, and this job has not
/// claimed the folder.
fn taken(output: &Output, manifest: &Location, owner: &Owner) -> OutputError {
    OutputError::Taken {
        folder: manifest.parent().to_string(),
        whose: if owner.is_called(&output.full_name()) {
            "an earlier run of the job of this name"
        } else {
            "another job"
        },
        manifest: manifest.to_string(),
        owner: owner.shown(),
        advice: match output.mode {
            SinkMode::Refuse => {
                "write to another folder, or set spec.pipeline.sink.files.mode: Overwrite to replace it"
            }
            SinkMode::Overwrite => {
                "it was finished while this job ran, so run one job at a time there, or write to another folder"
            }
        },
    }
}

/// Returns the error if another job finished in the folder after this job had claimed it.
pub(super) fn finished_meanwhile(
    output: &Output,
    manifest: &Location,
    owner: &Owner,
) -> OutputError {
    let is_same_name = owner.is_called(&output.full_name());
    lost(is_same_name, manifest, owner.shown())
}

/// Returns the error if another job claimed the folder after this job had claimed it.
pub(super) fn superseded(output: &Output, location: &Location, other: &Intent) -> OutputError {
    lost(other.is_called_as(output), location, other.owner())
}

fn lost(is_same_name: bool, found: &Location, owner: String) -> OutputError {
    let (folder, found) = (found.parent().to_string(), found.to_string());
    if is_same_name {
        OutputError::Renewed {
            folder,
            found,
            owner,
        }
    } else {
        OutputError::Superseded {
            folder,
            found,
            owner,
        }
    }
}

/// Reads the contents of the folder and makes the claim of this job. Returns the claim, or an error
/// that names the obstacle. If `inputs` is `None`, the inputs are those in the job's plan.
pub(super) async fn look_around(
    output: &Output,
    manifest: &Location,
    claim: &Claim,
    inputs: Option<Inputs>,
) -> Result<Intent, OutputError> {
    let folder = manifest.parent();
    let mut intent = Intent::new(
        output.job.as_str(),
        &output.namespace,
        &output.name,
        output.mode,
        &output.path,
    );
    intent.storage = Some(storage_uri(output));
    intent.took_over_from = claim.took_over.as_ref().map(Gone::shown);
    let patterns = output.patterns()?;
    for (pattern, path) in patterns
        .iter()
        .zip([&output.path].into_iter().chain(&output.more_paths))
    {
        if pattern.has_numbered_folders() {
            refuse_nested_outputs(output, pattern).await?;
        }
        refuse_another_jobs_folder(output, manifest, path).await?;
    }
    // The job's other paths are handled like the paths of earlier runs.
    intent.earlier_paths.clone_from(&output.more_paths);
    let mut inherited = Vec::new();
    if output.has_begun {
        inherited.extend(patterns.iter().cloned());
    }
    if let Some(earlier) = &claim.continues {
        intent.continues = true;
        let paths = earlier.earlier_paths.iter().chain([&earlier.path]);
        for path in paths {
            inherited.push(pattern_in(path, manifest)?);
            if *path != output.path && !intent.earlier_paths.contains(path) {
                intent.earlier_paths.push(path.clone());
            }
        }
        if intent.earlier_paths.len() > MAX_EARLIER_PATHS {
            return Err(OutputError::InTheWay {
                found: format!("{} paths of earlier runs in {folder}", inherited.len()),
                problem: "more than a job can keep track of",
                allowed: "remove what earlier runs left there, with their _STARTED.json, or write to another folder",
            });
        }
    }
    // The process of a finished job may have ended before it removed its staged files.
    intent.earlier_uids.extend(claim.replaces.clone());
    let earlier = claim.continues.iter().chain(&claim.after);
    for earlier in earlier.chain(&claim.finished) {
        let uids = [&earlier.job_uid].into_iter().chain(&earlier.earlier_uids);
        intent
            .earlier_uids
            .extend(uids.take(MAX_EARLIER_UIDS).cloned());
    }
    for pattern in &patterns {
        refuse_what_is_there(output, pattern, inherited.clone()).await?;
    }
    if let Some(failed) = &claim.after {
        let paths = failed.earlier_paths.iter().chain([&failed.path]);
        let theirs: Result<Vec<_>, _> = paths.map(|path| pattern_in(path, manifest)).collect();
        refuse_leftovers(output, &patterns, &theirs?, failed).await?;
    }
    // An earlier job with mode Overwrite may have claimed to replace files. A job with mode Refuse
    // does not replace them.
    let heirs = claim.continues.iter().chain(&claim.after);
    let mut files = BTreeSet::new();
    for earlier in heirs.filter(|_| output.mode == SinkMode::Overwrite) {
        intent
            .replaces
            .manifests_of
            .extend(earlier.replaces.manifests_of.iter().cloned());
        files.extend(earlier.replaces.files.iter().cloned());
    }
    if let Some(uid) = &claim.replaces {
        intent.replaces.manifests_of.push(uid.clone());
        files.extend(read_old_files(&output.stores, manifest, &patterns).await?);
    }
    intent.replaces.manifests_of.sort();
    intent.replaces.manifests_of.dedup();
    intent.replaces.files = as_listed(output, &folder, files).await?;
    spare_inputs(output, manifest, &intent, inputs).await?;
    Ok(intent)
}

/// Fails if a file that is an input would be removed when the output is complete. A file may have
/// several names.
async fn spare_inputs(
    output: &Output,
    manifest: &Location,
    intent: &Intent,
    inputs: Option<Inputs>,
) -> Result<(), OutputError> {
    if !may_replace(intent) && intent.replaces.files.is_empty() {
        return Ok(());
    }
    let inputs = Arc::new(match inputs {
        Some(inputs) => inputs,
        None => Inputs::of(output).await?,
    });
    if inputs.is_empty() {
        return Ok(());
    }
    let folder = manifest.parent();
    let listed = intent.replaces.files.iter();
    let listed: Vec<Location> = listed.filter_map(|old| place_of(&folder, old)).collect();
    inputs.spare(&listed)?;
    if !may_replace(intent) {
        return Ok(());
    }
    let mut patterns = vec![output.pattern()?];
    for path in &intent.earlier_paths {
        patterns.push(pattern_in(path, manifest)?);
    }
    for pattern in patterns {
        let inputs = Arc::clone(&inputs);
        let wanted = move |entry: &Match| inputs.has(&entry.location);
        let sight = see(output, &pattern, MAX_NAMED, wanted).await?;
        if sight.count > 0 {
            return Err(is_input(named(&sight)));
        }
    }
    Ok(())
}

/// Fails if a path leads to a folder below that of the manifest and another job writes its output
/// there, or has written it.
pub(super) async fn refuse_another_jobs_folder(
    output: &Output,
    manifest: &Location,
    path: &str,
) -> Result<(), OutputError> {
    let other = manifest_location(path).map_err(OutputError::Store)?;
    if other == *manifest {
        return Ok(());
    }
    for marker in [intent_location(&other), other] {
        let size = size_of(&output.stores, &marker).await;
        if size.map_err(OutputError::Store)?.is_some() {
            return Err(OutputError::InTheWay {
                found: marker.to_string(),
                problem: "another job's output is in the folder of the dead letters",
                allowed: "write the dead letters to another folder",
            });
        }
    }
    Ok(())
}

/// Returns the pattern of the names that another path in the same folder, or in a folder below it,
/// produces. If the path is elsewhere, it cannot belong to a job with this folder, and this is an
/// error.
pub(super) fn pattern_in(path: &str, manifest: &Location) -> Result<NamePattern, OutputError> {
    let lies_here = manifest_location(path).is_ok_and(|own| own.is_at_or_below(manifest));
    match super::output::pattern(path) {
        Ok(pattern) if lies_here => Ok(pattern),
        Ok(_) | Err(_) => Err(super::owner::unknown(
            &intent_location(manifest),
            "the path leads to another folder",
        )),
    }
}

/// Fails if files exist under the names that this job writes. Files of an earlier run that this job
/// continues are allowed, and mode `Overwrite` allows all plain files. Anything else, such as a
/// folder, is not allowed in either mode.
async fn refuse_what_is_there(
    output: &Output,
    pattern: &NamePattern,
    inherited: Vec<NamePattern>,
) -> Result<(), OutputError> {
    let may_be_replaced = output.mode == SinkMode::Overwrite;
    let wanted = move |entry: &Match| {
        let path = entry.location.path().as_ref();
        let is_left = || inherited.iter().any(|pattern| pattern.matches(path));
        entry.kind != MatchKind::File || !may_be_replaced && !is_left()
    };
    let sight = see(output, pattern, MAX_NAMED, wanted).await?;
    if let Some(odd) = (sight.entries.iter()).find(|entry| entry.kind != MatchKind::File) {
        return Err(in_the_way(odd));
    }
    if sight.count == 0 {
        return Ok(());
    }
    Err(OutputError::Exists {
        found: named(&sight),
    })
}

/// Fails if a failed job with another name left files under names that this job does not write.
/// Such files would stay beside the output.
async fn refuse_leftovers(
    output: &Output,
    patterns: &[NamePattern],
    theirs: &[NamePattern],
    failed: &Intent,
) -> Result<(), OutputError> {
    let mut all = Sight::default();
    let mut known = patterns.to_vec();
    for pattern in theirs {
        let before = known.clone();
        let wanted = move |entry: &Match| {
            let path = entry.location.path().as_ref();
            !before.iter().any(|pattern| pattern.matches(path))
        };
        let sight = see(output, pattern, MAX_NAMED, wanted).await?;
        all.count += sight.count;
        all.entries.extend(sight.entries);
        known.push(pattern.clone());
    }
    if all.count == 0 {
        return Ok(());
    }
    Err(OutputError::InTheWay {
        found: format!("{} of {}", named(&all), failed.owner()),
        problem: "files that a failed job left would stay beside the output",
        allowed: "remove them, or write to another folder",
    })
}

/// Fails if a folder below the sink's folder, with a number in its name, contains the output of
/// another job.
pub(super) async fn refuse_nested_outputs(
    output: &Output,
    pattern: &NamePattern,
) -> Result<(), OutputError> {
    for name in [MANIFEST_NAME, STARTED_NAME] {
        let sight = see(output, &pattern.beside(name), MAX_NAMED, |_| true).await?;
        if sight.count > 0 {
            return Err(OutputError::InTheWay {
                found: named(&sight),
                problem: "another job's output is in a folder that {shard} or {total} stands for",
                allowed: "write to another folder",
            });
        }
    }
    Ok(())
}

/// Returns the sizes of these files in the same order. `None` for a missing file.
pub(super) async fn sizes(
    stores: &Stores,
    places: Vec<Location>,
) -> Result<Vec<Option<u64>>, OutputError> {
    let look = |place: Location| {
        let stores = stores.clone();
        async move { size_of(&stores, &place).await }.boxed()
    };
    let looks: Vec<_> = places.into_iter().map(look).collect();
    let looks = futures::stream::iter(looks).buffered(CALLS_AT_ONCE);
    looks.try_collect().await.map_err(OutputError::Store)
}

/// Writes the claim in place of the one that was read. If another job was faster, nothing is
/// written, and the next round shows the other job's claim.
async fn say(
    output: &Output,
    location: &Location,
    stored: Option<&StoredIntent>,
    intent: &Intent,
) -> Result<(), OutputError> {
    let text = intent.print(location)?;
    match stored {
        None => {
            let placed = put_if_absent(&output.stores, location, text).await;
            let (Placed::Mine | Placed::Theirs(_)) = placed.map_err(OutputError::Store)?;
        }
        Some(stored) => {
            let replaced = replace(&output.stores, location, &stored.found, text).await;
            let (Replaced::Done | Replaced::Changed) = replaced.map_err(OutputError::Store)?;
        }
    }
    Ok(())
}

/// Whether this job has claimed a folder. Its claim names the paths of its files, so they cannot be
/// changed any more.
///
/// # Errors
/// The copy of the claim in the job's own storage cannot be read.
pub async fn has_claimed(output: &Output) -> Result<bool, OutputError> {
    Ok(read_record(output).await?.is_some())
}

/// Reads the copy of the claim that the job stored when it claimed the folder.
pub(super) async fn read_record(output: &Output) -> Result<Option<StoredIntent>, OutputError> {
    let location = output.record()?;
    let found = read_versioned(&output.stores, &location, super::intent::MAX_INTENT_BYTES).await;
    let Some(found) = found.map_err(OutputError::Storage)? else {
        return Ok(None);
    };
    match Intent::parse(&found.bytes) {
        Ok(intent) => Ok(Some(StoredIntent { intent, found })),
        Err(problem) => Err(OutputError::Storage(StorageError::new(
            "reading",
            &location,
            Cause::Damaged(problem),
        ))),
    }
}

async fn keep_record(output: &Output, bytes: bytes::Bytes) -> Result<(), OutputError> {
    let location = output.record()?;
    let kept = put_if_absent(&output.stores, &location, bytes).await;
    kept.map(drop).map_err(OutputError::Storage)
}

/// Lists the names that match the pattern and that `wanted` accepts.
pub(super) async fn see(
    output: &Output,
    pattern: &NamePattern,
    kept_max: usize,
    wanted: impl Fn(&Match) -> bool + Send + Sync + 'static,
) -> Result<Sight, OutputError> {
    let seen = list_matching(&output.stores, pattern, kept_max, Arc::new(wanted)).await;
    seen.map_err(|error| {
        if matches!(error.cause, Cause::Denied(_)) {
            OutputError::MayNotList(error)
        } else {
            OutputError::Store(error)
        }
    })
}

pub(super) fn in_the_way(entry: &Match) -> OutputError {
    OutputError::InTheWay {
        found: entry.location.to_string(),
        problem: match entry.kind {
            MatchKind::Folder => "a folder has the name of an output file",
            MatchKind::BeyondLink | MatchKind::File => {
                "a file with the name of an output file is behind a symbolic link to a folder"
            }
        },
        allowed: "move it away, or write to another folder",
    }
}

/// Returns the first few names, and the number of the others, for a message.
pub(super) fn named(sight: &Sight) -> String {
    let mut names: Vec<String> = (sight.entries.iter())
        .map(|entry| entry.location.to_string())
        .collect();
    names.sort();
    names.truncate(MAX_NAMED);
    let more = sight.count.saturating_sub(names.len() as u64);
    let rest = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    super::owner::shown_long(&format!("{}{rest}", names.join(", ")))
}
