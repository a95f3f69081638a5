//! Checks that the names that a job reads and writes are distinct, after its inputs were listed.
//! Finds two shards with one name, an output that is an input, and places that are the same because
//! of links of a local disk.
//!
//! Examines names, and the targets of local names. Must not open, write or list anything. It runs
//! before anything is written and before any worker gets a task.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::task::JoinError;
use zephyr_crds::field_error::FieldError;
use zephyr_crds::job::ZephyrJobSpec;
use zephyr_crds::places::{Area, MARKER_NAMES, Role, areas, overlaps};

use zephyr_engine::plan::Plan;
use zephyr_store::finalize::{TemplateError, output_path};
use zephyr_store::ownership::dead_letter_paths;
use zephyr_store::storage::{Location, LocationError, NamePattern, Need, obstacle};

/// Why the names of a job clash. In each case the job itself is at fault.
#[derive(Debug, thiserror::Error)]
pub enum PlacesError {
    /// The sink's path is not a valid template.
    #[error(transparent)]
    Template(TemplateError),
    /// A shard's name is not a valid address.
    #[error("spec.pipeline.sink.files.path: shard {shard} has no valid name: {source}")]
    Name {
        /// The shard.
        shard: u32,
        /// What is wrong with its name.
        source: LocationError,
    },
    /// Two files would have one name.
    #[error(
        "{field}: gives the name {name}, which {other} gives too; the files of a job need different names, so write to another folder"
    )]
    SameNames {
        /// The field of dead letters.
        field: String,
        /// The name.
        name: String,
        /// The other field, or the same one.
        other: String,
    },
    /// A dead letter would replace an input.
    #[error(
        "{field}: makes the name of the input {input} (got {template}); dead letters must not replace input, write to another folder or under other names"
    )]
    DeadLetterIsInput {
        /// The field.
        field: String,
        /// The input.
        input: String,
        /// The template.
        template: String,
    },
    /// Two shards write the same name.
    #[error(
        "spec.pipeline.sink.files.path: gives shards {first} and {second} of {shards} the same name, {name} (got {template}); put {{shard}} or {{shard:05}} into the name of the file"
    )]
    SameName {
        /// The first shard.
        first: u32,
        /// The second shard.
        second: u32,
        /// Number of shards that are written.
        shards: u32,
        /// The name that both would write.
        name: String,
        /// The sink's path.
        template: String,
    },
    /// An output is one of the inputs.
    #[error(
        "spec.pipeline.sink.files.path: {output} is the input {input} (got {template}); output must not replace input, write to another folder or under other names"
    )]
    IsInput {
        /// The output.
        output: String,
        /// The input.
        input: String,
        /// The sink's path.
        template: String,
    },
    /// An input has a name that the sink's path produces with other numbers. So it counts as older
    /// output, which the job would replace or refuse.
    #[error(
        "spec.pipeline.sink.files.path: makes the name of the input {input} with other numbers (got {template}); output of such names is replaced as a whole, so write to another folder or under other names"
    )]
    IsOutput {
        /// The input.
        input: String,
        /// The sink's path.
        template: String,
    },
    /// An input is part of older output, which is removed when the new output is complete.
    #[error(
        "spec.pipeline.sink.files.mode: Overwrite removes the input {input}, which the _SUCCESS.json of the output's folder lists (got {template}); output must not replace input, write to another folder"
    )]
    IsReplaced {
        /// The input.
        input: String,
        /// The sink's path.
        template: String,
    },
    /// An input is in the folder of the ledgers, through a link.
    #[error(
        "spec.pipeline.source.files.paths: {input} is really {real}, inside spec.storage.uri (got {storage}); input must not overlap the storage prefix, read from another folder or use another storage"
    )]
    InStorage {
        /// The input.
        input: String,
        /// Its path without links.
        real: String,
        /// The storage's uri.
        storage: String,
    },
    /// The job needs a file or a folder of this name on the local disk, and something of another
    /// kind has the name.
    #[error("{field}: {obstacle} (got {place}); remove or rename that, or give another path")]
    Obstacle {
        /// The field that determines the name.
        field: &'static str,
        /// The obstacle and its place.
        obstacle: String,
        /// The output.
        place: String,
    },
    /// Two places of the job overlap.
    #[error(transparent)]
    Overlap(FieldError),
    /// Something that is not a folder is in the place of a folder of the output.
    #[error(
        "spec.pipeline.sink.files.path: {output} needs a folder, and {found} is {problem} (got {template}); move it away, or write to another folder"
    )]
    NotAFolder {
        /// The output.
        output: String,
        /// The path of the obstacle.
        found: String,
        /// What the obstacle is.
        problem: &'static str,
        /// The sink's path.
        template: String,
    },
    /// Two outputs are the same file through links to folders.
    #[error(
        "spec.pipeline.sink.files.path: {first} and {second} are really one file, {real}, through a symbolic link to a folder (got {template}); remove the link, or write to another folder"
    )]
    SameFile {
        /// The first output.
        first: String,
        /// The second output.
        second: String,
        /// Its path without links.
        real: String,
        /// The sink's path.
        template: String,
    },
    /// An output is in the folder of the ledgers, through a link.
    #[error(
        "spec.pipeline.sink.files.path: {output} is really {real}, inside spec.storage.uri (got {storage}); output must not overlap the storage prefix, write to another folder or use another storage"
    )]
    OutputInStorage {
        /// The output.
        output: String,
        /// Its path without links.
        real: String,
        /// The storage's uri.
        storage: String,
    },
    /// The thread that examines the local disk died.
    #[error("check the local files: {source}")]
    Look {
        /// How the thread died.
        #[source]
        source: JoinError,
    },
}

/// Fails if two of the `shards` write the same name, if an output is an input, or if places of the
/// job overlap.
///
/// `inputs` are the uris of the input files, as far as they are known. Cheap for 100,000 shards and
/// inputs.
///
/// # Errors
/// The first pair of names that clash.
pub async fn check_places(
    spec: &ZephyrJobSpec,
    shards: u32,
    dead_letters: &[DeadLetterNames],
    inputs: Vec<String>,
) -> Result<(), PlacesError> {
    let template = &spec.pipeline.sink.files.path;
    if let Some(error) = overlaps(&areas(spec)).into_iter().next() {
        return Err(PlacesError::Overlap(error));
    }
    let outputs = outputs(template, shards)?;
    let names: HashMap<String, usize> = inputs.iter().cloned().zip(0..).collect();
    let is_input = |output: &Location, input: usize| PlacesError::IsInput {
        output: output.to_string(),
        input: inputs[input].clone(),
        template: template.clone(),
    };
    for output in &outputs {
        if let Some(input) = names.get(&output.to_string()) {
            return Err(is_input(output, *input));
        }
    }
    if let Some(input) = named_like_output(template, &inputs) {
        return Err(PlacesError::IsOutput {
            input: input.clone(),
            template: template.clone(),
        });
    }
    let dead_letters = check_dead_letters(dead_letters, &outputs, &inputs)?;
    check_storage(spec, inputs.clone()).await?;
    let reads = paths_of(&inputs);
    if outputs.iter().all(|output| output.local_path().is_none()) {
        return Ok(());
    }
    let outputs: Vec<Location> = outputs.into_iter().chain(dead_letters).collect();
    let writes: Vec<PathBuf> = outputs.iter().filter_map(Location::local_path).collect();
    let (path, storage) = (template.clone(), spec.storage.uri.clone());
    let found = tokio::task::spawn_blocking(move || {
        check_real_outputs(&writes, &path, &storage)?;
        Ok(same_file(&writes, &reads))
    });
    match found
        .await
        .map_err(|source| PlacesError::Look { source })??
    {
        Some((output, input)) => Err(is_input(&outputs[output], input)),
        None => Ok(()),
    }
}

/// The names of dead letters of one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterNames {
    /// The field of the template.
    pub field: String,
    /// The template.
    pub template: String,
    /// The number of shards that may write one.
    pub shards: u32,
}

/// The names of all dead letters of a plan.
pub fn dead_letters_of(plan: &Plan) -> Vec<DeadLetterNames> {
    let of_stage = |stage| {
        let paths = dead_letter_paths(plan, stage);
        paths.map(move |(origin, path)| DeadLetterNames {
            field: format!("{origin}.onError.path"),
            template: path.to_owned(),
            shards: stage.shards,
        })
    };
    plan.stages.iter().flat_map(of_stage).collect()
}

/// All names of dead letters. Fails if the job writes one of them twice, or if their template
/// produces the name of an input.
fn check_dead_letters(
    dead_letters: &[DeadLetterNames],
    outputs: &[Location],
    inputs: &[String],
) -> Result<Vec<Location>, PlacesError> {
    const SINK: &str = "spec.pipeline.sink.files.path";
    let outputs = outputs.iter().map(|output| (output.to_string(), SINK));
    let mut names: HashMap<String, &str> = outputs.collect();
    let mut locations = Vec::new();
    for each in dead_letters {
        let (field, template) = (each.field.as_str(), each.template.as_str());
        if let Some(input) = named_like_output(template, inputs) {
            return Err(PlacesError::DeadLetterIsInput {
                field: field.to_owned(),
                input: input.clone(),
                template: template.to_owned(),
            });
        }
        for shard in 0..each.shards {
            let name = output_path(template, shard, each.shards).map_err(PlacesError::Template)?;
            let location = Location::parse_local(&name)
                .map_err(|source| PlacesError::Name { shard, source })?;
            if let Some(other) = names.insert(location.to_string(), field) {
                return Err(PlacesError::SameNames {
                    field: field.to_owned(),
                    name: location.to_string(),
                    other: other.to_owned(),
                });
            }
            locations.push(location);
        }
    }
    Ok(locations)
}

/// Fails if an input belongs to older output that is removed when the new output is complete. The
/// input may be the same file by its name or through links of a local disk.
///
/// # Errors
/// The first such input.
pub(super) async fn check_replaced(
    spec: &ZephyrJobSpec,
    inputs: &[String],
    replaced: &[Location],
) -> Result<(), PlacesError> {
    if replaced.is_empty() {
        return Ok(());
    }
    let is_replaced = |input: &String| PlacesError::IsReplaced {
        input: input.clone(),
        template: spec.pipeline.sink.files.path.clone(),
    };
    let names: HashSet<String> = replaced.iter().map(Location::to_string).collect();
    if let Some(input) = inputs.iter().find(|input| names.contains(*input)) {
        return Err(is_replaced(input));
    }
    let removed: Vec<PathBuf> = replaced.iter().filter_map(Location::local_path).collect();
    let reads = paths_of(inputs);
    let found = tokio::task::spawn_blocking(move || same_file(&removed, &reads));
    match found.await.map_err(|source| PlacesError::Look { source })? {
        Some((_, input)) => Err(is_replaced(&inputs[input])),
        None => Ok(()),
    }
}

/// For each uri the path of a local file, or an empty path.
fn paths_of(uris: &[String]) -> Vec<PathBuf> {
    let path = |uri: &String| local(uri).unwrap_or_default();
    uris.iter().map(path).collect()
}

/// Fails if something else exists under a local name that the job writes. Also fails if links of a
/// local disk make the storage overlap with the inputs or the other places of the job. `inputs` are
/// those of [`check_places`].
///
/// # Errors
/// The first pair of names that clash.
pub async fn check_storage(spec: &ZephyrJobSpec, inputs: Vec<String>) -> Result<(), PlacesError> {
    let areas = areas(spec);
    let storage = spec.storage.uri.clone();
    let is_local = |uri: &str| local(uri).is_some();
    if !is_local(&storage) && !is_local(&spec.pipeline.sink.files.path) {
        return Ok(());
    }
    let sink = spec.pipeline.sink.files.path.clone();
    let looked = tokio::task::spawn_blocking(move || {
        check_names(&sink, &storage)?;
        let resolved: Vec<Area> = areas
            .iter()
            .map(|area| {
                area.resolved(|path| {
                    real_path(Path::new(path))?
                        .into_os_string()
                        .into_string()
                        .ok()
                })
            })
            .collect();
        if let Some(error) = overlaps(&resolved).into_iter().next() {
            return Err(PlacesError::Overlap(error));
        }
        match input_in_storage(&storage, &inputs) {
            Some((input, real)) => Err(PlacesError::InStorage {
                input: inputs[input].clone(),
                real: real.display().to_string(),
                storage,
            }),
            None => Ok(()),
        }
    });
    looked
        .await
        .map_err(|source| PlacesError::Look { source })?
}

/// Fails if something that cannot be replaced exists under a local name that every job writes. In
/// the place of a marker, this is a folder or a link that leads nowhere. In the place of the
/// output's or the ledger's folder, it is anything but a folder.
fn check_names(sink: &str, storage: &str) -> Result<(), PlacesError> {
    let folder = marker_folder(sink);
    let markers = MARKER_NAMES.map(|marker| {
        let name = format!("{folder}{marker}");
        ("spec.pipeline.sink.files.path", name, Need::File)
    });
    let storage = ("spec.storage.uri", storage.to_owned(), Need::Folder);
    for (field, place, need) in markers.into_iter().chain([storage]) {
        if let Some(obstacle) = local(&place).and_then(|path| obstacle(&path, need)) {
            return Err(PlacesError::Obstacle {
                field,
                obstacle,
                place,
            });
        }
    }
    Ok(())
}

/// The folder of the markers, with a trailing slash.
fn marker_folder(template: &str) -> &str {
    let folder = template.split('{').next().unwrap_or_default();
    &folder[..folder.rfind('/').map_or(0, |slash| slash + 1)]
}

/// All names that the job writes: those of the shards in order, then those of the markers.
fn outputs(template: &str, shards: u32) -> Result<Vec<Location>, PlacesError> {
    let mut outputs = Vec::new();
    let mut names = HashMap::new();
    for shard in 0..shards {
        let name = output_path(template, shard, shards).map_err(PlacesError::Template)?;
        let output =
            Location::parse_local(&name).map_err(|source| PlacesError::Name { shard, source })?;
        if let Some(first) = names.insert(output.to_string(), shard) {
            return Err(PlacesError::SameName {
                first,
                second: shard,
                shards,
                name: output.to_string(),
                template: template.to_owned(),
            });
        }
        outputs.push(output);
    }
    let folder = marker_folder(template);
    for marker in MARKER_NAMES {
        let name = format!("{folder}{marker}");
        let output = Location::parse_local(&name)
            .map_err(|source| PlacesError::Name { shard: 0, source })?;
        outputs.push(output);
    }
    Ok(outputs)
}

/// The first input whose name the sink's path produces with any numbers.
fn named_like_output<'a>(template: &str, inputs: &'a [String]) -> Option<&'a String> {
    let template = Location::parse_local(template).ok()?;
    let store = template.store_key();
    let pattern = NamePattern::new(template);
    inputs.iter().find(|uri| {
        let input = Location::parse_local(uri).ok();
        input.is_some_and(|input| {
            input.store_key() == store && pattern.matches(input.path().as_ref())
        })
    })
}

fn local(uri: &str) -> Option<PathBuf> {
    let is_known = |scheme| uri.starts_with(scheme);
    if ["s3://", "gs://", "az://"].into_iter().any(is_known) {
        return None;
    }
    Location::parse_local(uri).ok()?.local_path()
}

/// Checks three conditions after links are resolved: each local output has a folder or can get one,
/// no two outputs are the same file, and no output is among the ledgers. A link in place of an
/// output itself is replaced and not followed.
fn check_real_outputs(
    outputs: &[PathBuf],
    template: &str,
    storage: &str,
) -> Result<(), PlacesError> {
    let ledgers = local(storage).and_then(|path| real_path(&path));
    let mut folders: HashMap<&Path, PathBuf> = HashMap::new();
    let mut names: HashMap<PathBuf, &Path> = HashMap::new();
    let shown = |path: &Path| path.display().to_string();
    for output in outputs {
        let Some((folder, name)) = output.parent().zip(output.file_name()) else {
            continue;
        };
        let real = if let Some(real) = folders.get(folder) {
            real.join(name)
        } else {
            if let Some((found, problem)) = no_folder(folder) {
                return Err(PlacesError::NotAFolder {
                    output: shown(output),
                    found: shown(found),
                    problem,
                    template: template.to_owned(),
                });
            }
            let real = real_path(folder).unwrap_or_else(|| folder.to_owned());
            folders.entry(folder).or_insert(real).join(name)
        };
        if ledgers.as_ref().is_some_and(|it| real.starts_with(it)) {
            return Err(PlacesError::OutputInStorage {
                output: shown(output),
                real: shown(&real),
                storage: storage.to_owned(),
            });
        }
        if let Some(first) = names.insert(real.clone(), output) {
            return Err(PlacesError::SameFile {
                first: shown(first),
                second: shown(output),
                real: shown(&real),
                template: template.to_owned(),
            });
        }
    }
    Ok(())
}

/// Returns what exists in the place of a folder, or of one of its parents, if it is not a folder.
/// Entries that cannot be read are ignored: writing to them fails later.
fn no_folder(folder: &Path) -> Option<(&Path, &'static str)> {
    for each in folder.ancestors() {
        let Ok(found) = fs::symlink_metadata(each) else {
            continue;
        };
        return match fs::metadata(each) {
            Ok(found) if found.is_dir() => None,
            Ok(_) => Some((each, "a file")),
            Err(_) if found.is_symlink() => Some((each, "a symbolic link that leads nowhere")),
            Err(_) => None,
        };
    }
    None
}

/// Returns the position of the first output that is the same file as an input, and the position of
/// that input. Links are followed. A missing file is not the same as any other.
fn same_file(outputs: &[PathBuf], inputs: &[PathBuf]) -> Option<(usize, usize)> {
    let identity = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        found.is_file().then(|| (found.dev(), found.ino()))
    };
    let mut files = HashMap::new();
    for (index, path) in inputs.iter().enumerate() {
        if let Some(file) = identity(path) {
            files.insert(file, index);
        }
    }
    outputs.iter().enumerate().find_map(|(index, path)| {
        let input = files.get(&identity(path)?)?;
        Some((index, *input))
    })
}

/// The first input that is below the storage's folder after links are resolved.
fn input_in_storage(storage: &str, inputs: &[String]) -> Option<(usize, PathBuf)> {
    let folder = real_path(&local(storage)?)?;
    let mut folders: HashMap<PathBuf, Option<PathBuf>> = HashMap::new();
    inputs.iter().enumerate().find_map(|(index, uri)| {
        let path = local(uri)?;
        let is_link = fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink());
        let real = if is_link {
            real_path(&path)?
        } else {
            let parent = path.parent()?;
            let known = folders.entry(parent.to_owned());
            let parent = known
                .or_insert_with_key(|parent| real_path(parent))
                .clone()?;
            parent.join(path.file_name()?)
        };
        real.starts_with(&folder).then_some((index, real))
    })
}

/// The path without links; the part that does not exist is appended unchanged.
fn real_path(path: &Path) -> Option<PathBuf> {
    let mut rest = Vec::new();
    let mut known = path;
    loop {
        if let Ok(mut real) = known.canonicalize() {
            real.extend(rest.iter().rev());
            return Some(real);
        }
        rest.push(known.file_name()?);
        known = known.parent()?;
    }
}

/// The paths of source and tables that name one file without any wildcard, as uris.
pub fn literal_inputs(spec: &ZephyrJobSpec) -> Vec<String> {
    spec.pipeline
        .files_read()
        .flat_map(|(_, files)| &files.paths)
        .filter(|path| Area::of(Role::Input(0), path).is_some_and(|area| area.is_literal()))
        .filter_map(|path| Some(Location::parse_local(path).ok()?.to_string()))
        .collect()
}

#[cfg(test)]
mod tests;
