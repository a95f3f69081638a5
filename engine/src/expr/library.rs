//! What an expression can call: the libraries of jaq without what the fence forbids, and with a few filters of our own
//! where the text of a number or a limit of records matters.

use jaq_core::data::JustLut;
use jaq_core::load::parse::Def;
use jaq_core::native::{Fun, bome, run, v};
use jaq_core::{Error, ValR};
use jaq_json::Val;

use super::{fence, number, value};
use crate::record::Record;

type Data = JustLut<Val>;

/// Filters of which ours stand in the place of jaq's, as natives.
const REPLACED: [&str; 5] = ["tostring", "tojson", "fromjson", "tonumber", "@text"];

/// What jq 1.7 has and jaq's library does not, written in jq; and the text format on our own `tostring`.
const ADDED: &str = r#"
def @text: tostring;
def toarray: if isarray then . else [.] end;
def IN(source): any(source == .; .);
def IN(candidates; source): any(candidates == source; .);
def INDEX(stream; index): reduce stream as $row ({}; .[$row | index | tostring] = $row);
def INDEX(index): INDEX(.[]; index);
def ascii: [.] | implode;
def trimstr($part): ltrimstr($part) | rtrimstr($part);
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
    let own: [(&'static str, jaq_core::RunPtr<Data>); 4] = [
        ("tostring", |cv| bome(to_string(cv.1))),
        ("tojson", |cv| bome(to_json(&cv.1))),
        ("fromjson", |cv| bome(from_json(&cv.1))),
        ("tonumber", |cv| bome(to_number(cv.1))),
    ];
    jaq_core::funs()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs())
        .filter(|(name, ..)| is_kept(name))
        .chain(own.map(|(name, function)| run::<Data>((name, v(0), function))))
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
    value::to_text(value).map(Val::from).map_err(Error::str)
}

fn from_json(value: &Val) -> ValR<Val> {
    let bytes = value.try_as_utf8_bytes_owned()?;
    let record = Record::parse(&bytes)
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
