//! Validates the step `exec`, and the mounts of the workers.

use super::text;
use crate::exec::{
    ExecSpec, MAX_MOUNTS, MAX_VARIABLE, MAX_VARIABLES, MAX_WORD, MAX_WORDS, MountSpec,
    RESERVED_VARIABLES, mount_paths_allowed,
};
use crate::field_error::FieldError;
use crate::job::{MAX_SLOTS, ZephyrJobSpec};
use crate::rules::{KEPT_COMMAND_ALLOWED, KEPT_COMMAND_PROBLEM, PROGRAM_ALLOWED};
use crate::validate::numbers;

/// Every error in a command; `path` is that of the step.
pub(super) fn validate(path: &str, exec: &ExecSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(program(&format!("{path}.command"), &exec.command));
    for (index, word) in exec.command.iter().enumerate() {
        errors.extend(value(&format!("{path}.command[{index}]"), word, MAX_WORD));
    }
    let env = format!("{path}.env");
    if exec.env.len() > MAX_VARIABLES {
        let allowed = format!("at most {MAX_VARIABLES} variables");
        errors.push(FieldError::new(&env, "has too many variables", allowed).got(exec.env.len()));
    }
    for (name, text) in &exec.env {
        if !text::is_word(name) || name.starts_with(RESERVED_VARIABLES) {
            let allowed = format!(
                "letters, digits and underscores, no digit first, and not {RESERVED_VARIABLES}*"
            );
            errors.push(FieldError::new(&env, "has a name that is not valid", allowed).got(name));
        }
        errors.extend(value(&format!("{env}.{name}"), text, MAX_VARIABLE));
    }
    if exec.reuse == Some(true) && exec.may_ignore_input == Some(true) {
        errors.push(FieldError::new(
            path,
            KEPT_COMMAND_PROBLEM,
            KEPT_COMMAND_ALLOWED,
        ));
    }
    errors.extend(exec.slots.and_then(|slots| {
        numbers::range(&format!("{path}.slots"), slots.into(), 1, MAX_SLOTS.into())
    }));
    errors
}

/// The error if a command takes more task slots than a worker has: all slots of a command are on
/// one worker.
pub(super) fn slots(spec: &ZephyrJobSpec) -> Option<FieldError> {
    let (needed, path) = spec.pipeline.slots_of_commands()?;
    let most = spec.workers.effective_slots()?;
    (needed > most).then(|| {
        let problem = "takes more slots than a worker has";
        let allowed = format!(
            "at most {most}; spec.workers.slots or spec.workers.resources.limits.cpu sets how many a worker has"
        );
        FieldError::new(path, problem, allowed).got(needed)
    })
}

/// Every error in the mounts of the workers.
pub(super) fn mounts(mounts: &[MountSpec]) -> Vec<FieldError> {
    let path = "spec.workers.mounts";
    let mut errors = Vec::new();
    if mounts.len() > MAX_MOUNTS {
        let allowed = format!("at most {MAX_MOUNTS}");
        errors.push(FieldError::new(path, "has too many mounts", allowed).got(mounts.len()));
    }
    for (index, mount) in mounts.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if mount.config_map.is_some() == mount.secret.is_some() {
            let problem = "has not exactly one of configMap and secret";
            let error = FieldError::new(&path, problem, "the name of one of them");
            errors.push(error.got(&mount.path));
        }
        for (field, name) in [("configMap", &mount.config_map), ("secret", &mount.secret)] {
            let name = name.as_ref();
            errors
                .extend(name.and_then(|name| text::object_name(&format!("{path}.{field}"), name)));
        }
        let earlier = mounts.iter().take(index);
        if !mount.has_allowed_path() {
            let problem = "has a path that is not allowed";
            errors.push(FieldError::new(&path, problem, mount_paths_allowed()).got(&mount.path));
        } else if earlier
            .into_iter()
            .any(|other| is_same_or_inside(&mount.path, &other.path))
        {
            let problem = "has the path of another mount, or one inside of it or around it";
            errors.push(FieldError::new(&path, problem, "a folder of its own").got(&mount.path));
        }
    }
    errors
}

fn is_same_or_inside(one: &str, other: &str) -> bool {
    let (one, other) = (format!("{one}/"), format!("{other}/"));
    one.starts_with(&other) || other.starts_with(&one)
}

fn program(path: &str, command: &[String]) -> Option<FieldError> {
    let Some(program) = command.first() else {
        return Some(FieldError::new(path, "is empty", PROGRAM_ALLOWED));
    };
    if command.len() > MAX_WORDS {
        let allowed = format!("at most {MAX_WORDS}");
        return Some(FieldError::new(path, "has too many words", allowed).got(command.len()));
    }
    if program.is_empty() {
        return Some(FieldError::new(path, "has no program", PROGRAM_ALLOWED));
    }
    let is_relative = program.contains('/') && !program.starts_with('/');
    is_relative
        .then(|| FieldError::new(path, "begins with a relative path", PROGRAM_ALLOWED).got(program))
}

/// A text that the system passes to a program.
fn value(path: &str, text: &str, most: usize) -> Option<FieldError> {
    if text.contains('\0') {
        let problem = "contains a zero character";
        return Some(FieldError::new(
            path,
            problem,
            "no system passes it to a program",
        ));
    }
    let length = text.chars().count();
    (length > most).then(|| {
        FieldError::new(path, "is too long", format!("at most {most} characters"))
            .got(format!("{length} characters"))
    })
}
