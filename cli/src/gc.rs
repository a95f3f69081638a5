//! `kubectl zephyr gc URI`: finds the folders and uploads under a storage URI that no job needs.
//! Lists them, and deletes them only on request.
//!
//! A folder is deleted only if five conditions hold: its name is a job's uid, it contains only a
//! job's objects, at least one object shows to which job the folder belongs, the cluster has no
//! such job, and the folder is older than the requested age. Every other folder with the name of a
//! uid is listed with the reason. Files and folders with other names are left alone and not listed.

mod owners;
mod verdict;

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use zephyr_engine::id::JobUid;
use zephyr_store::reclaim::{
    Marker, Part, Proof, Survey, is_job_uid, mark, part_of, remove_job_folder, survey,
};
use zephyr_store::storage::{
    JobStorage, Location, Stores, UnfinishedUpload, abort_upload, server_time, subfolders,
    unfinished_uploads,
};

use self::owners::Owners;
use self::verdict::{Found, Rules, State, Verdict, age_text};
use crate::cluster::Connection;
use crate::terminal::{bytes, note, print, printable};

/// The largest number of folders that one call examines, because each of them takes a row in
/// memory. The next call finds the remaining folders after these are deleted.
const MAX_FOLDERS: usize = 100_000;

/// Folders that are examined at the same time.
const LOOKED_AT_ONCE: usize = 8;

/// The text of the marker that is written before the folder of an unfinished job is deleted.
const ABANDONED: &str = "Abandoned";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where jobs keep their ledgers: `spec.storage.uri`, or the folder of `run --storage`.
    uri: String,
    /// Delete only data that was last written before this time: days, hours, minutes and seconds,
    /// such as 7d or 36h.
    #[arg(long, default_value = "7d", value_parser = verdict::parse_age)]
    older_than: Duration,
    /// Delete without asking. Without --yes the program asks on the terminal. If there is no
    /// terminal, it deletes nothing.
    #[arg(short, long)]
    yes: bool,
    /// Context of the kubeconfig whose jobs own their folders; may be given several times, once for
    /// each cluster that uses the URI. Default: the current context. Not used for a `file://` URI,
    /// which no job of a cluster can use.
    #[arg(long)]
    context: Vec<String>,
    /// Path of the kubeconfig; default: KUBECONFIG, or ~/.kube/config.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Do not ask any cluster: the age alone decides which folders are not needed. Requires
    /// `--older-than`.
    #[arg(long, requires = "older_than", conflicts_with = "context")]
    without_cluster: bool,
}

impl Options {
    /// Takes each value that is missing here from the arguments before the verb.
    pub(crate) fn inherit(&mut self, before: Connection) -> Result<(), &'static str> {
        if before.namespace.is_some() {
            return Err("--namespace: not used by gc, which asks for the jobs of all namespaces");
        }
        if self.without_cluster && before != Connection::default() {
            return Err(
                "--without-cluster: asks no cluster, so the arguments before gc have no use",
            );
        }
        if self.context.is_empty() {
            self.context.extend(before.context);
        }
        self.kubeconfig = self.kubeconfig.take().or(before.kubeconfig);
        Ok(())
    }
}

/// Lists, and deletes on request.
pub(crate) async fn gc(options: Options) -> Result<()> {
    let stores = Stores::new(zephyr_worker::local::storage_options_from_environment());
    let root = Location::parse_local(&options.uri)?;
    if root.local_path().is_some_and(|path| !path.is_dir()) {
        bail!("{root}: there is no such folder");
    }
    let mut found = look(&stores, &root).await?;
    let uploads = unfinished_uploads(&stores, &root).await?;
    // The jobs are listed after the folders, so that the list contains the live job of every folder
    // that was found.
    let owners = if root.local_path().is_some() || options.without_cluster {
        Owners::default()
    } else {
        owners::of_clusters(&options.context, options.kubeconfig.as_deref()).await?
    };
    let mut rules = Rules {
        older_than: options.older_than,
        now: SystemTime::now(),
        owners,
    };
    for folder in &mut found {
        describe_state(&stores, &root, folder, &rules).await;
    }
    let chosen_uploads = choose_uploads(&root, uploads.as_deref().unwrap_or_default(), &rules);
    print(&table(&root, &found, &rules))?;
    print(&uploads_text(uploads.as_deref(), chosen_uploads.len()))?;
    let chosen: Vec<&Found> = found
        .iter()
        .filter(|folder| rules.verdict(folder) == Verdict::Removable)
        .collect();
    print(&totals(&found, &chosen))?;
    if (chosen.is_empty() && chosen_uploads.is_empty()) || !is_agreed(&options)? {
        return Ok(());
    }
    // If the store's clock is behind this machine's clock, the store's clock is used, so that
    // nothing looks older than it is.
    rules.now = rules.now.min(server_time(&stores, &root).await?);
    let mut failures = delete(&stores, &root, &chosen, &rules).await?;
    for upload in chosen_uploads {
        if let Err(error) = abort_upload(&stores, &root, upload).await {
            note(&format!("{error}"));
            failures += 1;
        }
    }
    if failures > 0 {
        bail!("{failures} of the above could not be deleted; run the same command again to retry");
    }
    Ok(())
}

/// Every folder below the URI that has the name of a job's uid.
async fn look(stores: &Stores, root: &Location) -> Result<Vec<Found>> {
    let names = subfolders(stores, root, "", MAX_FOLDERS, is_job_uid).await?;
    let look = |uid: String| async move {
        let looked = look_at(stores, root, &uid).await;
        Found::new(uid, looked.map_err(|error| format!("{error:#}")))
    };
    let looks = futures::stream::iter(names).map(look);
    Ok(looks.buffered(LOOKED_AT_ONCE).collect().await)
}

async fn look_at(stores: &Stores, root: &Location, uid: &str) -> Result<(Survey, Proof)> {
    let storage = folder(stores, root, uid)?;
    let survey = survey(&storage).await?;
    let proof = survey.proof(&storage).await?;
    Ok((survey, proof))
}

fn folder(stores: &Stores, root: &Location, uid: &str) -> Result<JobStorage> {
    let uid = JobUid::parse(uid)?;
    Ok(JobStorage::new(stores.clone(), &root.to_string(), uid)?)
}

/// Reads the ledger of a folder without a marker, if the verdict depends on the ledger.
async fn describe_state(stores: &Stores, root: &Location, found: &mut Found, rules: &Rules) {
    if found.state != State::Unknown || !rules.depends_on_state(found) {
        return;
    }
    let Ok(storage) = folder(stores, root, &found.uid) else {
        return;
    };
    let Ok((survey, _)) = &found.looked else {
        return;
    };
    found.state = match survey.has_result(&storage).await {
        Ok(Some(true)) => State::Ended(String::new()),
        Ok(Some(false)) => State::Unfinished,
        Ok(None) | Err(_) => State::Unknown,
    };
}

/// Deletes folders, each only if it has not changed since the verdict. Returns how many could not
/// be deleted.
async fn delete(
    stores: &Stores,
    root: &Location,
    chosen: &[&Found],
    rules: &Rules,
) -> Result<usize> {
    let (mut objects, mut folders, mut failures) = (0, 0, 0);
    for found in chosen {
        match delete_one(stores, root, found, rules).await {
            Ok(Some(removed)) => {
                objects += removed;
                folders += 1;
            }
            Ok(None) => note(&format!(
                "{}: left alone: it has changed in the meantime",
                found.uid
            )),
            Err(error) => {
                note(&format!(
                    "{}: {}",
                    found.uid,
                    printable(&format!("{error:#}"))
                ));
                failures += 1;
            }
        }
    }
    print(&format!("deleted {folders} folders, {objects} objects"))?;
    Ok(failures)
}

async fn delete_one(
    stores: &Stores,
    root: &Location,
    found: &Found,
    rules: &Rules,
) -> Result<Option<u64>> {
    let now = Found {
        state: found.state.clone(),
        ..Found::new(
            found.uid.clone(),
            Ok(look_at(stores, root, &found.uid).await?),
        )
    };
    let is_same = match (&now.looked, &found.looked) {
        (Ok((now, _)), Ok((before, _))) => now == before,
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    };
    if !is_same || rules.verdict(&now) != Verdict::Removable {
        return Ok(None);
    }
    let storage = folder(stores, root, &found.uid)?;
    if !matches!(now.looked, Ok((_, Proof::Ended(_)))) {
        // If the deletion stops halfway, the marker shows that the folder's ledger is incomplete.
        let outcome = match &found.state {
            State::Ended(_) => "Ended",
            State::Unfinished | State::Unknown => ABANDONED,
        };
        mark(
            &storage,
            &Marker::new(&storage, String::new(), outcome.to_owned(), None),
        )
        .await?;
    }
    Ok(Some(remove_job_folder(&storage).await?))
}

/// Uploads of intermediate data in folders that no job owns.
fn choose_uploads<'a>(
    root: &Location,
    uploads: &'a [UnfinishedUpload],
    rules: &Rules,
) -> Vec<&'a UnfinishedUpload> {
    let folder = root.path().as_ref();
    let chosen = |upload: &&UnfinishedUpload| {
        let below = upload.key.strip_prefix(folder).unwrap_or_default();
        let Some((uid, path)) = below.trim_start_matches('/').split_once('/') else {
            return false;
        };
        is_job_uid(uid)
            && part_of(path) == Some(Part::Data)
            && rules.may_abort(uid, upload.initiated)
    };
    uploads.iter().filter(chosen).collect()
}

/// Whether the user has agreed that the data is deleted.
fn is_agreed(options: &Options) -> Result<bool> {
    if options.yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        note("nothing is deleted: --yes deletes what is marked \"delete\"");
        return Ok(false);
    }
    note("Delete what is marked \"delete\"? Type yes:");
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("read the answer")?;
    Ok(answer.trim() == "yes")
}

fn table(root: &Location, found: &[Found], rules: &Rules) -> String {
    if found.is_empty() {
        return format!("no job folders below {}\n", printable(&root.to_string()));
    }
    let job_width = found
        .iter()
        .map(|folder| printable(folder.job()).chars().count());
    let job_width = job_width.fold("JOB".len(), usize::max) + 2;
    let mut text = format!(
        "{:<38}{:<job_width$}{:<22}{:>10}{:>10}{:>9}  {}\n",
        "FOLDER", "JOB", "STATE", "WRITTEN", "SIZE", "OBJECTS", "VERDICT"
    );
    for folder in found {
        let survey = folder.looked.as_ref().map(|(survey, _)| survey).ok();
        let written = survey
            .and_then(|survey| survey.newest)
            .map_or_else(|| "-".to_owned(), |at| age_text(rules.now, at));
        let _ = writeln!(
            text,
            "{:<38}{:<job_width$}{:<22}{:>10}{:>10}{:>9}  {}",
            folder.uid,
            printable(folder.job()),
            printable(&folder.state.to_string()),
            written,
            bytes(survey.map_or(0, |survey| survey.bytes)),
            survey.map_or(0, |survey| survey.objects),
            printable(&rules.verdict(folder).to_string()),
        );
    }
    text
}

fn uploads_text(uploads: Option<&[UnfinishedUpload]>, chosen: usize) -> String {
    match uploads {
        None => "uncompleted uploads: this store does not list them\n".to_owned(),
        Some(uploads) => format!(
            "uncompleted uploads: {}, of which {chosen} to delete; the others are young, owned, or not in a job's folder\n",
            uploads.len()
        ),
    }
}

fn totals(found: &[Found], chosen: &[&Found]) -> String {
    let (mut objects, mut size) = (0_u64, 0_u64);
    for survey in chosen
        .iter()
        .filter_map(|folder| folder.looked.as_ref().ok())
    {
        objects += survey.0.objects;
        size = size.saturating_add(survey.0.bytes);
    }
    let limit = if found.len() == MAX_FOLDERS {
        format!("; only the first {MAX_FOLDERS} folders were examined")
    } else {
        String::new()
    };
    format!(
        "{} folders, of which {} to delete: {objects} objects, {}{limit}\n",
        found.len(),
        chosen.len(),
        bytes(size)
    )
}

#[cfg(test)]
mod tests;
