//! Regular expressions in the syntax of jq (Oniguruma, `Perl_NG`): compiles a pattern and finds its
//! matches, with offsets in code points. This module sees only strings, not JSON values, and keeps
//! no compiled patterns.
//!
//! Oniguruma finds the matches, so they equal jq's matches in every detail. If a pattern is in the
//! plain subset (see [`plain`]), the crate `regex` finds the matches instead, because it is faster
//! and has no limit of steps.

mod plain;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use onig::{MatchParam, RegexOptions, Region, SearchOptions, Syntax};

/// How many entries Oniguruma's stack may have in one search. An entry has 40 bytes, so a search
/// takes at most 320 MB. Without a limit, a long line could take all memory of the process.
const MATCH_STACK_LIMIT: u32 = 8_000_000;

/// How many bytes a pattern may have. Oniguruma's compiler is recursive, and some patterns grow
/// when it compiles them.
pub(crate) const MAX_PATTERN_BYTES: usize = 64 << 10;

/// How many groups may be inside each other. Oniguruma allows 4,096 levels, but then its compiler
/// needs more stack than a thread has.
const MAX_NESTING: usize = 250;

/// A compiled pattern.
pub(crate) struct Regex {
    oniguruma: onig::Regex,
    plain: Option<plain::Plain>,
    /// The names of the groups, from group 1.
    names: Vec<Option<Box<str>>>,
    global: bool,
}

/// One match.
#[derive(Debug, PartialEq)]
pub(crate) struct Match<'t> {
    /// Position of the match in the text, in code points.
    pub offset: usize,
    /// Length of the match, in code points.
    pub length: usize,
    /// The text that matched.
    pub text: Cow<'t, str>,
    /// The groups, from group 1.
    pub captures: Vec<Capture<'t>>,
}

/// The part of a match that one group matched.
#[derive(Debug, PartialEq)]
pub(crate) struct Capture<'t> {
    /// Position in the text, in code points; -1 if the group took no part.
    pub offset: i64,
    /// Length in code points.
    pub length: usize,
    /// The text of the group; `None` if the group took no part.
    pub text: Option<Cow<'t, str>>,
}

impl Regex {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// A flag is unknown, Oniguruma refuses the pattern, or a limit is exceeded. The message is
    /// that of jq, except for the limits.
    pub(crate) fn compile(pattern: &str, flags: &str) -> Result<Self, String> {
        let flags = Flags::parse(flags)?;
        refuse_large(pattern)?;
        let oniguruma = onig::Regex::with_options(pattern, flags.options, Syntax::perl_ng())
            .map_err(|error| failure(&error))?;
        let plain = plain::Plain::compile(pattern, &flags)
            .filter(|plain| plain.groups() == oniguruma.captures_len());
        let mut names = vec![None; oniguruma.captures_len()];
        oniguruma.foreach_name(|name, groups| {
            for &group in groups {
                if let Some(slot) = (group as usize)
                    .checked_sub(1)
                    .and_then(|group| names.get_mut(group))
                {
                    *slot = Some(name.into());
                }
            }
            true
        });
        Ok(Self {
            oniguruma,
            plain,
            names,
            global: flags.global,
        })
    }

    /// Whether the flag `g` was given.
    pub(crate) fn is_global(&self) -> bool {
        self.global
    }

    /// Returns the names of the groups, from group 1.
    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        self.names.iter().map(Option::as_deref)
    }

    /// Whether `text` matches anywhere.
    ///
    /// # Errors
    /// jq's sentence if Oniguruma gives up.
    pub(crate) fn is_match(&self, text: &str) -> Result<bool, String> {
        match self.plain_for(text) {
            Some(plain) => Ok(plain.is_match(text)),
            None => Ok(self.search(text, 0, None)?.is_some()),
        }
    }

    /// Returns all matches if `global`, or else the first one.
    ///
    /// # Errors
    /// jq's sentence if Oniguruma gives up.
    pub(crate) fn find_all<'t>(
        &self,
        text: &'t str,
        global: bool,
    ) -> Result<Vec<Match<'t>>, String> {
        let mut found = Vec::new();
        self.visit(text, global, &mut |found_one| {
            found.push(found_one);
            true
        })?;
        Ok(found)
    }

    /// Passes all matches to `visit` if `global`, or else the first one, until `visit` returns
    /// false.
    ///
    /// # Errors
    /// Oniguruma gives up the search. The message is that of jq. Earlier matches have already been
    /// passed to `visit`.
    pub(crate) fn visit<'t>(
        &self,
        text: &'t str,
        global: bool,
        visit: &mut dyn FnMut(Match<'t>) -> bool,
    ) -> Result<(), String> {
        let mut plain = self.plain_for(text).map(|plain| (plain, plain.locations()));
        let mut spans = Spans::new(text, self.names.len());
        let mut region = Region::new();
        let mut start = 0;
        while start <= text.len() {
            let is_found = match &mut plain {
                Some((plain, locations)) => plain.search(text, start, locations, &mut spans.groups),
                None => {
                    self.search(text, start, Some(&mut region))?.is_some() && spans.read(&region)
                }
            };
            if !is_found {
                break;
            }
            let (from, to) = spans.whole();
            // After an empty match jq continues one byte later, even inside a character. Oniguruma
            // searches from there.
            start = if from == to { to + 1 } else { to };
            if !visit(spans.next_match()) || !global {
                break;
            }
        }
        Ok(())
    }

    fn plain_for(&self, text: &str) -> Option<&plain::Plain> {
        self.plain.as_ref().filter(|plain| plain.is_exact_for(text))
    }

    fn search(
        &self,
        text: &str,
        start: usize,
        region: Option<&mut Region>,
    ) -> Result<Option<usize>, String> {
        let mut limits = MatchParam::default();
        limits.set_match_stack_limit(MATCH_STACK_LIMIT);
        self.oniguruma
            .search_with_param(
                text,
                start,
                text.len(),
                SearchOptions::SEARCH_OPTION_NONE,
                region,
                limits,
            )
            .map_err(|error| failure(&error))
    }
}

impl std::fmt::Debug for Regex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Regex")
            .field("groups", &self.names)
            .field("global", &self.global)
            .finish_non_exhaustive()
    }
}

fn failure(error: &onig::Error) -> String {
    format!("Regex failure: {}", error.description())
}

fn refuse_large(pattern: &str) -> Result<(), String> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!(
            "Regex failure: the pattern has {} bytes; at most {MAX_PATTERN_BYTES} are allowed",
            pattern.len()
        ));
    }
    let (mut depth, mut deepest, mut is_escaped) = (0_usize, 0, false);
    for byte in pattern.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            // A bracket opens a class, and classes nest too. The counted depth may be too high, but
            // never too low.
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > MAX_NESTING {
        return Err(format!(
            "Regex failure: groups are nested {deepest} levels deep; at most {MAX_NESTING} are allowed"
        ));
    }
    Ok(())
}

/// The flags of a pattern.
struct Flags {
    global: bool,
    options: RegexOptions,
}

impl Flags {
    fn parse(flags: &str) -> Result<Self, String> {
        let mut options = RegexOptions::REGEX_OPTION_CAPTURE_GROUP;
        let mut global = false;
        for flag in flags.chars() {
            options |= match flag {
                'g' => {
                    global = true;
                    continue;
                }
                'i' => RegexOptions::REGEX_OPTION_IGNORECASE,
                'x' => RegexOptions::REGEX_OPTION_EXTEND,
                'm' => RegexOptions::REGEX_OPTION_MULTILINE,
                's' => RegexOptions::REGEX_OPTION_SINGLELINE,
                'p' => RegexOptions::REGEX_OPTION_MULTILINE | RegexOptions::REGEX_OPTION_SINGLELINE,
                'l' => RegexOptions::REGEX_OPTION_FIND_LONGEST,
                'n' => RegexOptions::REGEX_OPTION_FIND_NOT_EMPTY,
                _ => return Err(format!("{flags} is not a valid modifier string")),
            };
        }
        Ok(Self { global, options })
    }
}

/// The spans of one match's groups, in bytes. A cursor counts the code points from one match to the
/// next.
struct Spans<'t> {
    text: &'t str,
    is_ascii: bool,
    /// Start and end of each group, from group 0, which is the whole match. A start or end may be
    /// inside a character.
    groups: Vec<Option<(usize, usize)>>,
    cursor: (usize, usize),
}

impl<'t> Spans<'t> {
    fn new(text: &'t str, groups: usize) -> Self {
        Self {
            text,
            is_ascii: text.is_ascii(),
            groups: vec![None; groups + 1],
            cursor: (0, 0),
        }
    }

    fn read(&mut self, region: &Region) -> bool {
        for (group, span) in self.groups.iter_mut().enumerate() {
            // Oniguruma may return a group whose end is before its beginning. jq crashes then. Here
            // such a group is empty.
            *span = region.pos(group).map(|(from, to)| (from, to.max(from)));
        }
        true
    }

    fn whole(&self) -> (usize, usize) {
        self.groups.first().copied().flatten().unwrap_or_default()
    }

    fn next_match(&mut self) -> Match<'t> {
        let (from, to) = self.whole();
        let (offset, length) = self.in_code_points(from, to);
        let captures = (1..self.groups.len())
            .map(|group| self.capture(group, from == to, offset))
            .collect();
        Match {
            offset,
            length,
            text: self.slice(from, to),
            captures,
        }
    }

    fn capture(
        &mut self,
        group: usize,
        is_in_empty_match: bool,
        offset_of_match: usize,
    ) -> Capture<'t> {
        match self.groups.get(group).copied().flatten() {
            None => Capture {
                offset: -1,
                length: 0,
                text: None,
            },
            // In jq the groups of an empty match have the offset of the match and no text, whatever
            // they matched.
            Some(_) if is_in_empty_match => Capture {
                offset: to_offset(offset_of_match),
                length: 0,
                text: Some(Cow::Borrowed("")),
            },
            Some((from, to)) => {
                let (offset, length) = self.in_code_points(from, to);
                Capture {
                    offset: to_offset(offset),
                    length,
                    text: Some(self.slice(from, to)),
                }
            }
        }
    }

    /// Returns the offset and the length of a span in code points. jq does not find the beginning
    /// of a span that begins inside a character. Such a span begins at 0, unless it is empty.
    fn in_code_points(&mut self, from: usize, to: usize) -> (usize, usize) {
        if self.is_ascii {
            return (from, to - from);
        }
        let offset = self.count(from);
        if from == to {
            return (offset, 0);
        }
        let end = code_points(&self.text.as_bytes()[from..to]);
        if self.text.is_char_boundary(from) {
            (offset, end)
        } else {
            (0, offset + end)
        }
    }

    /// Returns how many characters begin before `position`.
    fn count(&mut self, position: usize) -> usize {
        let (at, counted) = self.cursor;
        let bytes = self.text.as_bytes();
        let count = if position >= at {
            counted + code_points(&bytes[at..position])
        } else {
            counted - code_points(&bytes[position..at])
        };
        self.cursor = (position, count);
        count
    }

    fn slice(&self, from: usize, to: usize) -> Cow<'t, str> {
        match self.text.get(from..to) {
            Some(text) => Cow::Borrowed(text),
            None => {
                Cow::Owned(String::from_utf8_lossy(&self.text.as_bytes()[from..to]).into_owned())
            }
        }
    }
}

fn to_offset(offset: usize) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// Returns how many characters begin in `bytes`.
fn code_points(bytes: &[u8]) -> usize {
    // A continuation byte is 10xxxxxx.
    bytes.iter().filter(|&&byte| byte & 0xC0 != 0x80).count()
}
