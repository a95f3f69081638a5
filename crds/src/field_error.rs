//! An error about one field, in one sentence of a fixed form. Finds no errors itself.

use std::fmt;

/// The largest number of characters of a value that are shown.
pub const MAX_SHOWN_VALUE: usize = 64;

/// Displays on one line as `<path>: <what is wrong> (got <value>); <what is allowed>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field as the manifest spells it: `spec.pipeline.steps[2].groupBy.key`.
    pub path: String,
    /// What is wrong with it.
    pub wrong: String,
    /// The value, shortened and escaped. Absent if the field has no value or the value must not be
    /// shown.
    pub got: Option<String>,
    /// What is allowed.
    pub allowed: String,
}

impl FieldError {
    /// An error of the field at `path`, in three parts: the field, what is wrong with it, and what
    /// is allowed.
    pub fn new(
        path: impl Into<String>,
        wrong: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        Self {
            path: path.into(),
            wrong: wrong.into(),
            got: None,
            allowed: allowed.into(),
        }
    }

    /// Adds the value to the error.
    #[must_use]
    pub fn got(mut self, value: impl fmt::Display) -> Self {
        self.got = Some(shown(&value.to_string()));
        self
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.wrong)?;
        if let Some(got) = &self.got {
            write!(formatter, " (got {got})")?;
        }
        write!(formatter, "; {}", self.allowed)
    }
}

impl std::error::Error for FieldError {}

/// The value prepared for one line of a terminal: control characters and characters that change the
/// text direction are escaped, and at most [`MAX_SHOWN_VALUE`] characters are kept.
pub fn shown(value: &str) -> String {
    let mut text = String::new();
    for character in value.chars().take(MAX_SHOWN_VALUE) {
        if character.is_control() || is_invisible(character) {
            text.extend(character.escape_unicode());
        } else {
            text.push(character);
        }
    }
    if value.chars().nth(MAX_SHOWN_VALUE).is_some() {
        text.push('…');
    }
    text
}

/// Invisible characters, and characters that change how their neighbours are displayed.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_that_names_path_fault_value_and_what_is_allowed() {
        let error =
            FieldError::new("spec.image", "is not an image reference", "name:tag").got("a b");
        assert_eq!(
            error.to_string(),
            "spec.image: is not an image reference (got a b); name:tag"
        );
    }

    #[test]
    fn a_value_is_shown_cut_and_without_characters_that_act_on_a_terminal() {
        assert_eq!(
            shown("a\n\u{1b}[31m\u{202e}"),
            "a\\u{a}\\u{1b}[31m\\u{202e}"
        );
        assert_eq!(shown(&"x".repeat(65)), format!("{}…", "x".repeat(64)));
        assert_eq!(shown(&"x".repeat(64)), "x".repeat(64));
    }
}
