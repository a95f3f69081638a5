//! The API server's rules in CEL, each with its message in the house form: `<what is wrong> (got <value>); <what is allowed>`, led by the
//! path where the rule stands in one place only (the server prints the path of every rule in front). What CEL cannot see or word is
//! in [`crate::validate`].

use kube::core::{Message, Rule};

use crate::names::{MAX_JOB_NAME, RESERVED_PREFIX};
use crate::preemptible::SPOT_LABELS;
use crate::resources::MINIMUM_MEMORY_MEBIBYTES;

/// Schemes of object stores.
const SCHEME: &str = "^(s3|gs|az)://";
/// Scheme and bucket.
const BUCKET: &str = "^(s3|gs|az)://[a-z0-9][a-z0-9._-]*[a-z0-9](/|$)";
/// Control characters, and characters that act on a terminal.
const CONTROL: &str = r"[\\x00-\\x1f\\x7f]";
/// A name of an object, or the like: lower case letters, digits, dashes, dots.
const OBJECT_NAME: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// The taints of the control plane: workers there could take the cluster down.
const CONTROL_PLANE_TAINTS: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// A text of at most 64 characters of `expression`.
fn shown(expression: &str) -> String {
    format!("(size({expression}) > 64 ? {expression}.substring(0, 64) + '…' : {expression})")
}

fn expression(text: impl Into<String>) -> Message {
    Message::Expression(text.into())
}

/// A ladder: the message of the first fault that holds. The rule holds when no fault does.
fn ladder(faults: &[(String, String)]) -> Rule {
    let holds: Vec<String> = faults.iter().map(|(fault, _)| format!("!({fault})")).collect();
    let Some(((_, last), others)) = faults.split_last() else {
        return Rule::new("true");
    };
    let message = others.iter().rev().fold(last.clone(), |rest, (fault, message)| format!("{fault} ? {message} : ({rest})"));
    Rule::new(holds.join(" && ")).message(expression(message))
}

fn fault(condition: impl Into<String>, message: impl Into<String>) -> (String, String) {
    (condition.into(), message.into())
}

/// `metadata.name`: children's names begin with it.
pub(crate) fn job_name() -> Rule {
    let name = "self.metadata.name";
    ladder(&[
        fault(
            format!("size({name}) > {MAX_JOB_NAME}"),
            format!(
                "'metadata.name: is too long (got ' + string(size({name})) + ' characters); at most {MAX_JOB_NAME}, because the names of its pods add up to 25'"
            ),
        ),
        fault(
            format!("{name}.contains('.')"),
            format!("'metadata.name: has a dot (got ' + {name} + '); no dots, because the name becomes a host name'"),
        ),
        fault(
            format!("!{name}.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"),
            format!("'metadata.name: is no host name (got ' + {name} + '); lower case letters, digits and dashes, a letter first and no dash last'"),
        ),
    ])
}

pub(crate) fn immutable(path: &str) -> Rule {
    Rule::new("self == oldSelf").message(format!("{path}: cannot be changed; it is immutable, create a new job").as_str())
}

/// A whole number between two bounds.
pub(crate) fn range(path: &str, least: i64, greatest: i64) -> Rule {
    Rule::new(format!("self >= {least} && self <= {greatest}"))
        .message(expression(format!("'{path}: is out of range (got ' + string(self) + '); must be {least}..{greatest}'")))
}

/// A duration between two bounds.
pub(crate) fn duration(path: &str, least: &str, greatest: &str) -> Rule {
    let form = "self.matches('^([0-9]{1,6}(h|ms|m|s))+$')";
    ladder(&[
        fault(
            format!("!{form}"),
            format!("'{path}: is no duration (got ' + self + '); whole numbers with a unit of h, m, s, ms, e.g. 5m, from {least} to {greatest}'"),
        ),
        fault(
            format!("{form} && (duration(self) < duration('{least}') || duration(self) > duration('{greatest}'))"),
            format!("'{path}: is out of range (got ' + self + '); must be {least}..{greatest}'"),
        ),
    ])
}

pub(crate) fn backoff_order() -> Rule {
    let form = "^([0-9]{1,6}(h|ms|m|s))+$";
    Rule::new(format!(
        "!self.initial.matches('{form}') || !self.max.matches('{form}') || duration(self.initial) <= duration(self.max)"
    ))
    .message(expression(
        "'spec.retries.backoff.initial: is longer than max (got ' + self.initial + ', max ' + self.max + '); at most spec.retries.backoff.max'",
    ))
}

pub(crate) fn image() -> Rule {
    let host = "[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{1,5})?/";
    let part = "[a-z0-9]+([._-]+[a-z0-9]+)*";
    Rule::new(format!(
        "self == '' || self.matches('^({host})?{part}(/{part})*(:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(@sha256:[a-f0-9]{{64}})?$')"
    ))
    .message("spec.image: is not a valid image reference; registry/repository:tag or registry/repository@sha256:digest, the repository in lower case, or empty for the operator's own release")
}

/// What is wrong with any uri, whatever it is for. `subject` is the uri in CEL, `path` what leads the message.
fn uri_faults(path: &str) -> Vec<(String, String)> {
    let say = |wrong: &str, allowed: &str| format!("'{path}{wrong} (got ' + {} + '); {allowed}'", shown("self"));
    let schemes = "a uri begins with s3://, gs:// or az://";
    vec![
        fault("self == ''", format!("'{path}is empty; {schemes} and a bucket'")),
        fault(
            format!("self.matches('{CONTROL}')"),
            format!("'{path}has a control character; printable characters only'"),
        ),
        fault(
            "self.matches('^[^/]*://[^/]*@')",
            format!("'{path}has credentials in it; credentials in a uri are not allowed, name a Secret in spec.storage.credentialsSecret'"),
        ),
        fault("!self.contains('://')", say("has no scheme", schemes)),
        fault(format!("!self.matches('{SCHEME}')"), say("has a scheme that is not allowed", schemes)),
        fault(format!("!self.matches('{BUCKET}')"), say("has no valid bucket", "a bucket follows the scheme: lower case letters, digits, dots, dashes")),
        fault(
            "self.matches('(^|/)[.][.]?(/|$)') || self.matches('%2[eEfF5]')",
            say("has . or .. in its path, plain or percent-encoded", "every part of the path is a name"),
        ),
        fault("size(self) > 1024", format!("'{path}is too long; at most 1024 characters'")),
    ]
}

pub(crate) fn storage_uri() -> Rule {
    let mut faults = uri_faults("spec.storage.uri: ");
    faults.push(fault(
        "self.matches('[?#*{}\\\\[\\\\]]')",
        format!("'spec.storage.uri: has a character that is not allowed (got ' + {} + '); a plain prefix without ? # * [ ] {{ }}'", shown("self")),
    ));
    ladder(&faults)
}

pub(crate) fn source_path() -> Rule {
    ladder(&uri_faults(""))
}

pub(crate) fn sink_path() -> Rule {
    let path = "spec.pipeline.sink.files.path: ";
    let mut faults = uri_faults(path);
    faults.push(fault(
        "!self.matches('^([^{}]|[{](shard|total)(:0[1-9])?[}])*$')",
        format!("'{path}has a placeholder that is not known (got ' + {} + '); {{shard}} and {{total}}, or with a width {{shard:05}}'", shown("self")),
    ));
    faults.push(fault(
        "self.endsWith('/') || !self.matches('^[a-z0-9]+://[^/]+/.')",
        format!("'{path}names no file (got ' + {} + '); a bucket and a file name'", shown("self")),
    ));
    faults.push(fault(
        "self.matches('[?#*\\\\[\\\\]]')",
        format!("'{path}has a character that is not allowed (got ' + {} + '); a file name without ? # * [ ]'", shown("self")),
    ));
    ladder(&faults)
}

pub(crate) fn sink_format() -> Rule {
    Rule::new("has(self.format) || self.path.lowerAscii().matches('[.](jsonl|ndjson|txt|text)([.](gz|zst))?$')").message(expression(format!(
        "'spec.pipeline.sink.files.format: cannot be told from the extension of path (got ' + {} + '); jsonl or text'",
        shown("self.path")
    )))
}

pub(crate) fn object_name() -> Rule {
    Rule::new(format!("self.matches('{OBJECT_NAME}')")).message(expression(format!(
        "'is no name of an object (got ' + {} + '); a name in the same namespace: lower case letters, digits, dashes and dots'",
        shown("self")
    )))
}

pub(crate) fn jq_expression() -> Rule {
    Rule::new("self.matches('[^ \\\\t\\\\r\\\\n]')").message("is empty; a jq expression, . for the record itself")
}


pub(crate) fn column() -> Rule {
    Rule::new(format!("self.matches('^[^.]+([.][^.]+)*$') && !self.matches('{CONTROL}')"))
        .message("is no column; names joined by dots, such as a or b.c")
}

/// Exactly one of the optional fields is set.
pub(crate) fn exactly_one(fields: &[&str]) -> Rule {
    let set: Vec<String> = fields.iter().map(|field| format!("has(self.{field})")).collect();
    let names = fields.join(", ");
    let count: Vec<String> = set.iter().map(|has| format!("({has} ? 1 : 0)")).collect();
    let count = count.join(" + ");
    Rule::new(format!("{count} == 1"))
        .message(expression(format!("'has not exactly one field (got ' + string({count}) + '); exactly one of {names}'")))
}

pub(crate) fn aggregate_names() -> Rule {
    Rule::new("!('key' in self)").message("key is reserved for the group's key (got key); any other name")
}

pub(crate) fn environment_name() -> Rule {
    let got = shown("self");
    ladder(&[
        fault(
            "!self.matches('^[A-Za-z_][A-Za-z0-9_]*$')",
            format!("'is not a valid name of an environment variable (got ' + {got} + '); letters, digits and underscores, no digit first'"),
        ),
        fault(
            "self.startsWith('ZEPHYR_') || self.startsWith('LD_') || self in ['POD_NAME', 'POD_UID', 'RUST_LOG', 'TMPDIR']",
            format!("'is a reserved name (got ' + {got} + '); not ZEPHYR_*, LD_*, POD_NAME, POD_UID, RUST_LOG or TMPDIR'"),
        ),
    ])
}

pub(crate) fn environment_source() -> Rule {
    Rule::new("!(has(self.value) && has(self.valueFrom))").message("has both value and valueFrom; one of them")
}

/// Keys with our own prefix.
pub(crate) fn reserved_keys(kind: &str) -> Rule {
    Rule::new(format!("self.all(key, !key.startsWith('{RESERVED_PREFIX}') && !key.startsWith('app.kubernetes.io/'))"))
        .message(format!("has a {kind} with a reserved prefix; any {kind} but {RESERVED_PREFIX}* and app.kubernetes.io/*").as_str())
}

pub(crate) fn toleration() -> Rule {
    let taints: Vec<String> = CONTROL_PLANE_TAINTS.iter().map(|taint| format!("'{taint}'")).collect();
    ladder(&[
        fault(
            format!("self.key in [{}]", taints.join(", ")),
            "'key: is not allowed (got ' + self.key + '); any taint but those of the control plane'",
        ),
        fault(
            "has(self.operator) && self.operator == 'Exists' && has(self.value) && self.value != ''",
            "'value: is set with operator Exists (got ' + self.value + '); no value, or operator Equal'",
        ),
    ])
}

pub(crate) fn custom_provider() -> Rule {
    let path = "spec.workers.preemptible";
    ladder(&[
        fault(
            "has(self.provider) && self.provider == 'custom' && (!has(self.nodeSelector) || size(self.nodeSelector) == 0)",
            format!("'{path}.nodeSelector: is missing; provider custom needs the labels of its nodes'"),
        ),
        fault(
            "(!has(self.provider) || self.provider != 'custom') && (has(self.nodeSelector) || has(self.tolerations))",
            format!("'{path}: has nodeSelector or tolerations without provider custom (got provider ' + self.provider + '); remove them or set provider: custom'"),
        ),
    ])
}

pub(crate) fn coordinator_is_not_preemptible() -> Rule {
    let any: Vec<String> = SPOT_LABELS
        .iter()
        .map(|label| format!("('{0}' in self.nodeSelector && self.nodeSelector['{0}'] == '{1}')", label.key, label.value))
        .collect();
    Rule::new(format!("!has(self.nodeSelector) || !({})", any.join(" || "))).message(
        "spec.coordinator.template.nodeSelector: selects preemptible nodes; the coordinator must not be preemptible, select other nodes or none",
    )
}

pub(crate) fn quantity() -> Rule {
    let text = "string(self)";
    ladder(&[
        fault(
            format!("!isQuantity({text})"),
            format!("'is not a quantity (got ' + {text} + '); a number with a suffix such as m, k, M, G, Ki, Mi, Gi'"),
        ),
        fault(
            format!("isQuantity({text}) && !quantity({text}).isGreaterThan(quantity('0'))"),
            format!("'is not positive (got ' + {text} + '); must be > 0'"),
        ),
    ])
}

pub(crate) fn memory() -> Rule {
    let least = format!("{MINIMUM_MEMORY_MEBIBYTES}Mi");
    let text = "string(self)";
    Rule::new(format!(
        "!isQuantity({text}) || !quantity({text}).isGreaterThan(quantity('0')) || !quantity({text}).isLessThan(quantity('{least}'))"
    ))
    .message(expression(format!("'is too little memory (got ' + {text} + '); minimum {least}'")))
}

pub(crate) fn request_within_limit(resource: &str) -> Rule {
    let field = resource.replace('-', "__dash__");
    let request = format!("string(self.requests.{field})");
    let limit = format!("string(self.limits.{field})");
    Rule::new(format!(
        "!has(self.requests) || !has(self.limits) || !has(self.requests.{field}) || !has(self.limits.{field}) \
         || !isQuantity({request}) || !isQuantity({limit}) || !quantity({request}).isGreaterThan(quantity({limit}))"
    ))
    .message(expression(format!(
        "'requests.{resource}: is greater than the limit (got ' + {request} + ', limit ' + {limit} + '); requests must be <= limits'"
    )))
}

/// Whether more than one shard comes out is known without a listing: then the file name must tell the shards apart.
pub(crate) fn shard_in_path() -> Rule {
    let fixed = "self.steps.filter(s, has(s.count) || (has(s.groupBy) && has(s.groupBy.shards)) || (has(s.deduplicate) && has(s.deduplicate.shards)))";
    let source_many = "((has(self.source.items) && (has(self.source.items.shards) ? self.source.items.shards > 1 : size(self.source.items.values) > 1)) \
                       || (has(self.source.files) && size(self.source.files.paths) > 1))";
    let last = format!("{fixed}[size({fixed}) - 1]");
    let fixed_many = format!(
        "((has({last}.groupBy) && {last}.groupBy.shards > 1) || (has({last}.deduplicate) && {last}.deduplicate.shards > 1))"
    );
    Rule::new(format!(
        "self.sink.files.path.matches('[{{]shard(:0[1-9])?[}}]') || (has(self.steps) && size({fixed}) > 0 ? !{fixed_many} : !{source_many})"
    ))
    .message("spec.pipeline.sink.files.path: has no {shard}, and more than one shard is written; put {shard} or {shard:05} into the file name")
}

pub(crate) fn output_is_not_input() -> Rule {
    let sink = "self.pipeline.sink.files.path";
    // A file is only itself; a glob is every file below the folder in which its first wildcard stands.
    let inside = format!("(path.matches('[*?{{\\\\[]') ? {sink}.startsWith(path.find('^[^*?{{\\\\[]*/')) : {sink} == path)");
    Rule::new(format!("!has(self.pipeline.source.files) || !self.pipeline.source.files.paths.exists(path, {inside})")).message(expression(format!(
        "'spec.pipeline.sink.files.path: lies where the input is read (got ' + {} + '); output must not overlap input, write to another folder'",
        shown(sink)
    )))
}

pub(crate) fn output_is_not_storage() -> Rule {
    let sink = "self.pipeline.sink.files.path";
    let storage = "(self.storage.uri.endsWith('/') ? self.storage.uri : self.storage.uri + '/')";
    Rule::new(format!("!{sink}.startsWith({storage})")).message(expression(format!(
        "'spec.pipeline.sink.files.path: lies inside spec.storage.uri (got ' + {} + '); write output outside of the storage prefix'",
        shown(sink)
    )))
}

pub(crate) fn input_is_not_storage() -> Rule {
    let storage = "(self.storage.uri.endsWith('/') ? self.storage.uri : self.storage.uri + '/')";
    Rule::new(format!(
        "!has(self.pipeline.source.files) || !self.pipeline.source.files.paths.exists(path, path.startsWith({storage}))"
    ))
    .message("spec.pipeline.source.files.paths: a path lies inside spec.storage.uri; read input from outside of the storage prefix")
}
