//! Remembers the answers of the two servers so far. It puts values from them into requests, and
//! records which uids and versions of the two servers correspond to each other. This module sends
//! nothing.

use std::collections::BTreeMap;

use serde_json::Value;

/// The answers of one server about its objects.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The API group of the jobs on this server.
    group: String,
    namespace: String,
    /// The uid and the version of the object that was returned last, by its name. The entry `list`
    /// has the version of the last list.
    objects: BTreeMap<String, (String, String)>,
    next_page: String,
}

/// The API group of the jobs in the operator's API.
pub(crate) const GROUP: &str = "zephyr.dev";

impl Memory {
    pub(crate) fn new(group: &str, namespace: &str) -> Self {
        Self {
            group: group.to_owned(),
            namespace: namespace.to_owned(),
            ..Self::default()
        }
    }

    /// Returns `text` with this server's values in place of `NS`, `GROUP`, `<uid NAME>`,
    /// `<version NAME>` and `<continue>`.
    pub(crate) fn filled(&self, text: &str) -> String {
        let mut text = text
            .replace("NS", &self.namespace)
            .replace("GROUP", &self.group)
            .replace("<continue>", &self.next_page);
        for (name, (uid, version)) in &self.objects {
            text = text
                .replace(&format!("<uid {name}>"), uid)
                .replace(&format!("<version {name}>"), version);
        }
        text
    }

    /// Records the token of the page that the next request reads.
    pub(crate) fn take_token(&mut self, token: &str) {
        token.clone_into(&mut self.next_page);
    }

    /// Records values that later requests may use.
    pub(crate) fn learn(&mut self, body: &Value) {
        let metadata = &body["metadata"];
        let version = metadata["resourceVersion"].as_str().unwrap_or("");
        if body.get("items").is_some() {
            let list = ("list".to_owned(), (String::new(), version.to_owned()));
            self.objects.extend([list]);
        }
        if let (Some(name), Some(uid)) = (metadata["name"].as_str(), metadata["uid"].as_str()) {
            let object = (name.to_owned(), (uid.to_owned(), version.to_owned()));
            self.objects.extend([object]);
        }
        if let Some(token) = metadata["continue"].as_str() {
            // The token is escaped, because it becomes part of a query.
            self.next_page = token.replace('+', "%2B").replace('=', "%3D");
        }
    }
}

/// The message about version 1 ends with the oldest version that the server has.
const TOO_OLD: &str = "too old resource version: 1 (";

/// Which texts of the real server correspond to which texts of ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pairs {
    /// The API group of the jobs on the real server.
    group: String,
    uids: Vec<(String, String)>,
    versions: Vec<(String, String)>,
}

/// How two answers are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strictness {
    /// Whether versions are compared. They can be compared if no controller of the real cluster
    /// writes to the object, so that only the requests created its versions.
    pub(crate) counts_versions: bool,
    /// Whether only our server's fields are compared in this part, because the real server fills in
    /// defaults.
    is_filled_in: bool,
    /// Whether a null counts as a value, because the real server stores custom resources as they
    /// are written.
    counts_null: bool,
}

impl Strictness {
    pub(crate) fn new(counts_versions: bool) -> Self {
        Self {
            counts_versions,
            is_filled_in: false,
            counts_null: false,
        }
    }
}

impl Pairs {
    pub(crate) fn new(group: &str) -> Self {
        Self {
            group: group.to_owned(),
            ..Self::default()
        }
    }

    /// Returns the differences between two answers, by path.
    pub(crate) fn differences(
        &mut self,
        real: &Value,
        ours: &Value,
        how: Strictness,
    ) -> Vec<String> {
        let mut all = Vec::new();
        self.differ("", real, ours, how, &mut all);
        all
    }

    fn differ(
        &mut self,
        path: &str,
        real: &Value,
        ours: &Value,
        how: Strictness,
        all: &mut Vec<String>,
    ) {
        match (real, ours) {
            (Value::Object(one), Value::Object(other)) => {
                let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
                names.sort();
                names.dedup();
                let is_list = one.contains_key("items");
                for name in names {
                    let is_skipped = how.is_filled_in && !other.contains_key(name)
                        || name == "managedFields"
                        || path == ".metadata" && name == "continue";
                    if is_skipped {
                        continue;
                    }
                    let is_filled =
                        name == "spec" || name == "status" && ours["kind"] != "ZephyrJob";
                    let how = Strictness {
                        is_filled_in: how.is_filled_in || is_filled,
                        counts_null: how.counts_null || ours["kind"] == "ZephyrJob",
                        // Other writers also make the version of a list newer.
                        counts_versions: how.counts_versions && !(is_list && name == "metadata"),
                    };
                    let path = format!("{path}.{name}");
                    match (one.get(name), other.get(name)) {
                        (Some(one), Some(other)) => self.differ(&path, one, other, how, all),
                        (Some(one), None) if how.counts_null || !one.is_null() => {
                            all.push(format!("{path}: real {one}, ours nothing"));
                        }
                        (None, Some(other)) if how.counts_null || !other.is_null() => {
                            all.push(format!("{path}: real nothing, ours {other}"));
                        }
                        (Some(_) | None, None) | (None, Some(_)) => {}
                    }
                }
            }
            (Value::Array(one), Value::Array(other)) => {
                let (mut one, mut other) = (one.clone(), other.clone());
                // The real server reports some causes twice.
                one.dedup();
                other.dedup();
                if one.len() != other.len() {
                    let [real, ours] = [one, other].map(in_short);
                    all.push(format!("{path}: real {real}, ours {ours}"));
                    return;
                }
                for (index, (one, other)) in one.iter().zip(&other).enumerate() {
                    self.differ(&format!("{path}[{index}]"), one, other, how, all);
                }
            }
            (Value::String(one), Value::String(other)) => {
                let field = path.rsplit('.').next().unwrap_or("");
                if !self.is_same(field, one, other, how) {
                    let meant = self.translated(one);
                    all.push(format!("{path}: real {meant:?}, ours {other:?}"));
                }
            }
            _ if real != ours => all.push(format!("{path}: real {real}, ours {ours}")),
            _ => {}
        }
    }

    fn is_same(&mut self, field: &str, real: &str, ours: &str, how: Strictness) -> bool {
        match field {
            "uid" => paired(&mut self.uids, real, ours),
            "resourceVersion" if !how.counts_versions => true,
            "resourceVersion" => paired(&mut self.versions, real, ours),
            _ => {
                let is_time = |text: &str| text.parse::<jiff::Timestamp>().is_ok();
                let is_too_old = |text: &str| text.starts_with(TOO_OLD);
                is_time(real) && is_time(ours)
                    || is_too_old(real) && is_too_old(ours)
                    || self.translated(real) == ours
            }
        }
    }

    /// Returns a text of the real server with the values of our server.
    fn translated(&self, text: &str) -> String {
        let mut text = text.replace(&self.group, GROUP);
        for (real, ours) in &self.uids {
            text = text.replace(real.as_str(), ours);
        }
        let mut words = String::new();
        for word in text.split_inclusive(|character: char| !character.is_ascii_digit()) {
            let digits = word.trim_end_matches(|character: char| !character.is_ascii_digit());
            let known = self.versions.iter().find(|(real, _)| real == digits);
            words.push_str(known.map_or(digits, |(_, ours)| ours));
            words.push_str(&word[digits.len()..]);
        }
        words
    }
}

/// Returns a list, sorted by names.
fn in_short(all: Vec<Value>) -> Value {
    let short = all.into_iter().map(|one| {
        let object = one.get("object").unwrap_or(&one);
        match object["metadata"]["name"].as_str() {
            Some(name) => format!("{} {name}", one["type"].as_str().unwrap_or("")).into(),
            None => one,
        }
    });
    Value::Array(short.collect())
}

/// Returns whether these two values correspond to each other. If both are new, they correspond from
/// now on.
fn paired(known: &mut Vec<(String, String)>, real: &str, ours: &str) -> bool {
    let pair = |one: &&(String, String)| one.0 == real || one.1 == ours;
    if let Some(pair) = known.iter().find(pair) {
        return pair.0 == real && pair.1 == ours;
    }
    known.push((real.to_owned(), ours.to_owned()));
    true
}
