//! Patterns of file names. They say which names match, and whether anything below a folder can
//! match. This module lists nothing and opens nothing.
//!
//! A pattern is a list of alternatives, which are its expanded braces. Each alternative is a list
//! of segments. A name is read segment by segment, and [`Places`] holds the possible positions in
//! the pattern after the segments read so far.

use std::collections::BTreeSet;

use crate::storage::glob_text;

/// How many alternatives the braces of one pattern may expand to. Each name is compared with each
/// alternative.
const MAX_ALTERNATIVES: usize = 1_000;

/// What a pattern requires of one segment of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`: any number of segments. At the end of a pattern, at least one segment.
    Anywhere,
    /// One segment.
    Name(Vec<Token>),
}

/// What a pattern requires of the characters of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// This character.
    Char(char),
    /// The end of a segment.
    Slash,
    /// `?`
    One,
    /// `*`
    Many,
    /// `[a-z]` or `[!a-z]`
    Class {
        /// Whether the class matches all other characters instead.
        is_negated: bool,
        /// First and last of each range.
        ranges: Vec<(char, char)>,
    },
}

/// A pattern of names.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    alternatives: Vec<Vec<Segment>>,
    prefix: String,
    literal: Option<String>,
    reads_hidden: bool,
}

/// The possible positions in a pattern after the segments read so far. Each position is an
/// alternative and a segment of it. If there is no position, nothing that follows can match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places(BTreeSet<(usize, usize)>);

impl Pattern {
    /// Parses a pattern. It may contain `* ** ? [..] [!..] {a,b}`. A character after `\` means
    /// itself.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let alternatives = glob_text::parse(text, MAX_ALTERNATIVES)?;
        Self::of(&alternatives, false)
    }

    /// Makes a pattern for every name that begins with `prefix`, including marker files.
    pub(crate) fn beginning_with(prefix: &str) -> Result<Self, String> {
        let mut name: Vec<Token> = prefix.chars().map(literally).collect();
        name.push(Token::Many);
        let mut below = name.clone();
        below.extend([Token::Slash, Token::Many, Token::Many]);
        Self::of(&[name, below], true)
    }

    fn of(alternatives: &[Vec<Token>], reads_hidden: bool) -> Result<Self, String> {
        let literal = match alternatives {
            [only] => literal_of(only),
            _ => None,
        };
        let prefixes = alternatives.iter().map(|tokens| text_of(tokens).0);
        let prefix = prefixes.reduce(|a, b| common(&a, &b));
        let alternatives: Vec<Vec<Segment>> = alternatives
            .iter()
            .map(|tokens| {
                tokens
                    .split(|token| *token == Token::Slash)
                    .map(segment)
                    .collect()
            })
            .collect();
        if alternatives.iter().flatten().any(Segment::is_dots) {
            return Err("has . or .. as a segment of its path".to_owned());
        }
        Ok(Self {
            alternatives,
            prefix: prefix.unwrap_or_default(),
            literal,
            reads_hidden,
        })
    }

    /// Returns the only name that the pattern matches, without backslashes. `None` if the pattern
    /// has a wildcard.
    pub(crate) fn literal(&self) -> Option<&str> {
        self.literal.as_deref()
    }

    /// Returns the common beginning of all matching names. It may end within a segment.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether a whole name matches.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let mut places = self.start();
        for segment in name.split('/') {
            if places.is_empty() {
                return false;
            }
            places = self.step(&places, segment);
        }
        self.accepts(&places)
    }

    /// Returns the positions before the first segment.
    pub(crate) fn start(&self) -> Places {
        let mut places = Places::default();
        for alternative in 0..self.alternatives.len() {
            self.stand(&mut places, alternative, 0);
        }
        places
    }

    /// Returns the positions after one more segment of a name.
    pub(crate) fn step(&self, places: &Places, name: &str) -> Places {
        let mut next = Places::default();
        let characters: Vec<char> = name.chars().collect();
        let is_hidden = !self.reads_hidden && name.starts_with(['_', '.']);
        for &(alternative, at) in &places.0 {
            match self.segment(alternative, at) {
                Some(Segment::Anywhere) if !is_hidden => {
                    self.stand(&mut next, alternative, at);
                    if self.segment(alternative, at + 1).is_none() {
                        next.0.insert((alternative, at + 1));
                    }
                }
                Some(Segment::Name(tokens)) => {
                    let is_literal = matches!(tokens.first(), Some(Token::Char('_' | '.')));
                    if (is_literal || !is_hidden) && name_matches(tokens, &characters) {
                        self.stand(&mut next, alternative, at + 1);
                    }
                }
                Some(Segment::Anywhere) | None => {}
            }
        }
        next
    }

    /// Whether the segments read so far are a complete matching name.
    pub(crate) fn accepts(&self, places: &Places) -> bool {
        places
            .0
            .iter()
            .any(|&(alternative, at)| self.segment(alternative, at).is_none())
    }

    /// Whether anything inside a folder can match, if these are the positions after the folder's
    /// name.
    pub(crate) fn goes_on(&self, places: &Places) -> bool {
        places
            .0
            .iter()
            .any(|&(alternative, at)| self.segment(alternative, at).is_some())
    }

    /// Returns the only names that can follow, if no wildcard follows. Then the folder need not be
    /// listed.
    pub(crate) fn only_names(&self, places: &Places) -> Option<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for &(alternative, at) in &places.0 {
            match self.segment(alternative, at) {
                Some(Segment::Name(tokens)) => {
                    names.insert(literal_of(tokens)?);
                }
                Some(Segment::Anywhere) => return None,
                None => {}
            }
        }
        Some(names)
    }

    fn segment(&self, alternative: usize, at: usize) -> Option<&Segment> {
        self.alternatives.get(alternative)?.get(at)
    }

    /// Adds a position. If a `**` follows, also adds the positions after it, because it may match
    /// no segment.
    fn stand(&self, places: &mut Places, alternative: usize, at: usize) {
        places.0.insert((alternative, at));
        let is_anywhere = self.segment(alternative, at) == Some(&Segment::Anywhere);
        if is_anywhere && self.segment(alternative, at + 1).is_some() {
            self.stand(places, alternative, at + 1);
        }
    }
}

impl Places {
    /// Whether there is no position, so that nothing that follows can match.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of these positions are among the positions of `others`.
    pub(crate) fn are_among(&self, others: &Self) -> bool {
        self.0.is_subset(&others.0)
    }
}

impl Segment {
    fn is_dots(&self) -> bool {
        let literal = match self {
            Self::Name(tokens) => literal_of(tokens),
            Self::Anywhere => None,
        };
        literal.is_some_and(|name| name == "." || name == "..")
    }
}

fn literally(character: char) -> Token {
    if character == '/' {
        Token::Slash
    } else {
        Token::Char(character)
    }
}

fn segment(tokens: &[Token]) -> Segment {
    if matches!(tokens, [Token::Many, Token::Many]) {
        return Segment::Anywhere;
    }
    let mut tokens = tokens.to_vec();
    tokens.dedup_by(|a, b| *a == Token::Many && *b == Token::Many);
    Segment::Name(tokens)
}

/// Returns the text before the first wildcard, and whether this text is the whole pattern.
fn text_of(tokens: &[Token]) -> (String, bool) {
    let mut text = String::new();
    for token in tokens {
        match token {
            Token::Char(character) => text.push(*character),
            Token::Slash => text.push('/'),
            Token::One | Token::Many | Token::Class { .. } => return (text, false),
        }
    }
    (text, true)
}

/// Returns the text of the tokens, if there is no wildcard among them.
fn literal_of(tokens: &[Token]) -> Option<String> {
    let (text, is_all) = text_of(tokens);
    is_all.then_some(text)
}

fn common(a: &str, b: &str) -> String {
    let pairs = a.chars().zip(b.chars());
    pairs.take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

/// Whether one segment matches. Each time the text after a `*` does not match, the last `*` is
/// tried with one more character.
fn name_matches(tokens: &[Token], name: &[char]) -> bool {
    let (mut token, mut character) = (0, 0);
    let mut star = None;
    while character < name.len() {
        match tokens.get(token) {
            Some(Token::Many) => {
                star = Some((token, character));
                token += 1;
            }
            Some(one) if one.is(name[character]) => {
                token += 1;
                character += 1;
            }
            Some(_) | None => {
                let Some((at, from)) = star else {
                    return false;
                };
                star = Some((at, from + 1));
                token = at + 1;
                character = from + 1;
            }
        }
    }
    tokens[token..].iter().all(|token| *token == Token::Many)
}

impl Token {
    fn is(&self, character: char) -> bool {
        match self {
            Self::Char(this) => *this == character,
            Self::One => true,
            Self::Class { is_negated, ranges } => {
                let is_in = ranges
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&character));
                is_in != *is_negated
            }
            Self::Slash | Self::Many => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use globset::GlobBuilder;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn a_pattern_matches_what_its_parts_describe() {
        for (pattern, yes, no) in [
            ("*.txt", "a.txt", "a.txtx"),
            ("*.txt", "é😀.txt", "in/a.txt"),
            ("?.txt", "é.txt", "éé.txt"),
            ("in/*", "in/a", "in/a/b"),
            ("in/**", "in/a/b/c", "in"),
            ("in/**/x", "in/x", "in/xx"),
            ("in/**/x", "in/a/b/x", "in/a/x/y"),
            ("**", "a/b", ".a"),
            ("**/a", "a", "ba"),
            ("a**b", "axxb", "a/b"),
            ("[a-c]x", "bx", "dx"),
            ("[!a-c]x", "dx", "bx"),
            ("[]a-]", "]", "b"),
            ("{a,b{c,d}}.x", "bd.x", "b.x"),
            ("x{,.gz}", "x", "x."),
            ("{in,out/deep}/a", "out/deep/a", "out/a"),
            ("\\*\\[", "*[", "x["),
            ("a,b", "a,b", "a"),
            ("a/*/b", "a//b", "a/b"),
            ("*a*b*c*", "xaxbxcx", "xaxcxbx"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(!matches(pattern, no), "{pattern} {no}");
        }
    }

    #[test]
    fn a_marker_file_matches_only_if_the_pattern_names_it() {
        for (pattern, name, expected) in [
            ("*", "_SUCCESS", false),
            ("*", ".part.crc", false),
            ("?x", "_x", false),
            ("[_.]x", "_x", false),
            ("[!a]x", ".x", false),
            ("*_x", "_x", false),
            ("**", "out/_SUCCESS.json", false),
            ("**/*.json", "_temporary/0/x.json", false),
            ("**/x", "a/.hidden/x", false),
            ("*/x", "_a/x", false),
            ("{*,x}", "_x", false),
            ("_*", "_x", true),
            (".*", ".x", true),
            ("\\_*", "_x", true),
            ("_x", "_x", true),
            ("{_a,b}", "_a", true),
            ("{*,_a}", "_a", true),
            ("{_,x}y", "_y", true),
            ("**/_SUCCESS.json", "a/b/_SUCCESS.json", true),
            ("**/_SUCCESS.json", "a/_b/_SUCCESS.json", false),
            ("_a/*", "_a/x", true),
            ("_a/*", "_a/_x", false),
            ("_a/**", "_a/b/x", true),
            ("*", "a_b.c", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_prefix_ends_where_the_names_begin_to_differ() {
        for (pattern, prefix, literal) in [
            ("logs/2024-*", "logs/2024-", None),
            ("logs/2024-01/x", "logs/2024-01/x", Some("logs/2024-01/x")),
            ("a\\*b/[x]", "a*b/", None),
            ("a\\*b", "a*b", Some("a*b")),
            ("a\\\\b", "a\\b", Some("a\\b")),
            ("**", "", None),
            ("in/{ab,ac}/x*", "in/a", None),
            ("{a}", "a", Some("a")),
            ("é?", "é", None),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(
                (parsed.prefix(), parsed.literal()),
                (prefix, literal),
                "{pattern}"
            );
        }
    }

    #[test]
    fn an_invalid_pattern_is_refused_with_the_reason() {
        for (text, problem) in [
            ("a[", "a [ is not closed"),
            ("a[/]", "a [..] has a / in it"),
            ("[z-a]", "the range z-a is empty"),
            ("{a", "a { is not closed"),
            ("a}", "a } closes no {"),
            ("a\\", "a \\ at the end escapes nothing"),
            ("{..,a}/x", "has . or .. as a segment of its path"),
            (
                "{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}",
                "its braces stand for more than 1000 alternatives",
            ),
        ] {
            assert_eq!(Pattern::parse(text).unwrap_err(), problem, "{text}");
        }
        let deep = "{".repeat(10_000);
        assert!(Pattern::parse(&deep).unwrap_err().contains("nested"));
    }

    #[test]
    fn a_pattern_of_many_stars_is_quick() {
        let pattern = format!("{}b", "*a".repeat(300));
        assert!(!matches(&pattern, &"a".repeat(1000)));
        let folders = format!("{}x", "**/a/".repeat(100));
        assert!(!matches(&folders, &"a/".repeat(500)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// All names here have only ASCII letters, because `?` matches a byte in globset. There are
        /// no classes such as `[!a]`, because they match a slash in globset.
        #[test]
        fn patterns_match_as_in_globset(
            pattern in "(\\*\\*|([ab*?]|\\[[ab]\\]|\\{a,b\\*\\}|\\{ab,b/a\\}){1,3})(/(\\*\\*|([ab*?]|\\[[ab]\\]){1,3})){0,3}",
            name in "[ab]{1,3}(/[ab]{1,2}){0,3}",
        ) {
            let theirs = GlobBuilder::new(&pattern).literal_separator(true).build().unwrap();
            prop_assert_eq!(matches(&pattern, &name), theirs.compile_matcher().is_match(&name));
        }

        #[test]
        fn every_match_begins_with_the_prefix(
            pattern in "[ab*?{},\\[\\]/\\\\]{1,8}",
            name in "[ab/]{1,6}",
        ) {
            if let Ok(parsed) = Pattern::parse(&pattern) && parsed.matches(&name) {
                prop_assert!(name.starts_with(parsed.prefix()));
            }
        }
    }
}
