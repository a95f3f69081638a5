//! The plain subset of patterns, for which the crate `regex` finds exactly what Oniguruma finds.
//! All other patterns are left to Oniguruma: this module never refuses a pattern and never guesses.
//!
//! The subset excludes, among others: patterns that match the empty text, repetitions of parts that
//! may be empty, look-around, back-references, `\B`, POSIX classes, nested classes, and letters
//! after a backslash other than `d w s b n t r`. For some patterns, the crate `regex` finds the
//! same only in some texts. [`Plain::is_exact_for`] decides this.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use onig::RegexOptions;
use regex::CaptureLocations;

use super::Flags;

/// How many bytes a compiled pattern may take. A pattern with large counts takes more, and is left
/// to Oniguruma.
const SIZE_LIMIT: usize = 1 << 20;

/// The largest count of a repetition. A pattern with a larger count is left to Oniguruma, because
/// its compiled form is large.
const MAX_COUNT: u32 = 1_000;

/// The characters that Oniguruma's `\w` matches in a class. A test compares every character. In the
/// crate `regex`, `\w` also matches joiners.
const WORD: &str = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}";

/// The characters that `\w` also matches outside of a class.
const WORD_OUTSIDE: &str = "²³¹¼½¾";

/// A pattern of the subset.
pub(super) struct Plain {
    regex: regex::Regex,
    needs: Needs,
}

/// Conditions on a text. If they hold, the crate `regex` finds the same matches as Oniguruma.
#[derive(Default)]
struct Needs {
    /// The text must be ASCII: with `i`, Oniguruma lets `ss` match `ß`, and `\b` depends on
    /// Oniguruma's own `\w`.
    ascii: bool,
    /// The text must not end with a newline: `$` also matches before such a newline.
    no_final_newline: bool,
}

impl Plain {
    /// Compiles a pattern. `None` if the pattern is not in the subset.
    pub(super) fn compile(pattern: &str, flags: &Flags) -> Option<Self> {
        let refused = RegexOptions::REGEX_OPTION_EXTEND | RegexOptions::REGEX_OPTION_FIND_LONGEST;
        let ignores_case = flags
            .options
            .contains(RegexOptions::REGEX_OPTION_IGNORECASE);
        if flags.options.intersects(refused) || ignores_case && !pattern.is_ascii() {
            return None;
        }
        let mut translator = Translator {
            rest: pattern.chars().peekable(),
            out: String::new(),
            needs: Needs::default(),
        };
        let shortest = translator.alternatives()?;
        if translator.rest.next().is_some() || shortest == 0 {
            return None;
        }
        let Translator { out, mut needs, .. } = translator;
        needs.ascii |= ignores_case;
        let regex = regex::RegexBuilder::new(&out)
            .case_insensitive(ignores_case)
            .dot_matches_new_line(flags.options.contains(RegexOptions::REGEX_OPTION_MULTILINE))
            .size_limit(SIZE_LIMIT)
            .build()
            .ok()?;
        Some(Self { regex, needs })
    }

    /// Returns the number of groups, without group 0.
    pub(super) fn groups(&self) -> usize {
        self.regex.captures_len() - 1
    }

    /// Whether Oniguruma would find the same matches in `text`.
    pub(super) fn is_exact_for(&self, text: &str) -> bool {
        !(self.needs.no_final_newline && text.ends_with('\n')
            || self.needs.ascii && !text.is_ascii())
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Returns the spans of all matches.
    #[cfg(test)]
    pub(super) fn matches(&self, text: &str) -> Vec<(usize, usize)> {
        self.regex
            .find_iter(text)
            .map(|found| (found.start(), found.end()))
            .collect()
    }

    /// Returns the memory for the spans of one search.
    pub(super) fn locations(&self) -> CaptureLocations {
        self.regex.capture_locations()
    }

    /// Searches from the byte `start` on, and writes the spans of all groups to `locations`.
    pub(super) fn search(
        &self,
        text: &str,
        start: usize,
        locations: &mut CaptureLocations,
        groups: &mut [Option<(usize, usize)>],
    ) -> bool {
        if let [whole] = groups {
            *whole = self
                .regex
                .find_at(text, start)
                .map(|found| (found.start(), found.end()));
            return whole.is_some();
        }
        if self
            .regex
            .captures_read_at(locations, text, start)
            .is_none()
        {
            return false;
        }
        for (group, span) in groups.iter_mut().enumerate() {
            *span = locations.get(group);
        }
        true
    }
}

/// Writes a pattern of the subset in the syntax of the crate `regex`. Each function reads a part of
/// the pattern and returns the least number of characters that this part matches. It returns `None`
/// if the part is not in the subset.
struct Translator<'p> {
    rest: Peekable<Chars<'p>>,
    out: String,
    needs: Needs,
}

impl Translator<'_> {
    fn take(&mut self, expected: char) -> bool {
        let is_next = self.rest.peek() == Some(&expected);
        if is_next {
            self.rest.next();
        }
        is_next
    }

    fn alternatives(&mut self) -> Option<usize> {
        let mut shortest = self.sequence()?;
        while self.take('|') {
            self.out.push('|');
            shortest = shortest.min(self.sequence()?);
        }
        Some(shortest)
    }

    fn sequence(&mut self) -> Option<usize> {
        let mut shortest = 0;
        while let Some(&next) = self.rest.peek() {
            if matches!(next, '|' | ')') {
                break;
            }
            self.rest.next();
            shortest += self.piece(next)?;
        }
        Some(shortest)
    }

    fn piece(&mut self, first: char) -> Option<usize> {
        let shortest = match first {
            '^' => return self.anchor(r"\A"),
            '$' => {
                self.needs.no_final_newline = true;
                return self.anchor(r"\z");
            }
            '\\' if self.take('b') => {
                self.needs.ascii = true;
                return self.anchor(r"(?-u:\b)");
            }
            '(' => self.group()?,
            '[' => self.class()?,
            '.' => {
                self.out.push('.');
                1
            }
            '\\' => {
                let escape = self.rest.next()?;
                match set(escape, WORD_OUTSIDE) {
                    Some(set) => self.out.push_str(&set),
                    None => self.literal(escaped(escape)?),
                }
                1
            }
            '*' | '+' | '?' | '{' | '}' | ']' => return None,
            _ => {
                self.literal(first);
                1
            }
        };
        self.repetition(shortest)
    }

    /// Writes an anchor. An anchor matches no text, so it must not be repeated.
    fn anchor(&mut self, written: &str) -> Option<usize> {
        self.out.push_str(written);
        if matches!(self.rest.peek(), Some('*' | '+' | '?' | '{')) {
            None
        } else {
            Some(0)
        }
    }

    fn literal(&mut self, literal: char) {
        self.out
            .push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
    }

    fn group(&mut self) -> Option<usize> {
        if !self.take('?') {
            self.out.push('(');
        } else if self.take(':') {
            self.out.push_str("(?:");
        } else if self.take('<') {
            // The name itself is not needed here, because Oniguruma returns the names.
            let is_name = |c: &char| c.is_ascii_alphabetic() || *c == '_';
            self.rest.next_if(is_name)?;
            while self
                .rest
                .next_if(|c| is_name(c) || c.is_ascii_digit())
                .is_some()
            {}
            if !self.take('>') {
                return None;
            }
            self.out.push('(');
        } else {
            return None;
        }
        let shortest = self.alternatives()?;
        if !self.take(')') {
            return None;
        }
        self.out.push(')');
        Some(shortest)
    }

    fn repetition(&mut self, shortest: usize) -> Option<usize> {
        let Some(&sign) = self.rest.peek() else {
            return Some(shortest);
        };
        let least = match sign {
            '*' | '+' | '?' => {
                self.rest.next();
                self.out.push(sign);
                usize::from(sign == '+')
            }
            '{' => {
                self.rest.next();
                self.counts()?
            }
            _ => return Some(shortest),
        };
        if self.take('?') {
            // `{2}?` means something else in some syntaxes.
            if sign == '{' {
                return None;
            }
            self.out.push('?');
        }
        if shortest == 0 || matches!(self.rest.peek(), Some('*' | '+' | '?' | '{')) {
            return None;
        }
        Some(shortest * least)
    }

    fn counts(&mut self) -> Option<usize> {
        let least = self.number()?;
        let most = if self.take(',') {
            if self.rest.peek() == Some(&'}') {
                None
            } else {
                Some(self.number()?)
            }
        } else {
            Some(least)
        };
        if !self.take('}')
            || least.max(most.unwrap_or(0)) > MAX_COUNT
            || most.is_some_and(|most| most < least || most == 0)
        {
            return None;
        }
        // Writing to a string cannot fail.
        let _ = match most {
            None => write!(self.out, "{{{least},}}"),
            Some(most) => write!(self.out, "{{{least},{most}}}"),
        };
        usize::try_from(least).ok()
    }

    fn number(&mut self) -> Option<u32> {
        let mut digits = String::new();
        while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        digits.parse().ok()
    }

    fn class(&mut self) -> Option<usize> {
        self.out.push('[');
        if self.take('^') {
            self.out.push('^');
        }
        let mut is_empty = true;
        loop {
            let first = self.rest.next()?;
            match first {
                ']' if !is_empty => break,
                '[' | ']' => return None,
                '&' if self.rest.peek() == Some(&'&') => return None,
                // A hyphen means itself only if it is the first or last character.
                '-' if !is_empty && self.rest.peek() != Some(&']') => return None,
                _ => {}
            }
            is_empty = false;
            if first == '\\' {
                let escape = self.rest.next()?;
                if let Some(set) = set(escape, "") {
                    self.out.push_str(&set);
                    // `[\d-x]` is left to Oniguruma by the rule on hyphens.
                    continue;
                }
                self.range(escaped(escape)?)?;
            } else {
                self.range(first)?;
            }
        }
        self.out.push(']');
        Some(1)
    }

    /// Writes `from` as a character of a class. If a range begins with it, reads and writes the
    /// rest of the range too.
    fn range(&mut self, from: char) -> Option<()> {
        self.literal(from);
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('-') || matches!(ahead.next(), None | Some(']')) {
            return Some(());
        }
        self.rest.next();
        let to = match self.rest.next()? {
            '[' | '&' => return None,
            '\\' => escaped(self.rest.next()?)?,
            other => other,
        };
        if to < from {
            return None;
        }
        self.out.push('-');
        self.literal(to);
        Some(())
    }
}

/// Returns the set of characters that a letter after a backslash means.
fn set(escape: char, more_of_word: &str) -> Option<String> {
    match escape {
        'd' => Some(r"\d".to_owned()),
        'D' => Some(r"\D".to_owned()),
        's' => Some(r"\s".to_owned()),
        'S' => Some(r"\S".to_owned()),
        'w' => Some(format!("[{WORD}{more_of_word}]")),
        'W' => Some(format!("[^{WORD}{more_of_word}]")),
        _ => None,
    }
}

/// Returns the character that a character after a backslash means.
fn escaped(escape: char) -> Option<char> {
    match escape {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        // These are anchors in some syntaxes.
        '<' | '>' | '`' | '\'' => None,
        _ if escape.is_ascii_punctuation() => Some(escape),
        _ => None,
    }
}
