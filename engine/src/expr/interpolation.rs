//! String interpolation on our own `tostring`: jaq writes `"\(6 / 2)"` as `3.0` where jq and the rest of our results
//! have `3`. A text with interpolation is given the format `@text`, which is ours; everything else stays as it is.

use jaq_core::load::lex::{StrPart, Tok, Token};
use jaq_core::load::{Lexer, span};

const FORMAT: &str = "@text ";

/// A source with formats inserted, which knows the places of the original.
pub(super) struct Rewritten {
    text: String,
    original: String,
    /// Offsets in the original before which [`FORMAT`] was inserted, ascending.
    insertions: Vec<usize>,
}

impl Rewritten {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn original(&self) -> &str {
        &self.original
    }

    /// The offset in the original of the slice `part` of the text; `None` when it is no slice of it.
    pub(super) fn original_offset(&self, part: &str) -> Option<usize> {
        let start = (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize)?;
        if start > self.text.len() {
            return None;
        }
        let before = self
            .insertions
            .iter()
            .enumerate()
            .filter(|(index, at)| *at + index * FORMAT.len() < start)
            .count();
        Some(
            start
                .saturating_sub(before * FORMAT.len())
                .min(self.original.len()),
        )
    }
}

/// Gives every interpolated string without a format the format `@text`. A source that is no jq stays as it is, for the
/// compiler to refuse.
pub(super) fn rewrite(source: &str) -> Rewritten {
    let mut insertions = Vec::new();
    if source.contains("\\(")
        && let Ok(tokens) = Lexer::new(source).lex()
    {
        collect(source, &tokens, &mut insertions);
    }
    insertions.sort_unstable();
    let mut text = String::with_capacity(source.len() + insertions.len() * FORMAT.len());
    let mut from = 0;
    for &at in &insertions {
        text.push_str(&source[from..at]);
        text.push_str(FORMAT);
        from = at;
    }
    text.push_str(&source[from..]);
    Rewritten {
        text,
        original: source.to_owned(),
        insertions,
    }
}

fn collect(source: &str, tokens: &[Token<&str>], insertions: &mut Vec<usize>) {
    for (index, Token(slice, token)) in tokens.iter().enumerate() {
        match token {
            Tok::Block(inner) => collect(source, inner, insertions),
            Tok::Str(parts) => {
                let terms = parts.iter().filter_map(|part| match part {
                    StrPart::Term(term) => Some(term),
                    StrPart::Str(_) | StrPart::Char(_) => None,
                });
                let mut any = false;
                for term in terms {
                    any = true;
                    collect(source, std::slice::from_ref(term), insertions);
                }
                let previous = index.checked_sub(1).map(|previous| &tokens[previous]);
                // `@base64 "…"` has its format, and a path `."…"` takes none: a field's name is a string in any case.
                let takes_format =
                    !matches!(previous, Some(Token(_, Tok::Fmt) | Token(".", Tok::Sym)));
                if any && takes_format {
                    insertions.push(span(source, slice).start);
                }
            }
            Tok::Word | Tok::Var | Tok::Fmt | Tok::Num | Tok::Sym => {}
        }
    }
}
