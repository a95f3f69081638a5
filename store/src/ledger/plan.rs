//! Stores the plan of the first coordinator as `plan.json`, so that no later listing can change it.
//! Only a restart of a failed job can replace it. Computes no plan.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zephyr_engine::id::{JobUid, MAX_JOB_UID_LENGTH, StageId};
use zephyr_engine::plan::{FilePart, PlannedSource, check_parts};

use crate::formats::Compression;
use crate::ledger::LedgerError;
use crate::ledger::append::refused;
use crate::storage::{
    Cause, InputFile, JobStorage, Location, Placed, Replaced, fetch, put_if_absent, read_versioned,
    replace,
};

/// The version of a plan that release 0.1.0 reads too. Version 1 did not contain the job's uid.
const VERSION: u32 = 2;

/// The version of a plan with parts of files, with a default number of shuffle shards, or with a
/// pipeline that skips bad records. It is written only for such a plan.
const VERSION_WITH_PARTS: u32 = 3;

/// The version of a plan whose stages are not a chain. It is written only for such a plan.
const VERSION_WITH_GRAPH: u32 = 4;

/// The version of a plan with a gathering stage, which may have a graph too. It is written only for
/// such a plan.
const VERSION_WITH_GATHER: u32 = 5;

/// The version of a plan that reads parts of compressed files, which may have everything that
/// versions before it have. It is written only for such a plan.
const VERSION_WITH_COMPRESSED_PARTS: u32 = 6;

/// The version of a plan whose pipeline was edited when the failed job was restarted. It may have
/// everything that versions before it have, and is written only for such a plan.
const VERSION_OF_AN_EDIT: u32 = 7;

/// The files of each table, by the table's name, in the order in which they are read.
pub type TableFiles = BTreeMap<String, Vec<InputFile>>;

/// The plan of a job. It stays the same for the whole life of the job, unless a restart replaces
/// it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanFile {
    /// The plan's digest, which every process computes again.
    pub digest: String,
    /// The pipeline as in the manifest, as JSON.
    pub pipeline: serde_json::Value,
    /// The files to be read.
    pub inputs: Vec<InputFile>,
    /// How many shards the source has.
    pub source_shards: u32,
    /// The parts of the files that each source shard reads; empty if each reads one whole file.
    pub parts: Vec<Vec<FilePart>>,
    /// Shards of the first shuffle if its step sets none. Not set: the number that the engine
    /// implies.
    pub shuffle_shards: Option<u32>,
    /// How many files of the first shuffle one task gathers. Not set if no task gathers files.
    pub gather: Option<u32>,
    /// The files of each table.
    pub tables: TableFiles,
    /// For each stage, the stages that it reads, in the order of its inputs. Empty if the plan is a
    /// chain.
    pub graph: Vec<Vec<StageId>>,
    /// The generation whose restart changed the pipeline. `None` if the job has the pipeline with
    /// which it began.
    pub edited_in: Option<u32>,
}

impl PlanFile {
    /// The source. The plan follows from the source and the pipeline.
    pub fn source(&self) -> PlannedSource {
        let source = PlannedSource::of_parts(0, &self.parts, self.shuffle_shards);
        PlannedSource {
            shards: self.source_shards,
            gather: self.gather,
            ..source
        }
    }

    /// Whether a task reads a part of a compressed file.
    fn reads_compressed_parts(&self) -> bool {
        let mut parts = self.parts.iter().flatten();
        parts.any(|part| {
            let file = self.inputs.get(part.file as usize);
            file.is_some_and(|file| {
                let is_whole = part.from == 0 && part.to == file.size;
                !is_whole && Compression::of_path(&file.uri) != Compression::None
            })
        })
    }

    fn version(&self) -> u32 {
        let is_plain = self.parts.is_empty() && self.shuffle_shards.is_none();
        if self.edited_in.is_some() {
            VERSION_OF_AN_EDIT
        } else if self.reads_compressed_parts() {
            VERSION_WITH_COMPRESSED_PARTS
        } else if self.gather.is_some() {
            VERSION_WITH_GATHER
        } else if !self.graph.is_empty() {
            VERSION_WITH_GRAPH
        } else if is_plain && !passes_over_bad_records(&self.pipeline) {
            VERSION
        } else {
            VERSION_WITH_PARTS
        }
    }
}

/// The version of a stored plan. It is read before anything else, because other versions may have
/// other fields.
#[derive(Deserialize)]
struct StoredVersion {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredEnvelope<'a> {
    version: u32,
    /// Uid of the job.
    job: String,
    /// CRC-32C, in hex, of the text of `plan`.
    crc32c: String,
    #[serde(borrow)]
    plan: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredPlan {
    digest: String,
    pipeline: serde_json::Value,
    inputs: Vec<StoredInput>,
    source_shards: u32,
    /// The parts of each source shard: the file's position in `inputs`, the first byte, and the
    /// byte after the last one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Vec<(u32, u64, u64)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shuffle_shards: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gather: Option<u32>,
    /// Not written if the job has no tables, so that a release without tables can read the plan.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tables: BTreeMap<String, Vec<StoredInput>>,
    /// For each stage, the positions of the stages that it reads. Not written for a chain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stages: Vec<Vec<u32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    edited_in: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredInput {
    uri: String,
    size: u64,
    etag: Option<String>,
}

/// Returns the stored plan, or `None` if none was stored yet. If a plan must exist and is missing,
/// this is an error, because a new plan could give the same shards other inputs.
pub async fn load_plan(
    storage: &JobStorage,
    must_be_there: bool,
) -> Result<Option<PlanFile>, LedgerError> {
    let location = plan_object(storage)?;
    match fetch(storage.stores(), &location).await {
        Ok(bytes) => parse(storage.job(), &bytes)
            .map(Some)
            .map_err(|problem| refused(&location, problem)),
        Err(error) if error.cause == Cause::NotFound && must_be_there => Err(refused(
            &location,
            "it is missing, and the log has records of tasks".to_owned(),
        )),
        Err(error) if error.cause == Cause::NotFound => Ok(None),
        Err(error) => Err(LedgerError::from_storage(error)),
    }
}

/// Stores a plan if there is none. Returns the plan that is stored, which may be the plan of a
/// faster coordinator.
pub async fn keep_plan(storage: &JobStorage, plan: PlanFile) -> Result<PlanFile, LedgerError> {
    let location = plan_object(storage)?;
    let bytes = Bytes::from(
        print(storage.job(), &plan).map_err(|error| refused(&location, error.to_string()))?,
    );
    match put_if_absent(storage.stores(), &location, bytes)
        .await
        .map_err(LedgerError::from_storage)?
    {
        Placed::Mine => Ok(plan),
        Placed::Theirs(found) => {
            parse(storage.job(), &found).map_err(|problem| refused(&location, problem))
        }
    }
}

/// Stores the plan of an edited pipeline in place of the plan `found`. Returns the plan that is
/// stored. This is `found` if a coordinator of a later restart has stored its plan, and then the
/// caller's generation is over.
///
/// # Errors
/// The plan cannot be read or written, or another coordinator writes it at the same time.
pub async fn replace_plan(storage: &JobStorage, plan: PlanFile) -> Result<PlanFile, LedgerError> {
    let location = plan_object(storage)?;
    let unusable = |problem: String| refused(&location, problem);
    let found = read_versioned(storage.stores(), &location, u64::MAX)
        .await
        .map_err(LedgerError::from_storage)?
        .ok_or_else(|| unusable("it is missing".to_owned()))?;
    let kept = parse(storage.job(), &found.bytes).map_err(unusable)?;
    if kept.edited_in >= plan.edited_in {
        return Ok(kept);
    }
    let bytes = print(storage.job(), &plan).map_err(|error| unusable(error.to_string()))?;
    match replace(storage.stores(), &location, &found, Bytes::from(bytes))
        .await
        .map_err(LedgerError::from_storage)?
    {
        Replaced::Done => Ok(plan),
        Replaced::Changed => Err(unusable(
            "another coordinator has written it at the same time".to_owned(),
        )),
    }
}

fn plan_object(storage: &JobStorage) -> Result<Location, LedgerError> {
    storage.at("plan.json").map_err(LedgerError::Address)
}

fn print(job: &JobUid, plan: &PlanFile) -> Result<Vec<u8>, serde_json::Error> {
    let stored = StoredPlan {
        digest: plan.digest.clone(),
        pipeline: plan.pipeline.clone(),
        inputs: plan.inputs.iter().map(StoredInput::of).collect(),
        source_shards: plan.source_shards,
        parts: plan.parts.iter().map(|shard| stored_parts(shard)).collect(),
        shuffle_shards: plan.shuffle_shards,
        gather: plan.gather,
        tables: plan
            .tables
            .iter()
            .map(|(name, files)| (name.clone(), files.iter().map(StoredInput::of).collect()))
            .collect(),
        stages: plan
            .graph
            .iter()
            .map(|reads| reads.iter().map(|stage| stage.0).collect())
            .collect(),
        edited_in: plan.edited_in,
    };
    let text = serde_json::value::to_raw_value(&stored)?;
    let crc32c = format!("{:08x}", crc32c::crc32c(text.get().as_bytes()));
    serde_json::to_vec(&StoredEnvelope {
        version: plan.version(),
        job: job.to_string(),
        crc32c,
        plan: &text,
    })
}

/// Whether the ledger of a job with this pipeline can have counts of bad records.
fn passes_over_bad_records(pipeline: &serde_json::Value) -> bool {
    let is_set = |place: &serde_json::Value| place.get("onError").is_some();
    let mut of_steps = pipeline["steps"].as_array().into_iter().flatten();
    is_set(&pipeline["source"]["files"]) || of_steps.any(is_set)
}

fn parse(job: &JobUid, bytes: &[u8]) -> Result<PlanFile, String> {
    let version: StoredVersion =
        serde_json::from_slice(bytes).map_err(|e| format!("it cannot be read: {e}"))?;
    if !(VERSION..=VERSION_OF_AN_EDIT).contains(&version.version) {
        return Err(format!(
            "it has version {}; this program reads versions {VERSION} to {VERSION_OF_AN_EDIT}",
            version.version
        ));
    }
    let envelope: StoredEnvelope<'_> =
        serde_json::from_slice(bytes).map_err(|e| format!("it cannot be read: {e}"))?;
    if envelope.job != job.as_str() {
        let other: String = envelope.job.chars().take(MAX_JOB_UID_LENGTH).collect();
        return Err(format!("it is marked as the plan of job {other}"));
    }
    if envelope.crc32c != format!("{:08x}", crc32c::crc32c(envelope.plan.get().as_bytes())) {
        return Err("its checksum is wrong: it is damaged".to_owned());
    }
    let stored: StoredPlan =
        serde_json::from_str(envelope.plan.get()).map_err(|e| format!("it cannot be read: {e}"))?;
    let gathers = stored.gather.is_some_and(|files| files > 0);
    let may_gather = version.version >= VERSION_WITH_GATHER;
    if gathers && !may_gather || version.version == VERSION_WITH_GATHER && !gathers {
        return Err(format!(
            "it has version {}; a plan of version {VERSION_WITH_GATHER} gathers files, a later one may do so, and an earlier one does not",
            version.version
        ));
    }
    let files = |stored: Vec<StoredInput>| stored.into_iter().map(StoredInput::read).collect();
    let parts: Vec<Vec<FilePart>> = stored.parts.iter().map(|shard| read_parts(shard)).collect();
    if !parts.is_empty() {
        let sizes: Vec<u64> = stored.inputs.iter().map(|input| input.size).collect();
        check_parts(&parts, &sizes)?;
    }
    let plan = PlanFile {
        digest: stored.digest,
        pipeline: stored.pipeline,
        inputs: files(stored.inputs),
        source_shards: stored.source_shards,
        parts,
        shuffle_shards: stored.shuffle_shards,
        gather: stored.gather,
        tables: stored
            .tables
            .into_iter()
            .map(|(name, stored)| (name, files(stored)))
            .collect(),
        graph: read_graph(version.version, stored.stages)?,
        edited_in: stored.edited_in,
    };
    let is_edited = version.version == VERSION_OF_AN_EDIT;
    if plan.edited_in.is_some() != is_edited {
        return Err(format!(
            "it has version {}; only version {VERSION_OF_AN_EDIT} has an edited pipeline",
            version.version
        ));
    }
    let cuts_compressed = version.version == VERSION_WITH_COMPRESSED_PARTS;
    if !is_edited && plan.reads_compressed_parts() != cuts_compressed {
        return Err(format!(
            "it has version {}; only version {VERSION_WITH_COMPRESSED_PARTS} reads parts of compressed files",
            version.version
        ));
    }
    Ok(plan)
}

fn read_graph(version: u32, stages: Vec<Vec<u32>>) -> Result<Vec<Vec<StageId>>, String> {
    let fits = match version {
        VERSION_WITH_GATHER | VERSION_WITH_COMPRESSED_PARTS | VERSION_OF_AN_EDIT => true,
        VERSION_WITH_GRAPH => !stages.is_empty(),
        _ => stages.is_empty(),
    };
    if !fits {
        return Err(format!(
            "it has version {version} and a graph of {} stages; a plan of version {VERSION_WITH_GRAPH} has a graph, a later one may have one, and an earlier one has none",
            stages.len()
        ));
    }
    for (stage, reads) in (0..).map(StageId).zip(&stages) {
        if let Some(read) = reads.iter().find(|read| **read >= stage.0) {
            return Err(format!(
                "stage {stage} reads stage {}, which is not before it",
                StageId(*read)
            ));
        }
    }
    let ids = |reads: Vec<u32>| reads.into_iter().map(StageId).collect();
    Ok(stages.into_iter().map(ids).collect())
}

fn stored_parts(shard: &[FilePart]) -> Vec<(u32, u64, u64)> {
    let part = |part: &FilePart| (part.file, part.from, part.to);
    shard.iter().map(part).collect()
}

fn read_parts(shard: &[(u32, u64, u64)]) -> Vec<FilePart> {
    let part = |&(file, from, to): &(u32, u64, u64)| FilePart { file, from, to };
    shard.iter().map(part).collect()
}

impl StoredInput {
    fn of(file: &InputFile) -> Self {
        Self {
            uri: file.uri.clone(),
            size: file.size,
            etag: file.etag.clone(),
        }
    }

    fn read(self) -> InputFile {
        InputFile {
            uri: self.uri,
            size: self.size,
            etag: self.etag,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Stores;
    use object_store::{ObjectStoreExt, PutPayload};

    fn plan(digest: &str) -> PlanFile {
        let file = InputFile {
            uri: "s3://in/é.jsonl".to_owned(),
            size: 7,
            etag: Some("\"x\"".to_owned()),
        };
        PlanFile {
            digest: digest.to_owned(),
            pipeline: serde_json::json!({"steps": [{"map": ".a"}]}),
            inputs: vec![file.clone()],
            source_shards: 1,
            parts: Vec::new(),
            shuffle_shards: None,
            gather: None,
            tables: [("users".to_owned(), vec![file])].into(),
            graph: Vec::new(),
            edited_in: None,
        }
    }

    #[test]
    fn only_a_plan_with_a_gathering_stage_has_its_version() {
        let job = JobUid::parse("u").unwrap();
        let gathering = PlanFile {
            gather: Some(16),
            ..plan("gather")
        };
        let text = String::from_utf8(print(&job, &gathering).unwrap()).unwrap();
        assert!(text.starts_with("{\"version\":5,"), "{text}");
        assert_eq!(parse(&job, text.as_bytes()).unwrap(), gathering);
        assert_eq!(gathering.source().gather, Some(16));
        for version in 2..=4 {
            let text = text.replace("\"version\":5", &format!("\"version\":{version}"));
            let error = parse(&job, text.as_bytes()).unwrap_err();
            let expected = format!(
                "it has version {version}; a plan of version 5 gathers files, a later one may do so, and an earlier one does not"
            );
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn a_graph_is_kept_as_it_is_and_only_a_plan_that_is_no_chain_has_its_version() {
        let job = JobUid::parse("u").unwrap();
        let chain = String::from_utf8(print(&job, &plan("chain")).unwrap()).unwrap();
        assert!(chain.starts_with("{\"version\":2,"), "{chain}");
        assert!(!chain.contains("stages"), "{chain}");
        let ids = |ids: &[u32]| ids.iter().copied().map(StageId).collect::<Vec<_>>();
        let graph = PlanFile {
            graph: vec![ids(&[]), ids(&[]), ids(&[1, 0])],
            ..plan("graph")
        };
        let text = String::from_utf8(print(&job, &graph).unwrap()).unwrap();
        assert!(text.starts_with("{\"version\":4,"), "{text}");
        assert_eq!(parse(&job, text.as_bytes()).unwrap(), graph);
        // A release without graphs refuses the version before it reads anything else.
        for older in [2, 3] {
            let text = text.replace("\"version\":4", &format!("\"version\":{older}"));
            let error = parse(&job, text.as_bytes()).unwrap_err();
            assert_eq!(
                error,
                format!(
                    "it has version {older} and a graph of 3 stages; a plan of version 4 has a graph, a later one may have one, and an earlier one has none"
                )
            );
        }
        let circle = PlanFile {
            graph: vec![ids(&[]), ids(&[1])],
            ..plan("circle")
        };
        let error = parse(&job, &print(&job, &circle).unwrap()).unwrap_err();
        assert_eq!(error, "stage 2 reads stage 2, which is not before it");
    }

    #[test]
    fn cuts_are_kept_as_they_are_and_only_a_plan_with_cuts_has_another_version() {
        let job = JobUid::parse("u").unwrap();
        let whole = plan("whole");
        let text = String::from_utf8(print(&job, &whole).unwrap()).unwrap();
        assert!(text.starts_with("{\"version\":2,"), "{text}");
        assert!(
            !text.contains("parts") && !text.contains("shuffle"),
            "{text}"
        );
        let part = |from, to| FilePart { file: 0, from, to };
        for (parts, shuffle_shards) in [
            (vec![vec![part(0, 3)], vec![part(3, 7)]], None),
            (vec![vec![part(0, 3)], vec![part(3, 7)]], Some(4)),
            (Vec::new(), Some(4)),
        ] {
            let cut = PlanFile {
                source_shards: u32::try_from(parts.len().max(1)).unwrap(),
                parts,
                shuffle_shards,
                ..whole.clone()
            };
            let text = print(&job, &cut).unwrap();
            assert!(text.starts_with(b"{\"version\":3,"));
            assert_eq!(parse(&job, &text).unwrap(), cut);
            let source = cut.source();
            assert_eq!(source.shuffle_shards, shuffle_shards);
            assert_eq!(source.parts.is_some(), !cut.parts.is_empty());
        }
    }

    #[test]
    fn only_a_plan_with_parts_of_compressed_files_has_its_version() {
        let job = JobUid::parse("u").unwrap();
        let part = |from, to| FilePart { file: 0, from, to };
        let parts = vec![vec![part(0, 3)], vec![part(3, 7)]];
        let mut cut = PlanFile {
            source_shards: 2,
            parts,
            ..plan("cut")
        };
        cut.inputs[0].uri = "s3://in/a.jsonl.gz".to_owned();
        for (gather, graph) in [
            (None, vec![]),
            (Some(3), vec![]),
            (None, vec![vec![], vec![StageId(0)]]),
        ] {
            let cut = PlanFile {
                gather,
                graph,
                ..cut.clone()
            };
            let text = String::from_utf8(print(&job, &cut).unwrap()).unwrap();
            assert!(text.starts_with("{\"version\":6,"), "{text}");
            assert_eq!(parse(&job, text.as_bytes()).unwrap(), cut);
        }
        let text = String::from_utf8(print(&job, &cut).unwrap()).unwrap();
        let older = text.replace("\"version\":6", "\"version\":3");
        let error = parse(&job, older.as_bytes()).unwrap_err();
        let expected =
            "it has version 3; only version 6 reads parts of compressed files".to_owned();
        assert_eq!(error, expected);
        // Whole compressed files that are combined are nothing new.
        cut.parts = vec![vec![part(0, 7)]];
        let text = print(&job, &cut).unwrap();
        assert!(text.starts_with(b"{\"version\":3,"));
    }

    #[test]
    fn a_plan_whose_cuts_lose_a_byte_is_refused() {
        let job = JobUid::parse("u").unwrap();
        let part = |from, to| FilePart { file: 0, from, to };
        let cut = PlanFile {
            source_shards: 2,
            parts: vec![vec![part(0, 3)], vec![part(4, 7)]],
            ..plan("cut")
        };
        let error = parse(&job, &print(&job, &cut).unwrap()).unwrap_err();
        assert_eq!(error, "source shard 1 does not continue the one before it");
        let newer = String::from_utf8(print(&job, &plan("newer")).unwrap())
            .unwrap()
            .replace("\"version\":2", "\"version\":8");
        let error = parse(&job, newer.as_bytes()).unwrap_err();
        assert_eq!(
            error,
            "it has version 8; this program reads versions 2 to 7"
        );
    }

    #[tokio::test]
    async fn the_first_plan_is_kept_and_a_damaged_plan_is_refused_by_name() {
        let storage = JobStorage::new(
            Stores::in_memory(),
            "s3://b/jobs",
            JobUid::parse("u").unwrap(),
        )
        .unwrap();
        assert_eq!(load_plan(&storage, false).await.unwrap(), None);
        assert_eq!(
            keep_plan(&storage, plan("first")).await.unwrap(),
            plan("first")
        );
        assert_eq!(
            keep_plan(&storage, plan("second")).await.unwrap(),
            plan("first")
        );
        assert_eq!(
            load_plan(&storage, true).await.unwrap(),
            Some(plan("first"))
        );

        let location = storage.at("plan.json").unwrap();
        let damaged = String::from_utf8(print(storage.job(), &plan("first")).unwrap())
            .unwrap()
            .replace("first", "fi_st");
        storage
            .stores()
            .open(&location)
            .unwrap()
            .objects
            .put(location.path(), PutPayload::from(damaged))
            .await
            .unwrap();
        let error = load_plan(&storage, true).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "s3://b/jobs/u/plan.json: not a part of this job's ledger: its checksum is wrong: it is damaged"
        );
    }

    #[tokio::test]
    async fn a_plan_is_replaced_only_by_that_of_a_later_restart() {
        let job = JobUid::parse("u").unwrap();
        let storage = JobStorage::new(Stores::in_memory(), "s3://b/jobs", job).unwrap();
        let edited = |digest: &str, generation| PlanFile {
            edited_in: Some(generation),
            graph: vec![Vec::new(), vec![StageId(0)]],
            gather: Some(3),
            ..plan(digest)
        };
        let error = replace_plan(&storage, edited("2", 2)).await.unwrap_err();
        assert!(error.to_string().contains("it is missing"), "{error}");
        keep_plan(&storage, plan("1")).await.unwrap();
        for (generation, stored) in [(3, 3), (2, 3), (3, 3), (5, 5)] {
            let digest = format!("by {generation}");
            let now = replace_plan(&storage, edited(&digest, generation)).await;
            let expected = edited(&format!("by {stored}"), stored);
            assert_eq!(now.unwrap(), expected, "{generation}");
            assert_eq!(load_plan(&storage, true).await.unwrap(), Some(expected));
        }
    }

    #[test]
    fn only_a_pipeline_that_passes_over_bad_records_gets_the_newer_version() {
        let on_error = serde_json::json!({"action": "Skip"});
        for (pipeline, expected) in [
            (
                serde_json::json!({"steps": [{"map": ".a"}], "source": {"files": {}}}),
                2,
            ),
            (serde_json::json!({"source": {"items": {}}}), 2),
            (
                serde_json::json!({"steps": [{"count": {}}, {"map": ".a", "onError": on_error}]}),
                3,
            ),
            (
                serde_json::json!({"source": {"files": {"onError": on_error}}}),
                3,
            ),
        ] {
            let job = JobUid::parse("u").unwrap();
            let plan = PlanFile {
                pipeline: pipeline.clone(),
                parts: Vec::new(),
                shuffle_shards: None,
                ..plan("d")
            };
            let bytes = print(&job, &plan).unwrap();
            let stored: StoredVersion = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(stored.version, expected, "{pipeline}");
            assert_eq!(parse(&job, &bytes), Ok(plan));
        }
    }
}
