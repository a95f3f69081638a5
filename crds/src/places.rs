//! Finds overlaps between the places of a job: the names that it reads, the names that it writes
//! and the folder that it owns.
//!
//! Pure: reads no disk and no bucket, so it does not know which files exist. It only bounds what a
//! pattern could match. It may refuse two places that never overlap, but it never accepts two that
//! do. The rules in [`crate::rules`] express the same checks in CEL for source, sink and storage;
//! generated tests compare the two.

use crate::field_error::{FieldError, shown};
use crate::job::ZephyrJobSpec;
use crate::pipeline::{SOURCE_FILES, table_files};

/// The names of the markers that every job writes beside its output: when it begins, and when it
/// has succeeded. No output file may have such a name.
pub const MARKER_NAMES: [&str; 2] = ["_SUCCESS.json", "_STARTED.json"];

/// What is allowed instead of an output name that begins with `_` or `.`. If such a name were
/// allowed, no pattern of a later job that reads the output would match it, and no later job would
/// replace it.
pub(crate) const HIDDEN_NAMES_ALLOWED: &str =
    "a name that begins with another character, because readers of the output skip such files";

/// Characters that make a path a pattern. The text before the first of them is the beginning of
/// every name that matches.
const WILDCARDS: [char; 5] = ['*', '?', '[', '{', '\\'];

/// The use that a job makes of a place. A new kind of place becomes one more role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The input path at this index.
    Input(usize),
    /// A path of a table.
    Table,
    /// The output files and the markers beside them.
    Sink,
    /// Files with bad records.
    DeadLetter,
    /// The ledger and the intermediate data.
    Storage,
}

/// What a role does with its names. Two roles that read may share a name; all other pairs may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Reads the files that a path or a pattern names.
    Reads,
    /// Writes the files that a template names.
    Writes,
    /// Writes any name below a folder.
    Owns,
}

impl Role {
    /// The field that names the place, or all places of this role.
    fn field(self) -> String {
        match self {
            Self::Input(index) => format!("{SOURCE_FILES}.paths[{index}]"),
            Self::Table => "spec.pipeline.tables".to_owned(),
            Self::Sink => "spec.pipeline.sink.files.path".to_owned(),
            Self::DeadLetter => "onError.path".to_owned(),
            Self::Storage => "spec.storage.uri".to_owned(),
        }
    }

    fn purpose(self) -> Purpose {
        match self {
            Self::Input(_) | Self::Table => Purpose::Reads,
            Self::Sink | Self::DeadLetter => Purpose::Writes,
            Self::Storage => Purpose::Owns,
        }
    }
}

/// What may follow the known prefix of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing: the name ends there.
    End,
    /// A digit of a number.
    Digit,
    /// Anything, or nothing.
    Anything,
}

/// A set of names: those that begin with a given text and have a given number of slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    prefix: String,
    next: Next,
    slashes_min: usize,
    slashes_max: usize,
}

/// The place of one role: the prefix of its names, and what is known about the rest of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    role: Role,
    field: String,
    uri: String,
    /// The part without wildcards and placeholders: the whole path of a file or of the storage,
    /// otherwise a folder with its trailing slash.
    known: String,
    /// The rest, as written.
    rest: String,
    is_moved: bool,
}

/// All places of a job. A uri without a bucket has no place; validation refuses such a uri.
pub fn areas(spec: &ZephyrJobSpec) -> Vec<Area> {
    let source = spec.pipeline.source.files.as_ref();
    let inputs = source.map(|files| files.paths.as_slice());
    let inputs = inputs.unwrap_or_default().iter().enumerate();
    let mut areas: Vec<Area> = inputs
        .filter_map(|(index, path)| Area::of(Role::Input(index), path))
        .collect();
    for (name, table) in &spec.pipeline.tables {
        let paths = table.files.paths.iter().enumerate();
        areas.extend(paths.filter_map(|(index, path)| {
            let field = format!("{}.paths[{index}]", table_files(name));
            Some(Area {
                field,
                ..Area::of(Role::Table, path)?
            })
        }));
    }
    areas.extend(Area::of(Role::Sink, &spec.pipeline.sink.files.path));
    for (field, path) in spec.pipeline.dead_letters() {
        areas.extend(Area::of(Role::DeadLetter, path).map(|area| Area { field, ..area }));
    }
    areas.extend(Area::of(Role::Storage, &spec.storage.uri));
    areas
}

/// Every pair of places that may share a name, each with the field to change. A field is reported
/// once for each kind of place that it overlaps.
pub fn overlaps(areas: &[Area]) -> Vec<FieldError> {
    let mut named: Vec<(&str, Purpose)> = Vec::new();
    let mut errors = Vec::new();
    for (index, first) in areas.iter().enumerate() {
        for second in &areas[index + 1..] {
            if !first.overlaps(second) {
                continue;
            }
            let (wrong, other) = blame(first, second);
            let key = (wrong.field.as_str(), other.role.purpose());
            if !named.contains(&key) {
                named.push(key);
                errors.push(error(wrong, other));
            }
        }
    }
    errors
}

/// Decides which of two overlapping places a user should change, and returns that place first. If
/// one of them is output, the user should change the output. If they are input and storage, the
/// user should change the input if the storage contains it, and otherwise the storage.
fn blame<'a>(first: &'a Area, second: &'a Area) -> (&'a Area, &'a Area) {
    match (first.role.purpose(), second.role.purpose()) {
        (Purpose::Reads, Purpose::Owns) if !first.is_inside(second) => (second, first),
        (Purpose::Owns, Purpose::Reads) if !second.is_inside(first) => (first, second),
        (Purpose::Reads | Purpose::Writes, Purpose::Owns) | (Purpose::Writes, Purpose::Reads) => {
            (first, second)
        }
        (_, _) => (second, first),
    }
}

fn error(wrong: &Area, other: &Area) -> FieldError {
    let allowed = match (wrong.role.purpose(), other.role.purpose()) {
        (Purpose::Writes, Purpose::Reads) => {
            "output must not overlap input, write to another folder"
        }
        (Purpose::Writes, Purpose::Owns) => {
            "output must not overlap the storage prefix, write to another folder"
        }
        (Purpose::Owns, Purpose::Reads) => {
            "the storage prefix must not overlap input, use a folder that no input path reaches"
        }
        (Purpose::Reads, Purpose::Owns) => {
            "input must not overlap the storage prefix, read from another folder"
        }
        (_, _) => "two places of a job must not overlap, use another folder",
    };
    let links = match (wrong.is_moved, other.is_moved) {
        (false, false) => String::new(),
        (true, _) => format!(
            ", through a symbolic link: its real path is {}",
            shown(&wrong.known)
        ),
        (false, true) => format!(
            ", through a symbolic link: the real path of that is {}",
            shown(&other.known)
        ),
    };
    let fault = format!("overlaps {}, {}{links}", other.field, shown(&other.uri));
    FieldError::new(&wrong.field, fault, allowed).got(&wrong.uri)
}

impl Area {
    /// The place that a uri names, if it names a bucket or a local path.
    pub fn of(role: Role, uri: &str) -> Option<Self> {
        let text = normal(uri)?;
        let variable = match role.purpose() {
            Purpose::Reads => text.find(WILDCARDS),
            Purpose::Writes => Some(text.find('{').unwrap_or(text.len())),
            Purpose::Owns => None,
        };
        let known = match variable {
            Some(variable) => text[..variable].rfind('/')? + 1,
            None => text.len(),
        };
        let has_bucket = variable.is_none() || !text[..known].ends_with("://");
        has_bucket.then(|| Self {
            role,
            field: role.field(),
            uri: uri.to_owned(),
            known: text[..known].to_owned(),
            rest: text[known..].to_owned(),
            is_moved: false,
        })
    }

    /// Whether this is exactly one name, without wildcards and placeholders.
    pub fn is_literal(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns the same place under the path that `resolve` returns for its absolute local path.
    /// Returns the place unchanged if `resolve` returns `None`.
    #[must_use]
    pub fn resolved(&self, resolve: impl Fn(&str) -> Option<String>) -> Self {
        const LOCAL: &str = "file://";
        let is_folder = self.known.ends_with('/');
        let path = self.known.strip_prefix(LOCAL);
        let real = path
            .map(|path| {
                if path == "/" {
                    path
                } else {
                    path.trim_end_matches('/')
                }
            })
            .and_then(resolve)
            .map(|real| {
                let real = format!("{LOCAL}{}", real.trim_end_matches('/'));
                if is_folder { real + "/" } else { real }
            });
        match real {
            Some(known) if known != self.known => Self {
                known,
                is_moved: true,
                ..self.clone()
            },
            Some(_) | None => self.clone(),
        }
    }

    /// Whether some name can be in both places and one of the places writes it.
    fn overlaps(&self, other: &Self) -> bool {
        match (self.role.purpose(), other.role.purpose()) {
            (Purpose::Reads, Purpose::Reads) => false,
            (Purpose::Reads, Purpose::Writes) => {
                other.is_below_pattern(self) || self.shares_names(other)
            }
            (Purpose::Writes, Purpose::Reads) => {
                self.is_below_pattern(other) || self.shares_names(other)
            }
            (Purpose::Owns, _) | (_, Purpose::Owns) | (Purpose::Writes, Purpose::Writes) => {
                self.shares_names(other)
            }
        }
    }

    /// Whether output is below the folder of a pattern's first wildcard, at any depth. Such output
    /// is data of the same kind as the input, so the next pattern could read it.
    fn is_below_pattern(&self, pattern: &Self) -> bool {
        let is_pattern = !pattern.rest.is_empty();
        let beginning = self.known.clone() + before(&self.rest, &['{']);
        is_pattern && beginning.starts_with(&pattern.known)
    }

    fn is_inside(&self, owner: &Self) -> bool {
        let end = if self.rest.is_empty() { "/" } else { "" };
        let beginning = self.known.clone() + before(&self.rest, &WILDCARDS) + end;
        beginning.starts_with(&(owner.known.clone() + "/"))
    }

    fn shares_names(&self, other: &Self) -> bool {
        let (ours, others) = (self.names(), other.names());
        // The number of shards decides whether a template produces only one file name. So the
        // planner compares these names.
        let is_left_to_the_planner = |ours: &Names, others: &Names| {
            matches!(
                (
                    self.is_one_file(),
                    ours.next,
                    other.is_one_file(),
                    others.next
                ),
                (true, _, _, Next::Digit) | (_, Next::Digit, true, _)
            )
        };
        let meets = |ours: &Names, others: &Names| {
            ours.meets(others) && !is_left_to_the_planner(ours, others)
        };
        ours.iter()
            .any(|ours| others.iter().any(|others| meets(ours, others)))
            || self.is_folder_of(&others)
            || other.is_folder_of(&ours)
    }

    /// Whether one of the names is the owned folder itself: on a local disk a folder cannot also be
    /// a file. A wildcard does not match a folder.
    fn is_folder_of(&self, names: &[Names]) -> bool {
        let folder = Names::exact(self.known.clone());
        let is_owner = self.role.purpose() == Purpose::Owns;
        is_owner
            && names
                .iter()
                .any(|names| names.next != Next::Anything && names.meets(&folder))
    }

    /// Whether this is one input file.
    fn is_one_file(&self) -> bool {
        self.role.purpose() == Purpose::Reads && self.is_literal()
    }

    fn names(&self) -> Vec<Names> {
        let Self { known, rest, .. } = self;
        let whole = slashes(known) + slashes(rest);
        match self.role.purpose() {
            Purpose::Reads if rest.is_empty() => vec![Names::exact(known.clone())],
            Purpose::Reads => {
                let prefix = known.clone() + before(rest, &WILDCARDS);
                let least = slashes(&prefix);
                let is_deep = has_any_depth(rest);
                vec![Names {
                    prefix,
                    next: Next::Anything,
                    slashes_min: if is_deep { least } else { whole },
                    slashes_max: if is_deep { usize::MAX } else { whole },
                }]
            }
            Purpose::Writes => {
                let file = Names {
                    prefix: known.clone() + before(rest, &['{']),
                    next: if rest.contains('{') {
                        Next::Digit
                    } else {
                        Next::End
                    },
                    slashes_min: whole,
                    slashes_max: whole,
                };
                let markers = MARKER_NAMES.map(|name| Names::exact(known.clone() + name));
                // The markers are beside the output only.
                let has_markers = self.role == Role::Sink;
                let markers = markers.into_iter().filter(|_| has_markers);
                std::iter::once(file).chain(markers).collect()
            }
            Purpose::Owns => {
                let prefix = known.clone() + "/";
                vec![Names {
                    slashes_min: slashes(&prefix),
                    slashes_max: usize::MAX,
                    next: Next::Anything,
                    prefix,
                }]
            }
        }
    }
}

impl Names {
    fn exact(name: String) -> Self {
        let slashes = slashes(&name);
        Self {
            prefix: name,
            next: Next::End,
            slashes_min: slashes,
            slashes_max: slashes,
        }
    }

    /// Whether some name can be in both sets.
    fn meets(&self, other: &Self) -> bool {
        let (short, long) = if self.prefix.len() <= other.prefix.len() {
            (self, other)
        } else {
            (other, self)
        };
        let Some(more) = long.prefix.strip_prefix(&short.prefix) else {
            return false;
        };
        let can_follow = match (short.next, more.chars().next()) {
            (Next::Anything, _) => true,
            (Next::Digit, Some(next)) => next.is_ascii_digit(),
            (Next::Digit, None) => long.next != Next::End,
            (Next::End, Some(_)) => false,
            (Next::End, None) => long.next != Next::Digit,
        };
        can_follow && self.slashes_min <= other.slashes_max && other.slashes_min <= self.slashes_max
    }
}

/// Whether names of any depth may match: `**`, or braces for which the depth is not obvious from
/// the text.
fn has_any_depth(pattern: &str) -> bool {
    let has_slash_or_brace_in_braces = pattern.split('{').skip(1).any(|branch| {
        let (inside, is_closed) = branch
            .split_once('}')
            .map_or((branch, false), |(inside, _)| (inside, true));
        inside.contains('/') || !is_closed
    });
    // Adjacent stars that come from expanding braces count as `**`.
    let beside_braces = ["*{", "}*", "}{"];
    pattern.contains("**")
        || has_slash_or_brace_in_braces
        || beside_braces.iter().any(|text| pattern.contains(text))
        || (pattern.contains('{') && pattern.contains(['[', '\\']))
}

/// The uri with single slashes and without a trailing slash; `None` without a scheme or a bucket.
fn normal(uri: &str) -> Option<String> {
    let (scheme, rest) = uri.split_once("://")?;
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    if scheme == "file" {
        let path = parts.join("/");
        let slash = if path.is_empty() { "" } else { "/" };
        return rest
            .starts_with('/')
            .then(|| format!("file://{slash}{path}"));
    }
    let has_bucket = !rest.is_empty() && !rest.starts_with('/');
    has_bucket.then(|| format!("{scheme}://{}", parts.join("/")))
}

fn before<'a>(text: &'a str, ends: &[char]) -> &'a str {
    text.split(ends).next().unwrap_or_default()
}

fn slashes(text: &str) -> usize {
    text.matches('/').count()
}
