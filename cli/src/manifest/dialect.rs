//! Finds YAML that `kubectl` refuses, or reads differently from the reader used here. Such text is
//! refused, so that this program and the cluster never read one manifest in two ways. Pure.

use granit_parser::{ScalarStyle, Span};

/// Whether `kubectl` accepts the character in the name of an anchor.
pub(super) fn is_anchor(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

/// The error in a scalar, if there is one. `source` is the scalar as written; `is_flow` says
/// whether it is inside brackets or braces.
pub(super) fn fault(
    text: &str,
    style: ScalarStyle,
    source: &str,
    is_flow: bool,
) -> Option<&'static str> {
    match style {
        ScalarStyle::Plain if is_flow && text.contains('?') => Some(
            "has a ? in a text without quotes inside of [ ] or { }, which kubectl refuses; put the text in quotes",
        ),
        ScalarStyle::Plain if is_flow && text.starts_with(':') => Some(
            "has a text without quotes that begins with a colon inside of [ ] or { }, which kubectl refuses; put the text in quotes",
        ),
        ScalarStyle::DoubleQuoted => has_json_escape(source).then_some(
            "has an escape in double quotes that kubectl knows in JSON only (\\/ or half of a pair \\ud83d\\ude00); write the character itself",
        ),
        ScalarStyle::Literal | ScalarStyle::Folded => {
            text.trim_start_matches('\n').starts_with('\t').then_some(
                "has a block of text that begins with a tab, which kubectl refuses; begin it with another character, or use double quotes and \\t",
            )
        }
        ScalarStyle::Plain | ScalarStyle::SingleQuoted => None,
    }
}

/// Whether a text in double quotes has `\/` or a surrogate, `\ud800` to `\udfff`.
fn has_json_escape(source: &str) -> bool {
    let mut bytes = source.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            continue;
        }
        match bytes.next() {
            Some(b'/') => return true,
            Some(b'u') => {
                let is_d = matches!(bytes.next(), Some(b'd' | b'D'));
                let is_high = matches!(bytes.next(), Some(b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F'));
                if is_d && is_high {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

/// Whether a value outside of brackets and braces has a tab before it on its line, with only list
/// markers in between.
pub(super) fn is_behind_tab(text: &str, span: &Span) -> bool {
    let Some(before) = span.byte_range().and_then(|range| text.get(..range.start)) else {
        return false;
    };
    let line = before.rsplit('\n').next().unwrap_or_default();
    line.contains('\t') && line.chars().all(|c| matches!(c, ' ' | '\t' | '-' | '?'))
}

/// Whether a tag is directly followed by a bracket, a brace or a comma: `[!]`. An empty value
/// begins at the end of its tag.
pub(super) fn is_tag_without_space(text: &str, value: &Span) -> bool {
    let Some(range) = value.byte_range().filter(std::ops::Range::is_empty) else {
        return false;
    };
    let parts = text.get(..range.start).zip(text.get(range.start..));
    parts.is_some_and(|(before, behind)| {
        !before.ends_with([' ', '\t', '\n']) && behind.starts_with([']', '}', ','])
    })
}

/// Whether the colon after a key inside brackets or braces has no space after it: `kubectl` reads
/// `{a:}` as a key `a:`.
pub(super) fn has_tight_colon(text: &str, key: &Span) -> bool {
    let behind = key
        .byte_range()
        .and_then(|range| text.get(range.end..))
        .unwrap_or_default();
    behind
        .trim_start_matches([' ', '\t'])
        .strip_prefix(':')
        .is_some_and(|rest| !rest.starts_with([' ', '\t', '\r', '\n']))
}
