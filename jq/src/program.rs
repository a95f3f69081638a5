//! The compiled form of a program, which the evaluator runs. Its names are resolved and its
//! constants are values. This module contains only data types.

use crate::ast::Operator;
use crate::builtins::format::Format;
use crate::builtins::{Native, Special};
use crate::json::source::Source;
use crate::value::Value;

/// The offset of parts that the compiler added.
pub(crate) const NOWHERE: usize = usize::MAX;

/// A part of a compiled program.
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// The offset of its text, or [`NOWHERE`].
    pub(crate) at: usize,
    /// For a filter that is native here: the function that jq runs instead. Both give the same
    /// values. But if paths are followed, the outputs of the function have other paths than those
    /// of `kind`, or the function fails.
    pub(crate) followed: Option<usize>,
    /// Whether the part gives exactly one value, or fails.
    pub(crate) is_single: bool,
    pub(crate) ending: Ending,
    /// Whether the part may end in a call of a definition that contains the part.
    pub(crate) ends_in_recursion: bool,
}

/// Whether a part ends.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Whether the part may continue after it is stopped. This happens if it contains a pattern
    /// with alternatives, which may catch the stop.
    pub(crate) is_caught: bool,
    /// Whether the part may never end: it may have endless outputs, or search for outputs
    /// endlessly.
    pub(crate) is_unknown: bool,
}

/// A definition. Its call adds a link to the environment for each parameter that the body uses as a
/// filter, and then one for each parameter that is a value.
pub(crate) struct Function {
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Node,
}

/// How a definition uses a parameter.
#[derive(Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) is_filter: bool,
    pub(crate) is_value: bool,
}

/// The form of a part. `up` counts links of the environment from the innermost one.
pub(crate) enum Kind {
    Identity,
    Constant(Constant),
    /// A variable of the program.
    Variable(usize),
    /// A variable that the caller gave.
    Global(usize),
    /// `base.name`. Without a base, the field of the input.
    Field {
        base: Option<Box<Node>>,
        name: String,
        optional: bool,
    },
    Index {
        base: Box<Node>,
        key: Box<Node>,
        optional: bool,
    },
    Slice {
        base: Box<Node>,
        from: Option<Box<Node>>,
        to: Option<Box<Node>>,
        optional: bool,
    },
    Each {
        base: Option<Box<Node>>,
        optional: bool,
    },
    Pipe(Box<Node>, Box<Node>),
    Comma(Box<Node>, Box<Node>),
    Alternative(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    If {
        condition: Box<Node>,
        then: Box<Node>,
        otherwise: Option<Box<Node>>,
    },
    Try {
        body: Box<Node>,
        handler: Option<Box<Node>>,
    },
    Reduce {
        source: Box<Node>,
        patterns: Patterns,
        start: Box<Node>,
        update: Box<Node>,
    },
    Foreach {
        source: Box<Node>,
        patterns: Patterns,
        start: Box<Node>,
        update: Box<Node>,
        extract: Option<Box<Node>>,
    },
    Bind {
        source: Box<Node>,
        patterns: Patterns,
        body: Box<Node>,
    },
    Label(Box<Node>),
    Break(usize),
    /// A call of a definition. `up` links are between the call and the definition.
    Call {
        function: usize,
        up: usize,
        arguments: Vec<Node>,
        /// Whether the call is inside the definition that it calls.
        is_recursive: bool,
    },
    /// A filter that is a parameter.
    Parameter(usize),
    Array(Option<Box<Node>>),
    Object(Vec<(Node, Node)>),
    Binary(Operator, Box<Node>, Box<Node>),
    Negate(Box<Node>),
    Text(Format, Vec<Part>),
    Assign(Box<Node>, Box<Node>),
    Update(Box<Node>, Box<Node>),
    UpdateWith(Operator, Box<Node>, Box<Node>),
    UpdateAlternative(Box<Node>, Box<Node>),
    Special(Special, Vec<Node>),
    Native(Native, Vec<Node>),
}

/// A part of a string.
pub(crate) enum Part {
    Text(String),
    Code(Node),
}

/// Patterns to be tried one after the other.
pub(crate) enum Patterns {
    /// One pattern. Each of its variables is a link, in the order in which they are bound.
    One(Pattern),
    /// Several patterns. The body has a link for each variable of all patterns, sorted by name. The
    /// list of each pattern has one entry for each of these variables: the position of the
    /// pattern's own link that holds the variable, counted from the innermost link.
    Several {
        variables: usize,
        alternatives: Vec<(Pattern, Vec<Option<usize>>)>,
    },
}

pub(crate) enum Pattern {
    Variable,
    Array(Vec<Pattern>),
    Object(Vec<MemberPattern>),
}

pub(crate) struct MemberPattern {
    pub(crate) key: Node,
    /// Whether the member is also bound to a variable.
    pub(crate) is_bound: bool,
    pub(crate) pattern: Option<Pattern>,
}

/// A value that is known before the program runs.
pub(crate) enum Constant {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Number(String),
    String(String),
    Json(Box<Source<'static>>),
}

impl Constant {
    pub(crate) fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(boolean) => Value::Boolean(*boolean),
            Self::Integer(integer) => Value::Integer(*integer),
            Self::Float(float) => Value::Float(*float),
            Self::Number(text) => Value::Decimal(text),
            Self::String(string) => Value::from(string.as_str()),
            Self::Json(source) => Value::of(source.root()),
        }
    }
}
