//! What an expression can call: the libraries of jaq without what the fence forbids, and with a few filters of our own
//! where the text of a number or a limit of records matters.

use jaq_core::data::JustLut;
use jaq_core::load::parse::Def;
use jaq_core::native::{Fun, bome, run, unary, v};
use jaq_core::{Error, RunPtr, ValR};
use jaq_json::Val;

use super::delete::delete_paths;
use super::{fence, number, value};
use crate::record::{Limits, RecordParser};

type Data = JustLut<Val>;

/// Filters of which ours, in Rust, stand in the place of jaq's.
const REPLACED: [&str; 5] = ["tostring", "tojson", "fromjson", "tonumber", "delpaths"];

/// What jq 1.7 has and jaq's library does not or has otherwise, written in jq: `join` takes null as nothing, trimming
/// leaves alone what is no string, deleting keeps the order of keys, formats write numbers as results do. What stands later
/// hides what jaq defines under the same name.
const ADDED: &str = r#"
def @text: tostring;
def del(f): delpaths([path(f)]);
def ltrimstr($part): if isstring and ($part | isstring) and startswith($part) then .[$part | length:] end;
def rtrimstr($part):
  if isstring and ($part | isstring) and $part != "" and endswith($part) then .[:length - ($part | length)] end;
def join($separator):
  reduce .[] as $part (null;
    (if . == null then "" else . + $separator end) + (if $part == null then "" else $part | tostring end))
  // "";
def @sh: [if isarray then .[] end | if isstring then "'" + escape_sh + "'" else tostring end] | join(" ");
def @csv:
  map(
    if . == null then "" elif isstring then "\"" + (split("\"") | join("\"\"")) + "\""
    elif . < {} and (isarray | not) then tostring
    else error("an array or object cannot be a column of csv") end)
  | join(",");
def @tsv:
  def escape($from; $to): split($from) | join($to);
  map(
    if . == null then ""
    elif isstring then escape("\\"; "\\\\") | escape("\t"; "\\t") | escape("\n"; "\\n") | escape("\r"; "\\r")
    elif . < {} and (isarray | not) then tostring
    else error("an array or object cannot be a column of tsv") end)
  | join("\t");
def toarray: if isarray then . else [.] end;
def IN(source): any(source == .; .);
def IN(candidates; source): any(candidates == source; .);
def INDEX(stream; index): reduce stream as $row ({}; .[$row | index | tostring] = $row);
def INDEX(index): INDEX(.[]; index);
def ascii: [.] | implode;
def trimstr($part): ltrimstr($part) | rtrimstr($part);
def tostream: path(def deep: (.[]? | deep), .; deep) as $p | getpath($p) | reduce path(.[]?) as $q ([$p, .]; [$p + $q]);
def have_literal_numbers: true;
"#;

/// Filters written in jq.
pub(super) fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let added = jaq_core::load::parse(ADDED, |parser| parser.defs()).unwrap_or_default();
    jaq_core::defs()
        .chain(jaq_std::defs())
        .chain(jaq_json::defs())
        .filter(|definition| is_kept(definition.name))
        .chain(added)
}

/// Filters written in Rust.
pub(super) fn functions() -> impl Iterator<Item = Fun<Data>> {
    let own: [(&'static str, usize, RunPtr<Data>); 5] = [
        ("tostring", 0, |cv| bome(to_string(cv.1))),
        ("tojson", 0, |cv| bome(to_json(&cv.1))),
        ("fromjson", 0, |cv| bome(from_json(&cv.1))),
        ("tonumber", 0, |cv| bome(to_number(cv.1))),
        ("delpaths", 1, |cv| {
            unary(cv, |value, paths| delete_paths(value, &paths))
        }),
    ];
    jaq_core::funs()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs())
        .filter(|(name, ..)| is_kept(name))
        .chain(own.map(|(name, arity, function)| run::<Data>((name, v(arity), function))))
}

fn is_kept(name: &str) -> bool {
    fence::reason(name).is_none() && !REPLACED.contains(&name)
}

fn to_string(value: Val) -> ValR<Val> {
    match value {
        Val::TStr(_) => Ok(value),
        Val::BStr(bytes) => Ok(Val::TStr(bytes)),
        Val::Null | Val::Bool(_) | Val::Num(_) | Val::Arr(_) | Val::Obj(_) => to_json(&value),
    }
}

fn to_json(value: &Val) -> ValR<Val> {
    value::to_text(value, &Limits::WIDEST)
        .map(Val::from)
        .map_err(Error::str)
}

fn from_json(value: &Val) -> ValR<Val> {
    let bytes = value.try_as_utf8_bytes_owned()?;
    let record = RecordParser::within(Limits::WIDEST)
        .parse(&bytes)
        .map_err(|error| Error::str(format_args!("cannot parse a string as JSON: {error}")))?;
    Ok(value::from_view(record.view()))
}

fn to_number(value: Val) -> ValR<Val> {
    if let Val::Num(_) = value {
        return Ok(value);
    }
    let bytes = value.try_as_utf8_bytes_owned()?;
    let text = String::from_utf8_lossy(&bytes);
    number::lenient(&text).map(Val::Num).ok_or_else(|| {
        Error::str(format_args!(
            "cannot parse {} as number",
            crate::number::shown(&format!("{text:?}"))
        ))
    })
}
