//! An object that was made: its members in the order in which they were added. A small object is
//! searched member by member. A large one has an index.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::elements::free;
use super::{Text, Value};
use crate::json::source::View;
use crate::meter::{ALLOCATION_BYTES, Held};

/// An object with more members than this has an index.
const SEARCHED_MEMBERS: usize = 16;

/// Hashes are the same in every run.
type Index<'a> = HashMap<Text<'a>, usize, BuildHasherDefault<DefaultHasher>>;

/// The members of an object; each key once.
#[derive(Clone, Debug, Default)]
pub struct Object<'a> {
    entries: Vec<Member<'a>>,
    index: Option<Box<Index<'a>>>,
    held: Held,
}

type Member<'a> = (Text<'a>, Value<'a>);

impl<'a> Object<'a> {
    /// Makes an object of the object at a position of a record. Its members are not copied.
    pub(crate) fn of(view: View<'a>) -> Self {
        let entries = view
            .unique_members()
            .into_iter()
            .map(|(key, value)| (Text::from(key), Value::of(value)))
            .collect();
        Self::from_unique(entries)
    }

    /// Makes an object of members whose keys are all different.
    pub(crate) fn from_unique(entries: Vec<Member<'a>>) -> Self {
        let mut object = Self {
            entries,
            index: None,
            held: Held::default(),
        };
        object.make_index();
        object.count();
        object
    }

    pub(crate) fn with_capacity(members: usize) -> Self {
        let mut object = Self {
            entries: Vec::with_capacity(members),
            index: None,
            held: Held::default(),
        };
        object.count();
        object
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn entries(&self) -> std::slice::Iter<'_, Member<'a>> {
        self.entries.iter()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.position(key).map(|at| &self.entries[at].1)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Value<'a>> {
        self.position(key).map(|at| &mut self.entries[at].1)
    }

    /// Sets a member. A new member is added after all others; an existing one keeps its place.
    pub(crate) fn insert(&mut self, key: Text<'a>, value: Value<'a>) {
        if let Some(at) = self.position(&key) {
            self.entries[at].1 = value;
            return;
        }
        if let Some(index) = &mut self.index {
            index.insert(key.clone(), self.entries.len());
        }
        let capacity = self.entries.capacity();
        self.entries.push((key, value));
        if self.index.is_none() {
            self.make_index();
        }
        if capacity < self.entries.capacity() {
            self.count();
        }
    }

    /// Removes the members for whose keys `is_removed` returns true. The other members stay in
    /// their order.
    pub(crate) fn remove(&mut self, is_removed: impl Fn(&str) -> bool) {
        let before = self.entries.len();
        self.entries.retain(|(key, _)| !is_removed(key));
        if self.entries.len() < before {
            self.index = None;
            self.make_index();
        }
    }

    pub(super) fn take_entries(&mut self) -> Vec<Member<'a>> {
        self.index = None;
        std::mem::take(&mut self.entries)
    }

    fn position(&self, key: &str) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(key).copied(),
            None => self.entries.iter().position(|(other, _)| **other == *key),
        }
    }

    /// Counts the memory that the members and their index take.
    fn count(&mut self) {
        let indexed = self.index.as_ref().map_or(0, |index| index.capacity());
        self.held.set(
            ALLOCATION_BYTES
                + self.entries.capacity() * size_of::<Member<'_>>()
                + indexed * size_of::<(Text<'_>, usize, u64)>(),
        );
    }

    fn make_index(&mut self) {
        if self.entries.len() > SEARCHED_MEMBERS {
            let places = self.entries.iter().enumerate();
            self.index = Some(Box::new(
                places.map(|(at, (key, _))| (key.clone(), at)).collect(),
            ));
        }
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        if self.entries.iter().any(|(_, value)| value.holds_values()) {
            let entries = std::mem::take(&mut self.entries);
            free(entries.into_iter().map(|(_, value)| value).collect());
        }
    }
}
