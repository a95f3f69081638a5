//! Values: the inputs and outputs of programs. A value borrows from its record as long as possible.
//! A string without escapes is a slice of the text. A number keeps its text. An array or object is
//! a position on the tape until it is changed. This module knows nothing about programs.

use std::rc::Rc;

use crate::Exhausted;
use crate::json::source::{ElementViews, View};
use crate::json::string::unescape;
use crate::json::tape::Kind;
use elements::Elements;
use object::Object;

pub use big::Big;
pub use text::{Bounds, Chars, Text};

pub(crate) mod big;
pub(crate) mod contain;
pub(crate) mod elements;
pub(crate) mod number;
pub(crate) mod object;
pub(crate) mod order;
pub(crate) mod print;
pub(crate) mod text;

/// One value of jq.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `false` or `true`.
    Boolean(bool),
    /// An integer that was computed.
    Integer(i64),
    /// An integer that was computed and is beyond 64 bits.
    BigInteger(Rc<Big>),
    /// Any other number that was computed.
    Float(f64),
    /// A number as it is written in the record or the program.
    Decimal(&'a str),
    /// A number as it is written in a string that was read.
    OwnedDecimal(Rc<Chars>),
    /// A string.
    String(Text<'a>),
    /// An array or an object of the record that was not changed.
    Lazy(View<'a>),
    /// An array that was made.
    Array(Rc<Elements<'a>>),
    /// An object that was made.
    Object(Rc<Object<'a>>),
}

/// The types of jq, in the order in which values of different types compare. In this order false
/// and true are separate types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// `null`
    Null,
    /// `false`
    False,
    /// `true`
    True,
    /// a number
    Number,
    /// a string
    String,
    /// an array
    Array,
    /// an object
    Object,
}

impl Type {
    /// Returns the name of the type, as jq's `type` returns it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::False | Self::True => "boolean",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

impl<'a> Value<'a> {
    /// Returns the value at a position of a record.
    pub fn of(view: View<'a>) -> Self {
        match view.kind() {
            Kind::Null => Self::Null,
            Kind::False => Self::Boolean(false),
            Kind::True => Self::Boolean(true),
            Kind::Number => Self::Decimal(view.text()),
            Kind::PlainString => match view.plain_string() {
                Some(plain) => Self::String(Text::Borrowed(plain)),
                None => Self::from(view.string().into_owned()),
            },
            Kind::EscapedString => Self::from(view.string().into_owned()),
            Kind::Array | Kind::Object => Self::Lazy(view),
        }
    }

    /// Returns the value of a checked JSON text without white space outside strings. `None` if it
    /// is an array or an object, because these need a tape.
    pub fn of_scalar(text: &'a str) -> Option<Self> {
        Some(match text.as_bytes().first()? {
            b'n' => Self::Null,
            b'f' => Self::Boolean(false),
            b't' => Self::Boolean(true),
            b'[' | b'{' => return None,
            b'"' => Self::String(Text::from(unescape(text))),
            _ => Self::Decimal(text),
        })
    }

    /// Its type.
    #[inline]
    pub fn kind(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Boolean(false) => Type::False,
            Self::Boolean(true) => Type::True,
            Self::Integer(_)
            | Self::BigInteger(_)
            | Self::Float(_)
            | Self::Decimal(_)
            | Self::OwnedDecimal(_) => Type::Number,
            Self::String(_) => Type::String,
            Self::Lazy(view) if view.kind() == Kind::Array => Type::Array,
            Self::Array(_) => Type::Array,
            Self::Lazy(_) | Self::Object(_) => Type::Object,
        }
    }

    /// Returns the name of the value's type, as jq's `type` returns it.
    pub fn type_name(&self) -> &'static str {
        self.kind().name()
    }

    /// Whether the value counts as true. Null and false do not; every other value does.
    pub fn is_truthy(&self) -> bool {
        !matches!(self, Self::Null | Self::Boolean(false))
    }

    /// Returns the characters of a string. `None` for any other value.
    #[inline]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// Returns how many bytes the value has in the text of the record. 0 if the program made the
    /// value.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Lazy(view) => view.text().len(),
            Self::String(text) => text.len(),
            Self::Decimal(text) => text.len(),
            Self::Null
            | Self::Boolean(_)
            | Self::Integer(_)
            | Self::BigInteger(_)
            | Self::Float(_)
            | Self::OwnedDecimal(_)
            | Self::Array(_)
            | Self::Object(_) => 0,
        }
    }

    /// Makes an array of these elements.
    pub(crate) fn array(elements: Vec<Self>) -> Self {
        Self::Array(Rc::new(Elements::from(elements)))
    }

    /// Makes an array of the values of an iterator. Fails if they take too much memory.
    pub(crate) fn collect(values: impl Iterator<Item = Self>) -> Result<Self, Exhausted> {
        let mut elements = Elements::default();
        elements.extend(values)?;
        Ok(Self::Array(Rc::new(elements)))
    }

    /// Makes a number of a count.
    pub(crate) fn count(count: usize) -> Self {
        i64::try_from(count).map_or(Self::Float(f64::INFINITY), Self::Integer)
    }

    /// Returns the elements of an array, or the values of an object's members. Any other value has
    /// no children.
    pub fn children(&self) -> Children<'_, 'a> {
        Children(match self {
            Self::Array(elements) => ChildrenOf::Elements(elements.iter()),
            Self::Object(object) => ChildrenOf::Members(object.entries()),
            Self::Lazy(view) if view.kind() == Kind::Array => ChildrenOf::Views(view.elements()),
            Self::Lazy(view) => ChildrenOf::Unique(view.unique_members().into_iter()),
            Self::Null
            | Self::Boolean(_)
            | Self::Integer(_)
            | Self::BigInteger(_)
            | Self::Float(_)
            | Self::Decimal(_)
            | Self::OwnedDecimal(_)
            | Self::String(_) => ChildrenOf::Elements([].iter()),
        })
    }

    /// Returns the members of an object in their order, each key once. Any other value has no
    /// members.
    pub fn members(&self) -> Vec<(Text<'a>, Self)> {
        match self {
            Self::Object(object) => object
                .entries()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            Self::Lazy(view) => view
                .unique_members()
                .into_iter()
                .map(|(key, value)| (Text::from(key), Self::of(value)))
                .collect(),
            Self::Null
            | Self::Boolean(_)
            | Self::Integer(_)
            | Self::BigInteger(_)
            | Self::Float(_)
            | Self::Decimal(_)
            | Self::OwnedDecimal(_)
            | Self::String(_)
            | Self::Array(_) => Vec::new(),
        }
    }

    /// Returns the number of elements or members.
    pub(crate) fn child_count(&self) -> usize {
        match self {
            Self::Array(elements) => elements.len(),
            Self::Object(object) => object.len(),
            Self::Lazy(view) => view.child_count(),
            Self::Null
            | Self::Boolean(_)
            | Self::Integer(_)
            | Self::BigInteger(_)
            | Self::Float(_)
            | Self::Decimal(_)
            | Self::OwnedDecimal(_)
            | Self::String(_) => 0,
        }
    }

    /// Returns the elements of an array so that they can be changed. `None` for any other value.
    pub(crate) fn elements_mut(&mut self) -> Option<&mut Elements<'a>> {
        if let Self::Lazy(view) = self
            && view.kind() == Kind::Array
        {
            *self = Self::array(view.elements().map(Self::of).collect());
        }
        if let Self::Array(elements) = self {
            Some(Rc::make_mut(elements))
        } else {
            None
        }
    }

    /// Returns the elements of an array. Empty for any other value.
    pub(crate) fn into_elements(mut self) -> Vec<Self> {
        self.elements_mut().map(Elements::take).unwrap_or_default()
    }

    /// Returns the members of an object so that they can be changed. `None` for any other value.
    pub(crate) fn object_mut(&mut self) -> Option<&mut Object<'a>> {
        if let Self::Lazy(view) = self
            && view.kind() == Kind::Object
        {
            *self = Self::Object(Rc::new(Object::of(*view)));
        }
        if let Self::Object(object) = self {
            Some(Rc::make_mut(object))
        } else {
            None
        }
    }

    /// Returns the member called `name` of an object.
    pub(crate) fn member(&self, name: &str) -> Option<Self> {
        match self {
            Self::Object(object) => object.get(name).cloned(),
            Self::Lazy(view) => view.member(name).map(Self::of),
            Self::Null
            | Self::Boolean(_)
            | Self::Integer(_)
            | Self::BigInteger(_)
            | Self::Float(_)
            | Self::Decimal(_)
            | Self::OwnedDecimal(_)
            | Self::String(_)
            | Self::Array(_) => None,
        }
    }

    /// Returns the element at `position` of an array.
    pub(crate) fn element(&self, position: usize) -> Option<Self> {
        match self {
            Self::Array(elements) => elements.get(position).cloned(),
            Self::Lazy(view) => view.element(position).map(Self::of),
            Self::Null
            | Self::Boolean(_)
            | Self::Integer(_)
            | Self::BigInteger(_)
            | Self::Float(_)
            | Self::Decimal(_)
            | Self::OwnedDecimal(_)
            | Self::String(_)
            | Self::Object(_) => None,
        }
    }

    /// Whether both are the same value in memory, and not only equal. jq compares values in this
    /// way when it follows paths.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Boolean(left), Self::Boolean(right)) => left == right,
            (Self::Integer(left), Self::Integer(right)) => left == right,
            (Self::Float(left), Self::Float(right)) => left.to_bits() == right.to_bits(),
            (Self::BigInteger(left), Self::BigInteger(right)) => Rc::ptr_eq(left, right),
            (Self::Decimal(left), Self::Decimal(right)) => std::ptr::eq(*left, *right),
            (Self::OwnedDecimal(left), Self::OwnedDecimal(right)) => Rc::ptr_eq(left, right),
            (Self::String(left), Self::String(right)) => left.is(right),
            (Self::Lazy(left), Self::Lazy(right)) => left.is(*right),
            (Self::Array(left), Self::Array(right)) => Rc::ptr_eq(left, right),
            (Self::Object(left), Self::Object(right)) => Rc::ptr_eq(left, right),
            _ => false,
        }
    }
}

/// See [`Value::children`].
pub struct Children<'v, 'a>(ChildrenOf<'v, 'a>);

enum ChildrenOf<'v, 'a> {
    Elements(std::slice::Iter<'v, Value<'a>>),
    Members(std::slice::Iter<'v, (Text<'a>, Value<'a>)>),
    Views(ElementViews<'a>),
    Unique(std::vec::IntoIter<(std::borrow::Cow<'a, str>, View<'a>)>),
}

impl<'a> Iterator for Children<'_, 'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        match &mut self.0 {
            ChildrenOf::Elements(elements) => elements.next().cloned(),
            ChildrenOf::Members(members) => members.next().map(|(_, value)| value.clone()),
            ChildrenOf::Views(views) => views.next().map(Value::of),
            ChildrenOf::Unique(members) => members.next().map(|(_, view)| Value::of(view)),
        }
    }
}

impl From<String> for Value<'_> {
    fn from(string: String) -> Self {
        Self::String(Text::from(string))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(string: &'a str) -> Self {
        Self::String(Text::Borrowed(string))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_small() {
        assert_eq!(size_of::<Text<'_>>(), 24);
        assert_eq!(size_of::<Value<'_>>(), 24);
    }
}
