//! Who may write to a folder: a job says that it will, in `_STARTED.json`, before any of its
//! workers starts, and only where nothing stands that it would mix with. Decides from what stands
//! there, by one function; carries out one step at a time, each of which may be the last of this
//! process, and looks again.
//!
//! Deletes nothing but the `_SUCCESS.json` that the job has said it replaces.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{FutureExt, StreamExt, TryStreamExt};
use zephyr_crds::pipeline::SinkMode;

use super::close::may_replace;
use super::inputs::{Inputs, is_input};
use super::intent::{Intent, IntentState, StandingIntent, intent_location, read_intent};
use super::output::Output;
use super::owner::{Owner, place_of, read_old_files, read_owner};
use super::replaced::as_listed;
use super::silence::{Gone, OwnerWatch, storage_uri};
use super::{MANIFEST_NAME, OutputError, STARTED_NAME, manifest_location};
use crate::storage::{
    Cause, Location, Match, MatchKind, NamePattern, Placed, Replaced, Sight, StorageError, Stores,
    list_matching, put_if_absent, read_versioned, remove_object, replace, size_of,
};

/// Files that are named in one sentence.
pub(super) const MAX_NAMED: usize = 3;

/// Times that somebody else may come first before it is looked at again later.
const ROUNDS: u32 = 10;

/// Different paths that runs of one job may have written to in a folder before somebody has to
/// clean up.
const MAX_EARLIER_PATHS: usize = 16;

/// Unfinished jobs whose staged files on a local disk are removed in the end; those of older ones
/// stay, hidden.
const MAX_EARLIER_UIDS: usize = 16;

/// Sizes that are asked for at once.
pub(super) const CALLS_AT_ONCE: usize = 16;

/// All that stands there and matters.
#[derive(Clone, Debug)]
struct Facts {
    /// What this job said when it took the folder, if it has; from its own storage.
    record: Option<Intent>,
    intent: Option<Intent>,
    manifest: Option<Owner>,
    /// The job of another name that holds the folder, if it is known by now that nothing of it runs
    /// any more.
    gone: Option<Gone>,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The folder is this job's: go on.
    GoOn,
    /// Keep in the job's own storage what it said.
    KeepRecord,
    /// Say again what somebody removed.
    SayAgain,
    /// Remove the manifest of the output that is replaced.
    RemoveManifest,
    /// See whether the job of another name that holds the folder may be alive.
    AskOwner(Box<Intent>),
    /// Look at what is there, and say that the folder is this job's.
    Claim(Box<Claim>),
}

/// What a claim begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    /// An unfinished run of the job of this name, which this one continues.
    heir_of: Option<Intent>,
    /// A job of another name that failed here, or that is gone.
    after: Option<Intent>,
    /// How it is known that it is gone.
    took_over: Option<Gone>,
    /// Whose manifest is replaced.
    replaces: Option<String>,
    /// The word of a job that has finished and was ended before it took it back.
    finished: Option<Intent>,
}

/// Takes the sink's folder for the job, if it may have it. A job that has it already keeps it. Safe
/// to be ended at any point and to be called again, by this process or another. `watch` is the same
/// in all calls of one process.
pub async fn claim(output: &Output, watch: &mut OwnerWatch) -> Result<(), OutputError> {
    let manifest = manifest_location(&output.path).map_err(OutputError::Store)?;
    let location = intent_location(&manifest);
    let mut gone = None;
    for _ in 0..ROUNDS {
        let record = read_record(output).await?;
        let standing = read_intent(&output.stores, &location).await?;
        let facts = Facts {
            record: record.as_ref().map(|standing| standing.intent.clone()),
            intent: standing.as_ref().map(|standing| standing.intent.clone()),
            manifest: read_owner(&output.stores, &manifest).await?,
            gone: gone.clone(),
        };
        match decide(output, &manifest, &facts)? {
            Step::GoOn => return Ok(()),
            Step::KeepRecord => {
                if let Some(standing) = standing {
                    keep_record(output, standing.found.bytes).await?;
                }
            }
            Step::SayAgain => {
                if let Some(record) = record {
                    let said = put_if_absent(&output.stores, &location, record.found.bytes);
                    said.await.map_err(OutputError::Store)?;
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
                let intent = look_around(output, &manifest, &claim).await?;
                say(output, &location, standing.as_ref(), &intent).await?;
                if let Some(from) = &intent.took_over_from {
                    tracing::warn!(%location, from, "the output's folder is taken over");
                }
            }
        }
    }
    let cause = Cause::Busy("others write there, too, and came first each time".to_owned());
    Err(OutputError::Store(StorageError::new(
        "writing", &location, cause,
    )))
}

/// One look, one step. Pure.
fn decide(output: &Output, manifest: &Location, facts: &Facts) -> Result<Step, OutputError> {
    let Facts {
        record,
        intent,
        manifest: owner,
        gone: _,
    } = facts;
    if owner.as_ref().is_some_and(|owner| owner.is(&output.job)) {
        return Ok(Step::GoOn);
    }
    // A job that has taken the folder already has lost it to whoever finished there.
    let taken = |owner: &Owner| match record {
        Some(_) => finished_meanwhile(output, manifest, owner),
        None => taken(output, manifest, owner),
    };
    match (record, intent) {
        (record, Some(intent)) if intent.job_uid == output.job.as_str() => match owner {
            _ if record.is_none() => Ok(Step::KeepRecord),
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

/// What another job's word means for one that has not said anything yet.
fn decide_after(
    output: &Output,
    manifest: &Location,
    other: &Intent,
    facts: &Facts,
) -> Result<Step, OutputError> {
    let owner = facts.manifest.as_ref();
    let is_same_name = other.is_called_as(output);
    let location = intent_location(manifest);
    // Who has finished writes nothing any more: its word was only not taken back.
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
    fn of(owner: Option<&Owner>, heir_of: Option<&Intent>, after: Option<&Intent>) -> Box<Self> {
        Box::new(Self {
            heir_of: heir_of.cloned(),
            after: after.cloned(),
            took_over: None,
            replaces: owner.map(|owner| owner.job_uid.clone()),
            finished: None,
        })
    }
}

/// Somebody else's output is finished there, and this job has not taken the folder.
fn taken(output: &Output, manifest: &Location, owner: &Owner) -> OutputError {
    OutputError::Taken {
        folder: manifest.parent().to_string(),
        manifest: manifest.to_string(),
        owner: owner.shown(),
        advice: match output.mode {
            SinkMode::Refuse => {
                "write to another folder, or set spec.pipeline.sink.files.mode: Overwrite to have it replaced"
            }
            SinkMode::Overwrite => {
                "it was finished while this job ran, so run one job at a time there, or write to another folder"
            }
        },
    }
}

/// Somebody else has finished there after this job had taken the folder.
pub(super) fn finished_meanwhile(
    output: &Output,
    manifest: &Location,
    owner: &Owner,
) -> OutputError {
    let is_same_name = owner.is_called(&output.full_name());
    lost(is_same_name, manifest, owner.shown())
}

/// Somebody else has taken the folder after this job had.
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

/// Looks at all that is there under names that matter; gives what the job says of the folder, or
/// names what is in the way.
async fn look_around(
    output: &Output,
    manifest: &Location,
    claim: &Claim,
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
    let pattern = output.pattern()?;
    if pattern.has_numbered_folders() {
        refuse_nested_outputs(output, &pattern).await?;
    }
    let mut heirloom = Vec::new();
    if output.has_begun {
        heirloom.push(output.pattern()?);
    }
    if let Some(earlier) = &claim.heir_of {
        intent.continues = true;
        let paths = earlier.earlier_paths.iter().chain([&earlier.path]);
        for path in paths {
            heirloom.push(pattern_in(path, manifest)?);
            if *path != output.path && !intent.earlier_paths.contains(path) {
                intent.earlier_paths.push(path.clone());
            }
        }
        if intent.earlier_paths.len() > MAX_EARLIER_PATHS {
            return Err(OutputError::InTheWay {
                found: format!("{} paths of earlier runs in {folder}", heirloom.len()),
                problem: "more than can be told apart",
                allowed: "remove what earlier runs left there, with their _STARTED.json, or write to another folder",
            });
        }
    }
    // A job that has finished may have been ended before it removed what it had staged.
    intent.earlier_uids.extend(claim.replaces.clone());
    let earlier = claim.heir_of.iter().chain(&claim.after);
    for earlier in earlier.chain(&claim.finished) {
        let uids = [&earlier.job_uid].into_iter().chain(&earlier.earlier_uids);
        intent
            .earlier_uids
            .extend(uids.take(MAX_EARLIER_UIDS).cloned());
    }
    refuse_what_is_there(output, &pattern, heirloom).await?;
    if let Some(failed) = &claim.after {
        for path in failed.earlier_paths.iter().chain([&failed.path]) {
            let theirs = pattern_in(path, manifest)?;
            refuse_leftovers(output, &pattern, &theirs, failed).await?;
        }
    }
    // What a job had taken upon itself to replace is not replaced by one that must not.
    let heirs = claim.heir_of.iter().chain(&claim.after);
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
        files.extend(read_old_files(&output.stores, manifest, &pattern).await?);
    }
    intent.replaces.manifests_of.sort();
    intent.replaces.manifests_of.dedup();
    intent.replaces.files = as_listed(output, &folder, files).await?;
    spare_inputs(output, manifest, &intent).await?;
    Ok(intent)
}

/// Nothing that goes when the output is complete is an input, under whatever name.
async fn spare_inputs(
    output: &Output,
    manifest: &Location,
    intent: &Intent,
) -> Result<(), OutputError> {
    if !may_replace(intent) && intent.replaces.files.is_empty() {
        return Ok(());
    }
    let inputs = Arc::new(Inputs::of(output).await?);
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

/// The names of another path that lies in the same folder; another path is none that a job of this
/// folder can have had.
pub(super) fn pattern_in(path: &str, manifest: &Location) -> Result<NamePattern, OutputError> {
    let lies_here = manifest_location(path).is_ok_and(|own| own == *manifest);
    match super::output::pattern(path) {
        Ok(pattern) if lies_here => Ok(pattern),
        Ok(_) | Err(_) => Err(super::owner::unknown(
            &intent_location(manifest),
            "the path leads to another folder",
        )),
    }
}

/// Files where this job writes. A run that this one continues may have left some of them, and a
/// mode may have them replaced; what is no plain file is in the way of either.
async fn refuse_what_is_there(
    output: &Output,
    pattern: &NamePattern,
    heirloom: Vec<NamePattern>,
) -> Result<(), OutputError> {
    let may_be_replaced = output.mode == SinkMode::Overwrite;
    let wanted = move |entry: &Match| {
        let path = entry.location.path().as_ref();
        let is_left = || heirloom.iter().any(|pattern| pattern.matches(path));
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

/// What a failed job of another name left under names that this job does not make would stay beside
/// its output.
async fn refuse_leftovers(
    output: &Output,
    pattern: &NamePattern,
    theirs: &NamePattern,
    failed: &Intent,
) -> Result<(), OutputError> {
    let pattern = pattern.clone();
    let wanted = move |entry: &Match| !pattern.matches(entry.location.path().as_ref());
    let sight = see(output, theirs, MAX_NAMED, wanted).await?;
    if sight.count == 0 {
        return Ok(());
    }
    Err(OutputError::InTheWay {
        found: format!("{} of {}", named(&sight), failed.owner()),
        problem: "files that a failed job left would stay beside the output",
        allowed: "remove them, or write to another folder",
    })
}

/// A folder of this sink in which another job has its output is no folder of this sink.
pub(super) async fn refuse_nested_outputs(
    output: &Output,
    pattern: &NamePattern,
) -> Result<(), OutputError> {
    for name in [MANIFEST_NAME, STARTED_NAME] {
        let sight = see(output, &pattern.beside(name), MAX_NAMED, |_| true).await?;
        if sight.count > 0 {
            return Err(OutputError::InTheWay {
                found: named(&sight),
                problem: "another job's output lies in a folder that {shard} or {total} stands for",
                allowed: "write to another folder",
            });
        }
    }
    Ok(())
}

/// The sizes of these files, in their order; `None` for what is not there.
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

/// Says it, in the place of what was read there. Who came first is seen in the next round.
async fn say(
    output: &Output,
    location: &Location,
    standing: Option<&StandingIntent>,
    intent: &Intent,
) -> Result<(), OutputError> {
    let text = intent.print(location)?;
    match standing {
        None => {
            let placed = put_if_absent(&output.stores, location, text).await;
            let (Placed::Mine | Placed::Theirs(_)) = placed.map_err(OutputError::Store)?;
        }
        Some(standing) => {
            let replaced = replace(&output.stores, location, &standing.found, text).await;
            let (Replaced::Done | Replaced::Changed) = replaced.map_err(OutputError::Store)?;
        }
    }
    Ok(())
}

/// What the job said when it took the folder.
pub(super) async fn read_record(output: &Output) -> Result<Option<StandingIntent>, OutputError> {
    let location = output.record()?;
    let found = read_versioned(&output.stores, &location, super::intent::MAX_INTENT_BYTES).await;
    let Some(found) = found.map_err(OutputError::Storage)? else {
        return Ok(None);
    };
    match Intent::parse(&found.bytes) {
        Ok(intent) => Ok(Some(StandingIntent { intent, found })),
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

/// Lists what matches and is wanted.
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
            MatchKind::Folder => "a folder has the name of a file of the output",
            MatchKind::BeyondLink | MatchKind::File => {
                "a file of the output's name lies behind a symbolic link to a folder"
            }
        },
        allowed: "move it away, or write to another folder",
    }
}

/// The first few, and how many more there are.
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
