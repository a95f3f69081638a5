//! Filters that are written in jq.

use std::sync::LazyLock;

use crate::ast::Definition;
use crate::parse;

const TEXT: &str = r#"
def paths: path(..) | select(length > 0);
def paths(f): path(.. | select(f)) | select(length > 0);
def with_entries(f): to_entries | map(f) | from_entries;
def in(whole): . as $key | whole | has($key);
def inside(whole): . as $part | whole | contains($part);
def finites: select(isfinite);
def normals: select(isnormal);
def combinations:
  if length > 0 then .[0][] as $head | (.[1:] | combinations) as $tail | [$head] + $tail else [] end;
def combinations(count): [. as $choices | range(count) | $choices] | combinations;
def truncate_stream(events): . as $depth | null | events | select(.[0] | length > $depth) | .[0] |= .[$depth:];
def fromstream(events):
  foreach events as $event ({};
    if .whole then {} end
    | if $event | length == 2
      then .whole = ($event[0] | length == 0) | setpath(["value"] + $event[0]; $event[1])
      else .whole = ($event[0] | length == 1) end;
    if .whole then .value else empty end);
def INDEX(rows; key): reduce rows as $row ({}; .[$row | key | tostring] = $row);
def INDEX(key): INDEX(.[]; key);
def JOIN($index; key): [.[] | [., $index[key]]];
def JOIN($index; rows; key): rows | [., $index[key]];
def JOIN($index; rows; key; join): rows | [., $index[key]] | join;
def IN(values): any(values == .; .);
def IN(found; values): any(found == values; .);
def todateiso8601: strftime("%Y-%m-%dT%H:%M:%SZ");
def todate: todateiso8601;
def fromdateiso8601: strptime("%Y-%m-%dT%H:%M:%SZ") | mktime;
def fromdate: fromdateiso8601;
"#;

static DEFINITIONS: LazyLock<Vec<Definition>> =
    LazyLock::new(|| parse::library(TEXT).unwrap_or_default());

/// The definition of a filter that is written in jq.
pub(crate) fn find(name: &str, arity: usize) -> Option<&'static Definition> {
    DEFINITIONS
        .iter()
        .find(|definition| definition.name == name && definition.parameters.len() == arity)
}

/// The names of these filters with the number of their arguments.
pub(crate) fn names() -> impl Iterator<Item = String> {
    DEFINITIONS
        .iter()
        .map(|definition| format!("{}/{}", definition.name, definition.parameters.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_the_prelude_is_jq() {
        assert!(parse::library(TEXT).is_ok_and(|definitions| definitions.len() > 20));
    }
}
