//! Where the YAML of `kubectl` is narrower than the reader used here, or means something else: such
//! text is refused, so that no manifest is taken here that the cluster reads in another way. Pure.

use granit_parser::{ScalarStyle, Span};

/// Whether `kubectl` takes the character in the name of an anchor.
pub(super) fn is_anchor(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

/// What is wrong with a scalar; `source` is how it is written, `is_flow` whether it stands inside
/// of brackets or braces.
pub(super) fn fault(
    text: &str,
    style: ScalarStyle,
    source: &str,
    is_flow: bool,
) -> Option<&'static str> {
    match style {
        ScalarStyle::Plain if is_flow && text.contains('?') => Some(
            "has a ? in a text without quotes inside of [ ] or { }, where kubectl refuses it; put the text in quotes",
        ),
        ScalarStyle::Plain if is_flow && text.starts_with(':') => Some(
            "has a text without quotes that begins with a colon inside of [ ] or { }, where kubectl refuses it; put the text in quotes",
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

/// Whether a value outside of brackets and braces has a tab before it on its line, with nothing but
/// the marks of lists between.
pub(super) fn is_behind_tab(text: &str, span: &Span) -> bool {
    let Some(before) = span.byte_range().and_then(|range| text.get(..range.start)) else {
        return false;
    };
    let line = before.rsplit('\n').next().unwrap_or_default();
    line.contains('\t') && line.chars().all(|c| matches!(c, ' ' | '\t' | '-' | '?'))
}

/// Whether a tag ends at a bracket, a brace or a comma, without a space between: `[!]`. An empty
/// value begins at its tag's end.
pub(super) fn is_tag_without_space(text: &str, value: &Span) -> bool {
    let Some(range) = value.byte_range().filter(std::ops::Range::is_empty) else {
        return false;
    };
    let parts = text.get(..range.start).zip(text.get(range.start..));
    parts.is_some_and(|(before, behind)| {
        !before.ends_with([' ', '\t', '\n']) && behind.starts_with([']', '}', ','])
    })
}

/// Whether the colon behind a key inside of brackets or braces has no space behind it: `{a:}` has a
/// key `a:` for `kubectl`.
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
