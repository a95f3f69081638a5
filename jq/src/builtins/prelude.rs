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
def truncate_stream(events):
  . as $depth | null | events | . as $event
  | if .[0] | length > $depth then setpath([0]; $event[0][$depth:]) else empty end;
def fromstream(events):
  {x: null, e: false} as $none
  | foreach events as $event ($none;
      if .e then $none end
      | if $event | length == 2
        then setpath(["e"]; $event[0] | length == 0) | setpath(["x"] + $event[0]; $event[1])
        else setpath(["e"]; $event[0] | length == 1) end;
      if .e then .x else empty end);
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

/// Definitions of filters that are native here, and that jq itself defines in jq. These definitions
/// are run if paths are followed, as in `path(f)` and in assignments, because it then matters which
/// parts of the input a filter looks at. A definition ends after the first part that cannot have a
/// valid path, because it always fails there: what jq has after it is left out.
const FOLLOWED: &str = r#"
def range($to): range(0; $to);
def reverse: [.[length - 1 - range(length)]];
def indices($part):
  if type == "array" and ($part | type) == "array" then .[$part]
  elif type == "array" then .[[$part]]
  elif type == "string" and ($part | type) == "string" then (indices($part) as $found | $found)
  else .[$part] end;
def index($part): indices($part) | .[0];
def rindex($part): indices($part) | .[-1:][0];
def join($separator):
  reduce .[] as $part (null;
    (if . == null then "" else . + $separator end)
    + ($part | if type == "boolean" or type == "number" then tostring else . // "" end)) // "";
def flatten: flatten(infinite);
def flatten($depth):
  def flat($depth):
    reduce .[] as $element ([];
      if ($element | type) == "array" and $depth != 0 then . + ($element | flat($depth - 1))
      else . + [$element] end);
  if $depth < 0 then error("flatten depth must not be negative") else flat($depth) end;
def from_entries:
  map({(.key // .Key // .name // .Name): (if has("value") then .value else .Value end)}) | .[];
def transpose: [range(0; map(length) | max // 0) as $column | [.[][$column]]];
def walk(f):
  def w: if type == "object" then map_values(w) elif type == "array" then map(w) else . end | f;
  w;
def tostream:
  path(def r: (.[]? | r), .; r) as $path
  | getpath($path) | reduce path(.[]?) as $step ([$path, .]; [$path + $step]);
def ltrimstr($start): if startswith($start) then .[$start | length:] end;
def rtrimstr($end): if endswith($end) then .[:$end | -length] end;
def trimstr($both): ltrimstr($both) | rtrimstr($both);
def ascii_downcase: explode | .[];
def ascii_upcase: explode | .[];
def capture(pattern): match(pattern);
def capture(pattern; flags): match(pattern; flags);
def scan($pattern): scan($pattern; null);
def scan($pattern; $flags): match($pattern; "g" + $flags);
def splits($pattern): splits($pattern; null);
def splits($pattern; $flags):
  .[foreach (match($pattern; $flags + "g"), null) as {$offset, $length} (null;
    {start: .next, end: $offset, next: ($offset + $length)})];
def split($pattern; $flags): [splits($pattern; $flags)];
def sub($pattern; s): sub($pattern; s; "");
def sub($pattern; s; $flags): match($pattern; $flags);
def gsub($pattern; s): sub($pattern; s; "g");
def gsub($pattern; s; flags): sub($pattern; s; flags + "g");
"#;

static DEFINITIONS: LazyLock<Vec<Definition>> =
    LazyLock::new(|| parse::library(TEXT).unwrap_or_default());

static FOLLOWED_DEFINITIONS: LazyLock<Vec<Definition>> =
    LazyLock::new(|| parse::library(FOLLOWED).unwrap_or_default());

/// Returns the definition of a filter that is written in jq.
pub(crate) fn find(name: &str, arity: usize) -> Option<&'static Definition> {
    among(&DEFINITIONS, name, arity)
}

/// Returns the definition that jq runs for a native filter if paths are followed. `None` if the
/// native filter leads to the same paths.
pub(crate) fn followed(name: &str, arity: usize) -> Option<&'static Definition> {
    among(&FOLLOWED_DEFINITIONS, name, arity)
}

fn among(
    definitions: &'static [Definition],
    name: &str,
    arity: usize,
) -> Option<&'static Definition> {
    definitions
        .iter()
        .find(|definition| definition.name == name && definition.parameters.len() == arity)
}

/// Returns the name of each filter of the prelude, with the number of its arguments.
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

    #[test]
    fn the_followed_definitions_are_jq_and_belong_to_native_filters() {
        let definitions = parse::library(FOLLOWED).unwrap_or_default();
        assert!(definitions.len() > 20);
        for definition in definitions {
            let arity = definition.parameters.len();
            let native = crate::builtins::find(&definition.name, arity);
            assert!(native.is_some(), "{}/{arity}", definition.name);
        }
    }
}
