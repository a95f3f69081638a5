//! The API server's rules in CEL, each with a message of the form `<what is wrong> (got <value>);
//! <what is allowed>`. If a rule is used in one place only, its message begins with the path of the
//! field, although the server also prints the path in front of each message. [`crate::validate`]
//! has all checks. A check is missing here only if CEL cannot express it, cannot see its values, or
//! would exceed the API server's limit of cost.
//!
//! Values are put into messages by `format` and never by `+`, because the API server bounds the
//! cost of `format` only.

use kube::core::{Message, Rule};

use crate::duration::DurationBounds;
use crate::names::{MAX_JOB_NAME, RESERVED_PREFIX};
use crate::pipeline::AmountBounds;
use crate::places::{HIDDEN_NAMES_ALLOWED, MARKER_NAMES};
use crate::pod_template::{CONTROL_PLANE_TAINTS, RESERVED_ENV_NAMES, RESERVED_ENV_PREFIXES};
use crate::preemptible::SPOT_LABELS;
use crate::resources::MINIMUM_MEMORY_MEBIBYTES;
use crate::validate::uri::FOLDER_ALLOWED;
use crate::workers;

/// Scheme and bucket of an object store.
const BUCKET: &str = "^(s3|gs|az)://[a-z0-9][a-z0-9._-]*[a-z0-9](/|$)";
/// Control characters; the backslashes are doubled for CEL.
const CONTROL: &str = r"[\\x00-\\x1f\\x7f]";
/// A duration; each number has few digits, so that `duration()` cannot overflow.
const DURATION: &str = "^([0-9]{1,6}(h|ms|m|s))+$";
/// A domain, a slash and a name.
const MANAGER: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";
/// The uid of an object of Kubernetes.
const UID: &str = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$";
/// A digest of 128 bits.
const DIGEST: &str = "^[0-9a-f]{32}$";
/// What `restoreFrom.job` may be.
pub(crate) const RESTORE_JOB_ALLOWED: &str = "the uid that `kubectl zephyr export` prints";
/// What `restoreFrom.digest` may be.
pub(crate) const RESTORE_DIGEST_ALLOWED: &str =
    "the 32 hexadecimal digits that `kubectl zephyr export` prints";
/// What the value of `managedBy` may be.
pub(crate) const MANAGER_ALLOWED: &str =
    "a domain, a slash and a name, such as zephyr.dev/operator or kueue.x-k8s.io/multikueue";
/// A bucket without a path, or a path with a trailing slash.
const NAMES_NO_FILE: &str = "!self.matches('^[a-z0-9]+://[^/]+/.*[^/]$')";
/// Steps that determine the number of shards of their output.
const STEPS_THAT_FIX_SHARDS: &str = "self.steps.filter(s, has(s.count) || has(s.aggregate) || (has(s.groupBy) && has(s.groupBy.shards)) \
                                     || (has(s.deduplicate) && has(s.deduplicate.shards)))";

/// Whether a step redistributes its records.
const SHUFFLES: &str = "(has(self.steps) && self.steps.exists(s, has(s.count) || has(s.aggregate) || has(s.groupBy) || has(s.deduplicate)))";
/// Whether all shards would write to the same file name.
const HAS_ONE_NAME: &str = "!self.sink.files.path.matches('[{]shard(:0[1-9])?[}]')";
/// What the first word of a command may be.
pub(crate) const PROGRAM_ALLOWED: &str =
    "the name of a program in PATH, such as python3, or its absolute path";
/// What is wrong with a command that is kept and may leave records unread.
pub(crate) const KEPT_COMMAND_PROBLEM: &str = "has both reuse and mayIgnoreInput";
/// What is allowed instead.
pub(crate) const KEPT_COMMAND_ALLOWED: &str =
    "at most one of them, because a process that serves many shards has to read all of each";

/// The part of the value that a message shows; the expression is CEL.
enum Got<'a> {
    Nothing,
    Text(&'a str),
    Number(&'a str),
    /// Another field's value, and the value of this field.
    Pair(&'a str, &'a str),
}

/// A possible fault: the condition under which it occurs, and its message, both in CEL.
struct Fault {
    condition: String,
    message: String,
}

fn fault(condition: impl Into<String>, wrong: &str, got: &Got<'_>, allowed: &str) -> Fault {
    let cut = |text: &str| format!("size({text}) > 64 ? {text}.substring(0, 64) : {text}");
    let message = match got {
        Got::Nothing => format!("'{wrong}; {allowed}'"),
        Got::Text(text) => format!("'{wrong} (got %s); {allowed}'.format([{}])", cut(text)),
        Got::Pair(other, text) => format!(
            "'{wrong}, %s (got %s); {allowed}'.format([{}, {}])",
            cut(other),
            cut(text)
        ),
        Got::Number(number) => format!("'{wrong} (got %d); {allowed}'.format([{number}])"),
    };
    Fault {
        condition: condition.into(),
        message,
    }
}

/// True if there is no fault; the message is that of the first fault.
fn none_of(faults: &[Fault]) -> Rule {
    let holds: Vec<String> = faults
        .iter()
        .map(|fault| format!("!({})", fault.condition))
        .collect();
    let message = faults.iter().rev().fold(String::new(), |rest, fault| {
        if rest.is_empty() {
            fault.message.clone()
        } else {
            format!("{} ? {} : ({rest})", fault.condition, fault.message)
        }
    });
    Rule::new(holds.join(" && ")).message(Message::Expression(message))
}

/// `metadata.name`: the names of children begin with it.
pub(crate) fn job_name() -> Rule {
    let name = "self.metadata.name";
    none_of(&[
        fault(
            format!("size({name}) > {MAX_JOB_NAME}"),
            "metadata.name: is too long",
            &Got::Text(name),
            &format!("at most {MAX_JOB_NAME} characters, because the names of its pods add to it"),
        ),
        fault(
            format!("{name}.contains('.')"),
            "metadata.name: has a dot",
            &Got::Text(name),
            "no dots, because the name becomes a host name",
        ),
        fault(
            format!("!{name}.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"),
            "metadata.name: is not a valid host name",
            &Got::Text(name),
            "lower case letters, digits and dashes, a letter first and no dash last",
        ),
    ])
}

/// Whether a generation has begun; CEL.
const HAS_BEGUN: &str = "has(self.status) && (has(self.status.generation) || has(self.status.startTime) \
                         || (has(self.status.generations) && size(self.status.generations) > 0))";

/// A field of the spec that cannot be changed after a generation has begun. Before that, a refused
/// value can be corrected. This must be a rule of the whole object, because only such a rule sees
/// the status. It sees the stored status; a status that the user sends is ignored.
pub(crate) fn immutable_once_begun(field: &str) -> Rule {
    Rule::new(format!(
        "self.spec.{field} == oldSelf.spec.{field} || !({HAS_BEGUN})"
    ))
    .message(
        format!("spec.{field}: cannot be changed after the job has begun; create a new job")
            .as_str(),
    )
    .field_path(format!(".spec.{field}"))
}

/// Whether the generation that restarts the job has not begun; CEL. It may wait because the spec is
/// refused.
const RESTART_WAITS: &str = "(has(self.status) && has(self.status.queuedSince) && has(self.status.generation) \
                             && has(self.status.restart) && has(self.status.restart.generation) \
                             && self.status.restart.generation == self.status.generation)";

/// The pipeline can be edited in the update that restarts a failed job, and corrected until the
/// next generation begins. The coordinator refuses an edit that would change the work of complete
/// tasks.
pub(crate) fn pipeline_stays_once_begun() -> Rule {
    Rule::new(format!(
        "self.spec.pipeline == oldSelf.spec.pipeline || {IS_RESTARTED} || {RESTART_WAITS} || !({HAS_BEGUN})"
    ))
    .message("spec.pipeline: cannot be changed after the job has begun, except in the update that changes spec.restart after a failure; create a new job")
    .field_path(".spec.pipeline")
}

/// The value of `managedBy`: a domain, a slash and a name.
pub(crate) fn manager() -> Rule {
    none_of(&[fault(
        format!("!self.matches('{MANAGER}')"),
        "spec.managedBy: is not a name with a domain",
        &Got::Text("self"),
        MANAGER_ALLOWED,
    )])
}

/// The controller of a job cannot be changed, because both controllers could run the job at once.
pub(crate) fn managed_by_is_final() -> Rule {
    let (new, old) = ("self.spec.managedBy", "oldSelf.spec.managedBy");
    Rule::new(format!(
        "has({new}) == has({old}) && (!has({new}) || {new} == {old})"
    ))
    .message("spec.managedBy: cannot be changed; create a new job")
    .field_path(".spec")
}

/// The value of `restoreFrom.job`.
pub(crate) fn restore_job() -> Rule {
    none_of(&[fault(
        format!("!self.matches('{UID}')"),
        "spec.restoreFrom.job: is not the uid of a job",
        &Got::Text("self"),
        RESTORE_JOB_ALLOWED,
    )])
}

/// The value of `restoreFrom.digest`.
pub(crate) fn restore_digest() -> Rule {
    none_of(&[fault(
        format!("!self.matches('{DIGEST}')"),
        "spec.restoreFrom.digest: is not the digest of an archive",
        &Got::Text("self"),
        RESTORE_DIGEST_ALLOWED,
    )])
}

/// A job never changes its folder: it would lose what is complete.
pub(crate) fn restore_from_is_final() -> Rule {
    let (new, old) = ("self.spec.restoreFrom", "oldSelf.spec.restoreFrom");
    Rule::new(format!(
        "has({new}) == has({old}) && (!has({new}) || {new} == {old})"
    ))
    .message("spec.restoreFrom: cannot be changed; create a new job")
    .field_path(".spec")
}

/// Whether an update asks for a restart; CEL.
const IS_RESTARTED: &str = "(has(self.spec.restart) && (!has(oldSelf.spec.restart) || self.spec.restart != oldSelf.spec.restart))";

/// A cancelled job stays cancelled, because pods and data may be gone already. A restart makes new
/// pods.
pub(crate) fn cancel_is_final() -> Rule {
    Rule::new(format!(
        "!has(oldSelf.spec.cancel) || has(self.spec.cancel) || {IS_RESTARTED}"
    ))
    .message("spec.cancel: cannot be removed; only the update that changes spec.restart may remove it, after the job has failed")
    .field_path(".spec")
}

/// Only a failed job can be restarted, and only if its data exists and nothing else ends it again.
pub(crate) fn restart_follows_a_failure() -> Rule {
    let phase = "has(self.status) && has(self.status.phase)";
    let allowed = "only a job that has failed can be restarted";
    none_of(&[
        fault(
            format!("{IS_RESTARTED} && {phase} && self.status.phase == 'Succeeded'"),
            "spec.restart: the job has succeeded",
            &Got::Text("self.spec.restart"),
            "create a new job to run the pipeline again",
        ),
        fault(
            format!("{IS_RESTARTED} && !({phase} && self.status.phase == 'Failed')"),
            "spec.restart: the job has not ended",
            &Got::Text("self.spec.restart"),
            allowed,
        ),
        fault(
            format!(
                "{IS_RESTARTED} && has(self.spec.storage.retain) && self.spec.storage.retain == 'Never'"
            ),
            "spec.restart: intermediate data was removed, because spec.storage.retain is Never",
            &Got::Text("self.spec.restart"),
            "create a new job",
        ),
        fault(
            format!(
                "{IS_RESTARTED} && has(oldSelf.spec.cancel) && !oldSelf.spec.cancel.keepOutput && has(oldSelf.status.conditions) \
                 && oldSelf.status.conditions.exists(c, c.type == 'Failed' && c.reason == 'Cancelled')"
            ),
            "spec.restart: files of the output may be removed, because spec.cancel.keepOutput was false",
            &Got::Text("self.spec.restart"),
            "create a new job",
        ),
        fault(
            format!("{IS_RESTARTED} && has(self.spec.cancel)"),
            "spec.restart: spec.cancel would end the job again",
            &Got::Text("self.spec.restart"),
            "remove spec.cancel in the same update",
        ),
    ])
    .field_path(".spec")
}

/// How and why a job was cancelled cannot be changed after its end, and a job that has ended cannot
/// be cancelled: its conditions already say how it ended.
pub(crate) fn cancel_stays_after_the_end() -> Rule {
    let has_ended = "has(oldSelf.status) && has(oldSelf.status.completionTime)";
    let is_same = "has(oldSelf.spec.cancel) && self.spec.cancel == oldSelf.spec.cancel";
    Rule::new(format!(
        "!({has_ended} && has(self.spec.cancel)) || {IS_RESTARTED} || ({is_same})"
    ))
    .message(
        "spec.cancel: cannot be set or changed after the job has ended; its conditions say why it ended",
    )
    .field_path(".spec.cancel")
}

/// Only a coordinator knows which files of the output are the job's.
pub(crate) fn removal_is_graceful() -> Rule {
    Rule::new("self.keepOutput || self.mode == 'Graceful'")
        .message("spec.cancel.keepOutput: is false, and mode is Immediate; only the coordinator can remove files, so mode must be Graceful")
        .field_path(".keepOutput")
}

/// The coordinator may have removed the files already.
pub(crate) fn removal_is_final() -> Rule {
    Rule::new("self.keepOutput == oldSelf.keepOutput")
        .message("spec.cancel.keepOutput: cannot be changed after the job was cancelled; the coordinator may have removed files already")
        .field_path(".keepOutput")
}

/// A whole number between two bounds.
pub(crate) fn range(path: &str, least: i64, greatest: i64) -> Rule {
    let wrong = format!("{path}: is out of range");
    none_of(&[fault(
        format!("self < {least} || self > {greatest}"),
        &wrong,
        &Got::Number("self"),
        &format!("must be {least}..{greatest}"),
    )])
}

/// A duration between two bounds.
pub(crate) fn duration(path: &str, DurationBounds { least, greatest }: DurationBounds) -> Rule {
    none_of(&[
        fault(
            format!("!self.matches('{DURATION}')"),
            &format!("{path}: is not a duration"),
            &Got::Text("self"),
            &format!(
                "a duration needs whole numbers and a unit of h, m, s, ms, such as 5m, from {least} to {greatest}"
            ),
        ),
        fault(
            format!(
                "self.matches('{DURATION}') && (duration(self) < duration('{least}') || duration(self) > duration('{greatest}'))"
            ),
            &format!("{path}: is out of range"),
            &Got::Text("self"),
            &format!("must be {least}..{greatest}"),
        ),
    ])
}

pub(crate) fn backoff_order() -> Rule {
    none_of(&[fault(
        format!(
            "self.initial.matches('{DURATION}') && self.max.matches('{DURATION}') && duration(self.initial) > duration(self.max)"
        ),
        "spec.retries.backoff.initial: is longer than max",
        &Got::Text("self.initial"),
        "at most spec.retries.backoff.max",
    )])
}

/// A reference to an image in the field `path`; empty text has the meaning `or_empty`.
pub(crate) fn image(path: &str, or_empty: &str) -> Rule {
    // As in a container engine, the first part is a host only if it contains a dot or a port.
    let label = "[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?";
    let host = format!("({label}([.]{label})+(:[0-9]{{1,5}})?|{label}:[0-9]{{1,5}})/");
    let part = "[a-z0-9]+([._-]+[a-z0-9]+)*";
    none_of(&[
        fault(
            format!("self.matches('{CONTROL}')"),
            &format!("{path}: is not a valid image reference"),
            &Got::Nothing,
            "printable characters only",
        ),
        fault(
            format!(
                "self != '' && !self.matches('^({host})?{part}(/{part})*(:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(@sha256:[a-f0-9]{{64}})?$')"
            ),
            &format!("{path}: is not a valid image reference"),
            &Got::Text("self"),
            &format!(
                "registry/repository:tag or registry/repository@sha256:digest with the repository in lower case, or empty for {or_empty}"
            ),
        ),
    ])
}

/// Checks that apply to every uri, whatever it is used for; each message begins with `path`.
/// Credentials and control characters are never shown.
fn uri_faults(path: &str) -> Vec<Fault> {
    let schemes = "a uri begins with s3://, gs:// or az:// and a bucket";
    vec![
        fault(
            "self == ''",
            &format!("{path}is empty"),
            &Got::Nothing,
            &format!("required: {schemes}"),
        ),
        fault(
            format!("self.matches('{CONTROL}')"),
            &format!("{path}has a control character"),
            &Got::Nothing,
            "control characters are not allowed",
        ),
        fault(
            "self.matches('^[^/]*://[^/]*@')",
            &format!("{path}contains credentials"),
            &Got::Nothing,
            "credentials in a uri are not allowed, name a Secret in spec.storage.credentialsSecret",
        ),
        fault(
            "!self.contains('://')",
            &format!("{path}has no scheme"),
            &Got::Text("self"),
            schemes,
        ),
        fault(
            "!self.matches('^(s3|gs|az)://')",
            &format!("{path}has a scheme that is not allowed"),
            &Got::Text("self"),
            schemes,
        ),
        fault(
            format!("!self.matches('{BUCKET}')"),
            &format!("{path}has no valid bucket"),
            &Got::Text("self"),
            "a bucket follows the scheme: lower case letters, digits, dots, dashes",
        ),
        fault(
            "self.matches('://.*//')",
            &format!("{path}has an empty segment (//)"),
            &Got::Text("self"),
            "single slashes between the parts of the path",
        ),
        fault(
            "self.matches('/[.][.]?(/|$)') || self.matches('%2[eEfF]')",
            &format!("{path}has . or .. in its path, plain or percent-encoded"),
            &Got::Text("self"),
            ".. is not allowed, every part of the path is a name",
        ),
    ]
}

pub(crate) fn storage_uri() -> Rule {
    let path = "spec.storage.uri: ";
    let mut faults = uri_faults(path);
    faults.push(fault(
        "self.matches('[?#*{}\\\\[\\\\]]')",
        &format!("{path}has a character that is not allowed"),
        &Got::Text("self"),
        "a plain prefix, without ? # * [ ] { }",
    ));
    none_of(&faults)
}

pub(crate) fn source_path() -> Rule {
    let mut faults = uri_faults("");
    faults.push(fault(
        "self.endsWith('/')",
        "names a folder",
        &Got::Text("self"),
        FOLDER_ALLOWED,
    ));
    faults.push(fault(
        NAMES_NO_FILE,
        "names no file",
        &Got::Text("self"),
        "a bucket and the name of a file, or a pattern such as folder/*",
    ));
    none_of(&faults)
}

pub(crate) fn sink_path() -> Rule {
    let path = "spec.pipeline.sink.files.path: ";
    let mut faults = uri_faults(path);
    faults.push(fault(
        "!self.matches('^([^{}]|[{](shard|total)(:0[1-9])?[}]|[{]value:[A-Za-z_][A-Za-z0-9_]*[}])*$')",
        &format!("{path}has a placeholder that is not known"),
        &Got::Text("self"),
        "{shard} and {total}, or with a width {shard:05}, and {value:name} of spec.pipeline.values",
    ));
    faults.push(fault(
        NAMES_NO_FILE,
        &format!("{path}names no file"),
        &Got::Text("self"),
        "a bucket and the name of a file",
    ));
    faults.push(fault(
        "self.matches('[?#*\\\\[\\\\]]')",
        &format!("{path}has a character that is not allowed"),
        &Got::Text("self"),
        "the name of a file, without ? # * [ ]",
    ));
    let markers = MARKER_NAMES.map(|name| name.to_ascii_lowercase().replace('.', "[.]"));
    faults.push(fault(
        format!("self.lowerAscii().matches('/({})$')", markers.join("|")),
        &format!("{path}has a reserved name"),
        &Got::Text("self"),
        &format!(
            "any name except {}, which the job itself writes",
            MARKER_NAMES.join(" and ")
        ),
    ));
    // This applies to the name of the file, to folders whose name contains a placeholder, and to
    // folders below these.
    faults.push(fault(
        "self.matches('/[_.][^/]*([{]|$)|[{].*/[_.]')",
        &format!("{path}has a name that begins with _ or ."),
        &Got::Text("self"),
        HIDDEN_NAMES_ALLOWED,
    ));
    none_of(&faults)
}

pub(crate) fn sink_format() -> Rule {
    none_of(&[
        fault(
            "!has(self.format) && !self.path.lowerAscii().matches('[.](jsonl|ndjson|txt|text)([.](gz|zst))?$')",
            "spec.pipeline.sink.files.format: cannot be derived from the extension of path",
            &Got::Text("self.path"),
            "set jsonl or text",
        ),
        fault(
            "has(self.compression) && (self.path.lowerAscii().endsWith('.gz') && self.compression != 'gz' || self.path.lowerAscii().endsWith('.zst') && self.compression != 'zst')",
            "spec.pipeline.sink.files.compression: does not match the extension of path",
            &Got::Text("self.path"),
            "omit it, or change the extension of path",
        ),
    ])
}

pub(crate) fn object_name() -> Rule {
    none_of(&[fault(
        "!self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
        "is not a valid object name",
        &Got::Text("self"),
        "a name in the same namespace: lower case letters, digits, dashes and dots",
    )])
}

/// A mounted object: exactly one, at a path of its own.
pub(crate) fn mount() -> Rule {
    none_of(&[
        fault(
            "has(self.configMap) == has(self.secret)",
            "has not exactly one of configMap and secret",
            &Got::Text("self.path"),
            "the name of one of them",
        ),
        fault(
            format!(
                "!self.path.matches('^(/[A-Za-z0-9_.-]+)+$') || self.path.contains('/.') || {}",
                crate::exec::RESERVED_FOLDERS
                    .iter()
                    .map(|folder| format!("(self.path + '/').startsWith('{folder}/')"))
                    .collect::<Vec<_>>()
                    .join(" || ")
            ),
            "has a path that is not allowed",
            &Got::Text("self.path"),
            &crate::exec::mount_paths_allowed(),
        ),
    ])
}

pub(crate) fn jq_expression() -> Rule {
    Rule::new("size(self) > 0").message("is empty; a jq expression, . for the record itself")
}

pub(crate) fn column() -> Rule {
    Rule::new(
        "size(self) > 0 && !self.startsWith('.') && !self.endsWith('.') && !self.contains('..')",
    )
    .message("is not a valid column name; names joined by dots, such as a or b.c")
}

/// Exactly one of the optional fields is set.
pub(crate) fn exactly_one(fields: &[&str]) -> Rule {
    let count: Vec<String> = fields
        .iter()
        .map(|field| format!("(has(self.{field}) ? 1 : 0)"))
        .collect();
    let count = count.join(" + ");
    none_of(&[fault(
        format!("{count} != 1"),
        "must have exactly one field",
        &Got::Number(&count),
        &format!("exactly one of {}", fields.join(", ")),
    )])
}

/// The number of workers is either fixed or between two bounds.
pub(crate) fn number_of_workers() -> Rule {
    none_of(&[
        fault(
            "has(self.replicas) && (has(self.minReplicas) || has(self.maxReplicas))",
            &format!("spec.workers: {}", workers::BOTH),
            &Got::Nothing,
            workers::ALLOWED,
        ),
        fault(
            "!has(self.replicas) && !has(self.maxReplicas)",
            &format!("spec.workers: {}", workers::NEITHER),
            &Got::Nothing,
            workers::ALLOWED,
        ),
        fault(
            "has(self.minReplicas) && has(self.maxReplicas) && self.minReplicas > self.maxReplicas",
            &format!("spec.workers: {}", workers::LEAST_ABOVE_GREATEST),
            &Got::Number("self.minReplicas"),
            workers::LEAST_ALLOWED,
        ),
    ])
}

/// The first word of a command.
pub(crate) fn program() -> Rule {
    none_of(&[
        fault(
            "size(self) > 0 && size(self[0]) == 0",
            "has no program",
            &Got::Nothing,
            PROGRAM_ALLOWED,
        ),
        fault(
            "size(self) > 0 && self[0].contains('/') && !self[0].startsWith('/')",
            "begins with a relative path",
            &Got::Text("self[0]"),
            PROGRAM_ALLOWED,
        ),
    ])
}

/// A process that is kept for many shards reads all records of each.
pub(crate) fn kept_command() -> Rule {
    none_of(&[fault(
        "has(self.reuse) && self.reuse == true && has(self.mayIgnoreInput) && self.mayIgnoreInput == true",
        KEPT_COMMAND_PROBLEM,
        &Got::Nothing,
        KEPT_COMMAND_ALLOWED,
    )])
}

/// The names of a command's environment variables.
pub(crate) fn command_environment() -> Rule {
    Rule::new("self.all(name, name.matches('^[A-Za-z_][A-Za-z0-9_]*$') && !name.startsWith('ZEPHYR_'))")
        .message("has a name that is not valid; letters, digits and underscores, no digit first, and not ZEPHYR_*")
}

/// The fields about skipped records need an action that skips records, and `Fail` skips none.
pub(crate) fn on_error() -> Rule {
    Rule::new("self.action != 'Fail' || !(has(self.maxSkipped) || has(self.maxSkippedPercent) || has(self.messages))")
        .message("has fields that have no effect with action Fail (got Fail); Skip, or no other field")
}

/// The path of dead letters belongs to the action that writes them.
pub(crate) fn dead_letter_has_a_path() -> Rule {
    Rule::new("(self.action == 'DeadLetter') == has(self.path)").message(
        "has a path without action DeadLetter, or DeadLetter without a path; both or none of them",
    )
}

/// The path of dead letters. Whether it is below the output's folder is checked in
/// [`crate::validate`].
pub(crate) fn dead_letter_path() -> Rule {
    none_of(&[
        fault(
            "!self.matches('^(s3|gs|az)://')",
            "has no scheme, or one that is not allowed",
            &Got::Text("self"),
            "a path that begins with s3://, gs:// or az://",
        ),
        fault(
            "!self.matches('[{]shard(:0[1-9])?[}]')",
            "has no {shard}",
            &Got::Text("self"),
            "{shard} or {shard:05} in the name of the file",
        ),
        fault(
            "!self.lowerAscii().matches('[.](jsonl|ndjson)([.](gz|zst))?$')",
            "has an extension that is not allowed",
            &Got::Text("self"),
            ".jsonl or .ndjson, before .gz or .zst",
        ),
    ])
}

/// `onError` needs a step that can fail on a single record.
pub(crate) fn on_error_of_step() -> Rule {
    Rule::new("!has(self.onError) || !(has(self.sample) || has(self.takePerShard) || has(self.window) || has(self.windowBy) || has(self.exec) || has(self.count))").message(
        "has onError beside a step that does not fail on a single record; onError beside map, filter, flatMap, select, drop, rename, groupBy, deduplicate or aggregate",
    )
}

/// A direction belongs to an order.
pub(crate) fn descending_needs_an_order() -> Rule {
    Rule::new("!has(self.descending) || has(self.sortBy)").message(
        "groupBy.descending: has no effect without sortBy; sortBy beside it, or no descending",
    )
}

pub(crate) fn aggregate_names() -> Rule {
    Rule::new("!('key' in self)").message(
        "must not have an aggregate named key (got key); key is reserved for the key of the group",
    )
}

/// Most programs that read YAML turn an unquoted `y`, `n`, `yes`, `no`, `on` or `off` into the key
/// `true` or `false`.
pub(crate) fn aggregate_names_are_words() -> Rule {
    Rule::new("!('true' in self) && !('false' in self)").message("must not have an aggregate named true or false; YAML reads y, n, yes, no, on and off as these, so put such a name in quotes")
}

pub(crate) fn environment_name() -> Rule {
    let prefixes: Vec<String> = RESERVED_ENV_PREFIXES
        .iter()
        .map(|prefix| format!("self.startsWith('{prefix}')"))
        .collect();
    let names: Vec<String> = RESERVED_ENV_NAMES
        .iter()
        .map(|name| format!("'{name}'"))
        .collect();
    none_of(&[
        fault(
            "!self.matches('^[A-Za-z_][A-Za-z0-9_]*$')",
            "is not a valid environment variable name",
            &Got::Text("self"),
            "letters, digits and underscores, no digit first",
        ),
        fault(
            format!(
                "{} || self in [{}]",
                prefixes.join(" || "),
                names.join(", ")
            ),
            "is a reserved name",
            &Got::Text("self"),
            &format!(
                "any name except {}* and {}",
                RESERVED_ENV_PREFIXES.join("*, "),
                RESERVED_ENV_NAMES.join(", ")
            ),
        ),
    ])
}

pub(crate) fn environment_source() -> Rule {
    Rule::new("!(has(self.value) && has(self.valueFrom))")
        .message("has both value and valueFrom; only one of them")
}

/// No key has the prefix of this project, or that of the labels that the operator sets.
pub(crate) fn reserved_keys(kind: &str) -> Rule {
    Rule::new(format!("self.all(key, !key.startsWith('{RESERVED_PREFIX}') && !key.startsWith('app.kubernetes.io/'))"))
        .message(format!("has a key with a reserved prefix; any {kind} but {RESERVED_PREFIX}* and app.kubernetes.io/*").as_str())
}

pub(crate) fn toleration() -> Rule {
    let taints: Vec<String> = CONTROL_PLANE_TAINTS
        .iter()
        .map(|taint| format!("'{taint}'"))
        .collect();
    none_of(&[
        fault(
            format!("self.key in [{}]", taints.join(", ")),
            "tolerates a taint that is not allowed",
            &Got::Text("self.key"),
            "any taint except those of the control plane",
        ),
        fault(
            "has(self.operator) && self.operator == 'Exists' && has(self.value) && self.value != ''",
            "has a value although operator is Exists",
            &Got::Text("self.value"),
            "no value, or operator Equal",
        ),
    ])
}

pub(crate) fn custom_provider() -> Rule {
    let path = "spec.workers.preemptible";
    none_of(&[
        fault(
            "self.provider == 'custom' && (!has(self.nodeSelector) || size(self.nodeSelector) == 0)",
            &format!("{path}.nodeSelector: is missing"),
            &Got::Nothing,
            "provider custom needs the labels of its nodes",
        ),
        fault(
            "self.provider != 'custom' && (has(self.nodeSelector) || has(self.tolerations))",
            &format!("{path}: has nodeSelector or tolerations although provider is not custom"),
            &Got::Text("self.provider"),
            "remove them or set provider: custom",
        ),
    ])
}

pub(crate) fn coordinator_is_not_preemptible() -> Rule {
    let any: Vec<String> = SPOT_LABELS
        .iter()
        .map(|label| {
            format!(
                "('{0}' in self.nodeSelector && self.nodeSelector['{0}'] == '{1}')",
                label.key, label.value
            )
        })
        .collect();
    Rule::new(format!("!has(self.nodeSelector) || !({})", any.join(" || "))).message(
        "spec.coordinator.template.nodeSelector: selects preemptible nodes; the coordinator must not be preemptible, select other nodes or none",
    )
}

pub(crate) fn quantity() -> Rule {
    let text = "string(self)";
    none_of(&[
        fault(
            format!("!isQuantity({text})"),
            "is not a quantity",
            &Got::Text(text),
            "a number with a suffix such as m, k, M, G, Ki, Mi, Gi",
        ),
        fault(
            format!("isQuantity({text}) && !quantity({text}).isGreaterThan(quantity('0'))"),
            "is not positive",
            &Got::Text(text),
            "must be > 0",
        ),
    ])
}

/// An amount between two bounds.
pub(crate) fn amount(path: &str, AmountBounds { least, greatest }: AmountBounds) -> Rule {
    let text = "string(self)";
    none_of(&[fault(
        format!(
            "isQuantity({text}) && quantity({text}).isGreaterThan(quantity('0')) && (quantity({text}).isLessThan(quantity('{least}')) || quantity({text}).isGreaterThan(quantity('{greatest}')))"
        ),
        &format!("{path}: is out of range"),
        &Got::Text(text),
        &format!("must be {least}..{greatest}"),
    )])
}

/// An amount between two bounds. The lower bound may be 0.
pub(crate) fn amount_or_zero(path: &str, AmountBounds { least, greatest }: AmountBounds) -> Rule {
    let text = "string(self)";
    none_of(&[
        fault(
            format!("!isQuantity({text})"),
            &format!("{path}: is not a quantity"),
            &Got::Text(text),
            "a number with a suffix such as m, k, M, G, Ki, Mi, Gi",
        ),
        fault(
            format!(
                "isQuantity({text}) && (quantity({text}).isLessThan(quantity('{least}')) || quantity({text}).isGreaterThan(quantity('{greatest}')))"
            ),
            &format!("{path}: is out of range"),
            &Got::Text(text),
            &format!("must be {least}..{greatest}"),
        ),
    ])
}

pub(crate) fn memory() -> Rule {
    let least = format!("{MINIMUM_MEMORY_MEBIBYTES}Mi");
    let text = "string(self)";
    none_of(&[fault(
        format!(
            "isQuantity({text}) && quantity({text}).isGreaterThan(quantity('0')) && quantity({text}).isLessThan(quantity('{least}'))"
        ),
        "is too little memory",
        &Got::Text(text),
        &format!("minimum {least}"),
    )])
}

pub(crate) fn request_within_limit(resource: &str) -> Rule {
    let field = resource.replace('-', "__dash__");
    let request = format!("string(self.requests.{field})");
    let limit = format!("string(self.limits.{field})");
    none_of(&[fault(
        format!(
            "has(self.requests) && has(self.limits) && has(self.requests.{field}) && has(self.limits.{field}) \
             && isQuantity({request}) && isQuantity({limit}) && quantity({request}).isGreaterThan(quantity({limit}))"
        ),
        &format!("requests.{resource}: is greater than the limit"),
        &Got::Text(&request),
        "requests must be <= limits",
    )])
}

/// The file name must contain the shard if the spec alone shows that there is more than one output
/// shard. The number of inline items is not known here, because CEL does not see values without a
/// type.
pub(crate) fn shard_in_path() -> Rule {
    let last = format!("{STEPS_THAT_FIX_SHARDS}[size({STEPS_THAT_FIX_SHARDS}) - 1]");
    let last_is_many = format!(
        "(has({last}.groupBy) && {last}.groupBy.shards > 1) || (has({last}.deduplicate) && {last}.deduplicate.shards > 1)"
    );
    let source_is_many = format!(
        "(has(self.source.items) && has(self.source.items.shards) && self.source.items.shards > 1) \
         || (has(self.source.files) && size(self.source.files.paths) > 1 && !{} && !{SHUFFLES})",
        sets_size("combineBytes")
    );
    let is_many = format!(
        "(has(self.steps) && size({STEPS_THAT_FIX_SHARDS}) > 0 ? ({last_is_many}) : ({source_is_many}))"
    );
    none_of(&[fault(
        format!("{HAS_ONE_NAME} && {is_many}"),
        "spec.pipeline.sink.files.path: has no {shard}, but more than one shard is written",
        &Got::Text("self.sink.files.path"),
        "put {shard} or {shard:05} into the name of the file",
    )])
}

/// If the output has one name, no size may be set at which files are split.
pub(crate) fn split_files_have_names() -> Rule {
    none_of(&[fault(
        format!(
            "{HAS_ONE_NAME} && has(self.source.files) && {} && !{SHUFFLES}",
            sets_size("splitBytes")
        ),
        "spec.pipeline.source.files.splitBytes: makes several shards of a file, but the output has one name",
        &Got::Text("self.sink.files.path"),
        "put {shard} into spec.pipeline.sink.files.path, or omit splitBytes",
    )])
}

/// Whether a size of the source's files is set and not 0.
fn sets_size(field: &str) -> String {
    let text = format!("string(self.source.files.{field})");
    format!(
        "(has(self.source.files.{field}) && isQuantity({text}) && quantity({text}).isGreaterThan(quantity('0')))"
    )
}

/// A character that makes a path a pattern; the backslashes are doubled for CEL. Everything below
/// repeats in CEL what [`crate::places`] checks for every place.
const WILDCARD: &str = r"[*?{\\[\\\\]";
/// The common prefix of all names that `path` matches, if it has a wildcard.
const PATTERN_PREFIX: &str = r"path.find('^[^*?{\\[\\\\]*')";
/// The folder that contains the first wildcard of `path`.
const PATTERN_FOLDER: &str = r"path.find('^[^*?{\\[\\\\]*/')";
/// Whether names of any depth may match: `**`, or braces for which the depth is not obvious from
/// the text.
const PATTERN_HAS_ANY_DEPTH: &str = r"(path.contains('**') || path.matches('[{][^}]*[/{]|[*][{]|[}][*{]') || (path.contains('{') && path.matches('[\\[\\\\]')))";
/// The number of slashes in every name that matches, plus one.
const PATTERN_DEPTH: &str = "(size(path.split('/')) - (path.endsWith('/') ? 1 : 0))";
const SINK: &str = "self.pipeline.sink.files.path";
const PATHS: &str = "self.pipeline.source.files.paths";
/// The storage prefix as a folder.
const STORAGE_FOLDER: &str =
    "(self.storage.uri.endsWith('/') ? self.storage.uri : self.storage.uri + '/')";
/// A prefix without a bucket has its own error message, and would contain everything.
const STORAGE_HAS_BUCKET: &str = "self.storage.uri.matches('^[a-z0-9]+://[^/]')";

/// The prefix of every output file: the template up to its first placeholder.
fn sink_prefix() -> String {
    format!("{SINK}.find('^[^{{]*')")
}

/// The names that the job writes: the markers, and the template of the output files.
fn sink_names() -> String {
    let markers: Vec<String> = MARKER_NAMES
        .iter()
        .map(|name| format!("{SINK}.find('^[^{{]*/') + '{name}'"))
        .collect();
    format!("[{SINK}, {}]", markers.join(", "))
}

/// Whether a text can be the prefix of an output file's name because a number follows.
fn begins_an_output(text: &str) -> String {
    let prefix = sink_prefix();
    format!(
        "({SINK}.contains('{{') && {text}.startsWith({prefix}) && {text}.substring(size({prefix})).matches('^[0-9]'))"
    )
}

pub(crate) fn output_is_not_input() -> Rule {
    let prefix = sink_prefix();
    let reaches_numbers = format!(
        "{} && ({PATTERN_HAS_ANY_DEPTH} ? size({SINK}.split('/')) >= size({PATTERN_PREFIX}.split('/')) : size({SINK}.split('/')) == {PATTERN_DEPTH})",
        begins_an_output(PATTERN_PREFIX)
    );
    let names = sink_names();
    let overlaps = format!(
        "(path.matches('{WILDCARD}') ? ({prefix}.startsWith({PATTERN_FOLDER}) || ({reaches_numbers})) : {names}.exists(name, name == path || name + '/' == path))"
    );
    none_of(&[fault(
        format!("has(self.pipeline.source.files) && {PATHS}.exists(path, {overlaps})"),
        "spec.pipeline.sink.files.path: overlaps spec.pipeline.source.files.paths",
        &Got::Pair(&format!("{PATHS}.filter(path, {overlaps})[0]"), SINK),
        "output must not overlap input, write to another folder",
    )])
}

pub(crate) fn output_is_not_storage() -> Rule {
    let names = sink_names();
    let begins = begins_an_output(STORAGE_FOLDER);
    none_of(&[fault(
        format!(
            "{STORAGE_HAS_BUCKET} && ({names}.exists(name, (name + '/').startsWith({STORAGE_FOLDER})) \
             || ({begins} && size({SINK}.split('/')) + 1 >= size({STORAGE_FOLDER}.split('/'))))"
        ),
        "spec.pipeline.sink.files.path: overlaps spec.storage.uri",
        &Got::Pair("self.storage.uri", SINK),
        "output must not overlap the storage prefix, write to another folder",
    )])
}

pub(crate) fn input_is_not_storage() -> Rule {
    let inside = format!(
        "(path.matches('{WILDCARD}') ? {PATTERN_PREFIX}.startsWith({STORAGE_FOLDER}) : (path + '/').startsWith({STORAGE_FOLDER}))"
    );
    let around = format!(
        "(path.matches('{WILDCARD}') && {STORAGE_FOLDER}.startsWith({PATTERN_PREFIX}) \
         && ({PATTERN_HAS_ANY_DEPTH} || {PATTERN_DEPTH} >= size({STORAGE_FOLDER}.split('/'))))"
    );
    let any = |overlaps: &str| {
        format!(
            "{STORAGE_HAS_BUCKET} && has(self.pipeline.source.files) && {PATHS}.exists(path, {overlaps})"
        )
    };
    none_of(&[
        fault(
            any(&inside),
            "spec.pipeline.source.files.paths: overlaps spec.storage.uri",
            &Got::Pair(
                "self.storage.uri",
                &format!("{PATHS}.filter(path, {inside})[0]"),
            ),
            "input must not overlap the storage prefix, read from another folder",
        ),
        fault(
            any(&around),
            "spec.storage.uri: overlaps spec.pipeline.source.files.paths",
            &Got::Pair(
                &format!("{PATHS}.filter(path, {around})[0]"),
                "self.storage.uri",
            ),
            "the storage prefix must not overlap input, use a folder that no input path reaches",
        ),
    ])
}
