//! Strings. A string is a part of a record or of the program, or an evaluation made it, or it is a
//! part of a string that an evaluation made. This module counts the memory of strings that were
//! made.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::rc::Rc;

use crate::Exhausted;
use crate::meter::{self, ALLOCATION_BYTES, Held};

/// A string, which is borrowed or shared. Two strings are compared by their characters.
#[derive(Clone)]
pub enum Text<'a> {
    /// A part of the record or the program.
    Borrowed(&'a str),
    /// A string that was made.
    Shared(Rc<Chars>),
    /// A part of a string that was made.
    Part(Rc<Chars>, Bounds),
}

/// The characters of a string that was made.
#[derive(Clone, Debug)]
pub struct Chars {
    characters: String,
    held: Held,
}

/// The range of bytes of a part of a string. Its size is small, because it determines the size of
/// every value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    from: u32,
    to: u32,
}

impl From<String> for Chars {
    fn from(characters: String) -> Self {
        let held = Held::new(ALLOCATION_BYTES + characters.capacity());
        Self { characters, held }
    }
}

impl Deref for Chars {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        &self.characters
    }
}

impl Chars {
    /// Appends a string.
    fn push(&mut self, string: &str) -> Result<(), Exhausted> {
        let wanted = self.characters.len() + string.len();
        if wanted > self.characters.capacity() {
            let capacity = wanted.max(self.characters.len() * 2);
            self.held.set(ALLOCATION_BYTES + capacity);
            meter::room(0)?;
            self.characters
                .reserve_exact(capacity - self.characters.len());
        }
        self.characters.push_str(string);
        Ok(())
    }
}

impl Text<'_> {
    /// Returns a part of the string. The part shares the characters of the string.
    #[inline]
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        match self {
            Self::Borrowed(string) => Self::Borrowed(&string[range]),
            Self::Shared(string) if range.len() == string.len() => Self::Shared(string.clone()),
            Self::Shared(string) => part_of(string, range),
            Self::Part(string, bounds) => {
                let from = bounds.from as usize;
                part_of(string, from + range.start..from + range.end)
            }
        }
    }

    /// Appends another string. Changes this string in place if nothing else holds it.
    pub(crate) fn append(&mut self, other: &Self) -> Result<(), Exhausted> {
        if self.is_empty() {
            *self = other.clone();
            return Ok(());
        }
        if other.is_empty() {
            return Ok(());
        }
        if let Self::Shared(string) = self
            && let Some(string) = Rc::get_mut(string)
        {
            return string.push(other);
        }
        meter::room(self.len() + other.len())?;
        let mut joined = String::with_capacity(self.len() + other.len());
        joined.push_str(self);
        joined.push_str(other);
        *self = Self::from(joined);
        Ok(())
    }

    /// Whether both are the same range of the same string in memory.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Borrowed(left), Self::Borrowed(right)) => std::ptr::eq(*left, *right),
            (Self::Shared(left), Self::Shared(right)) => Rc::ptr_eq(left, right),
            (Self::Part(left, one), Self::Part(right, two)) => {
                Rc::ptr_eq(left, right) && one == two
            }
            _ => false,
        }
    }
}

#[inline]
fn part_of<'a>(string: &Rc<Chars>, range: Range<usize>) -> Text<'a> {
    match (u32::try_from(range.start), u32::try_from(range.end)) {
        (Ok(from), Ok(to)) => Text::Part(string.clone(), Bounds { from, to }),
        _ => Text::from(string[range].to_owned()),
    }
}

impl Deref for Text<'_> {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(string) => string,
            Self::Shared(string) => string,
            Self::Part(string, bounds) => &string[bounds.from as usize..bounds.to as usize],
        }
    }
}

impl From<String> for Text<'_> {
    fn from(string: String) -> Self {
        Self::Shared(Rc::new(Chars::from(string)))
    }
}

impl<'a> From<Cow<'a, str>> for Text<'a> {
    fn from(string: Cow<'a, str>) -> Self {
        match string {
            Cow::Borrowed(string) => Self::Borrowed(string),
            Cow::Owned(string) => Self::from(string),
        }
    }
}

impl Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        self
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text<'_> {}

impl Hash for Text<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        str::hash(self, state);
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_part_is_a_part_of_the_whole() {
        let whole = Text::from("añb😀c".to_owned());
        let part = whole.part(1..8);
        assert_eq!(&*part, "ñb😀");
        assert_eq!(&*part.part(2..3), "b");
        assert!(part.is(&whole.part(1..8)));
        assert!(!part.is(&whole.part(1..3)));
    }

    #[test]
    fn a_string_that_only_one_value_holds_grows_in_place() {
        let mut text = Text::from("a".to_owned());
        let before = text.clone();
        text.append(&Text::Borrowed("b")).unwrap();
        text.append(&before).unwrap();
        assert_eq!((&*text, &*before), ("aba", "a"));
    }
}
