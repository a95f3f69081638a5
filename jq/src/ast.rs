//! The syntax tree of a program. Each part has the offset of its text. This module contains only
//! data types.

/// A part of a program.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    /// The offset of the part's first byte in the text.
    pub(crate) at: usize,
    pub(crate) kind: Kind,
}

/// The form of a part of a program.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Identity,
    /// `..`
    Recurse,
    Null,
    Boolean(bool),
    /// The text of a number, valid JSON.
    Number(String),
    /// `"…"`, with or without a format before it.
    String {
        format: Option<String>,
        parts: Vec<Part>,
    },
    /// `@csv`
    Format(String),
    /// `base[key]`, `base.key`
    Index {
        base: Box<Expression>,
        key: Box<Expression>,
        optional: bool,
    },
    /// `base[from:to]`
    Slice {
        base: Box<Expression>,
        from: Option<Box<Expression>>,
        to: Option<Box<Expression>>,
        optional: bool,
    },
    /// `base[]`
    Each {
        base: Box<Expression>,
        optional: bool,
    },
    /// `try body catch handler`; without a handler also `body?`
    Try {
        body: Box<Expression>,
        handler: Option<Box<Expression>>,
    },
    Negate(Box<Expression>),
    /// `[…]`
    Array(Option<Box<Expression>>),
    /// `{…}`
    Object(Vec<(Expression, Expression)>),
    Pipe(Box<Expression>, Box<Expression>),
    Comma(Box<Expression>, Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    /// `a // b`
    Alternative(Box<Expression>, Box<Expression>),
    /// `a = b`
    Assign(Box<Expression>, Box<Expression>),
    /// `a |= b`
    Update(Box<Expression>, Box<Expression>),
    /// `a += b`
    UpdateWith(Operator, Box<Expression>, Box<Expression>),
    /// `a //= b`
    UpdateAlternative(Box<Expression>, Box<Expression>),
    If {
        condition: Box<Expression>,
        then: Box<Expression>,
        otherwise: Option<Box<Expression>>,
    },
    Reduce {
        source: Box<Expression>,
        patterns: Vec<Pattern>,
        start: Box<Expression>,
        update: Box<Expression>,
    },
    Foreach {
        source: Box<Expression>,
        patterns: Vec<Pattern>,
        start: Box<Expression>,
        update: Box<Expression>,
        extract: Option<Box<Expression>>,
    },
    /// `source as patterns | body`
    Bind {
        source: Box<Expression>,
        patterns: Vec<Pattern>,
        body: Box<Expression>,
    },
    Label(String, Box<Expression>),
    Break(String),
    Variable(String),
    /// `$__loc__`, with the line.
    Location(usize),
    Call {
        name: String,
        arguments: Vec<Expression>,
    },
    Define(Box<Definition>, Box<Expression>),
}

/// A part of a string.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Text(String),
    Code(Expression),
}

/// An operator that computes with two values or compares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A pattern that binds parts of a value to variables.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    Variable(String),
    Array(Vec<Pattern>),
    Object(Vec<MemberPattern>),
}

/// A member of an object's pattern: `$name`, `$name: pattern`, `key: pattern`.
#[derive(Clone, Debug)]
pub(crate) struct MemberPattern {
    pub(crate) variable: Option<String>,
    pub(crate) key: Expression,
    pub(crate) pattern: Option<Pattern>,
}

/// `def name(parameters): body;`
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Expression,
}

/// A parameter: a filter `name`, or a value `$name`. The body may call a value `$name` as a filter
/// `name` too.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) is_value: bool,
    /// Whether the body may call the parameter as a filter.
    pub(crate) is_called: bool,
}
