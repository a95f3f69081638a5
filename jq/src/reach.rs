//! Finds which members of its input a program can look at. From this, the caller knows how much of
//! a large input may become values. In case of doubt, the result is all members.
//!
//! If the whole input can be a value that the program shows, compares, binds or passes on, the
//! program may look at all members. So this module only considers terms whose input is the input of
//! the program. If the left side of a pipe gives something else, the right side cannot reach the
//! program's input, because that input is never bound to a variable.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a term that is not known to be harmless needs the whole input"
)]

use std::collections::BTreeSet;

use crate::ast::{Expression, Kind, Operator, Part, Pattern};
use crate::stack;

/// The members that a program can look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The program is a path such as `.a.b`. The list has its names from the outside in, and is
    /// empty for `.`. The only output of the program is the value at that path.
    Path(Vec<String>),
    /// The members of an object with these names.
    Members(BTreeSet<String>),
    /// All members.
    Whole,
}

/// How the outputs of a term relate to the input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    /// An output may be the whole input itself.
    Input,
    /// No output is the input or contains the input.
    Parts,
}

/// The kind of every result of a program, if the text alone shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Makes {
    /// A changed copy of a value, because the outermost operator is `=`, `|=` or a similar one.
    Change,
    /// An object that the program builds.
    Object,
    /// An array that the program builds.
    Array,
    /// The kind is not known.
    Anything,
}

/// Returns the kind of value that the last term of `program` makes.
pub(crate) fn makes(program: &Expression) -> Makes {
    let mut last = program;
    loop {
        last = match &last.kind {
            Kind::Pipe(_, right) => right,
            Kind::Bind { body, .. } | Kind::Define(_, body) => body,
            Kind::Assign(..)
            | Kind::Update(..)
            | Kind::UpdateWith(..)
            | Kind::UpdateAlternative(..) => return Makes::Change,
            Kind::Object(_) => return Makes::Object,
            Kind::Array(_) => return Makes::Array,
            _ => return Makes::Anything,
        };
    }
}

/// Returns the members that `program` can look at.
pub(crate) fn of(program: &Expression) -> Reach {
    if let Some(names) = path(program) {
        return Reach::Path(names);
    }
    let mut reader = Reader {
        names: BTreeSet::new(),
    };
    match reader.parts(program) {
        Some(Gives::Parts) => Reach::Members(reader.names),
        Some(Gives::Input) | None => Reach::Whole,
    }
}

/// Returns the names of a plain path such as `.a.b`. `None` if `program` is something else.
fn path(program: &Expression) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut at = program;
    loop {
        match &at.kind {
            Kind::Identity => {
                names.reverse();
                return Some(names);
            }
            Kind::Index {
                base,
                key,
                optional: false,
            } => {
                names.push(constant(key)?.to_owned());
                at = base;
            }
            _ => return None,
        }
    }
}

/// Whether `program` may make arrays and objects that take as much memory as those that it looks
/// at. If not, the program looks at values one at a time, and puts them unchanged into new values.
pub(crate) fn makes_copies(program: &Expression) -> bool {
    !is_lazy(program, false)
}

/// Whether a term makes no copies. `is_collected` says whether its outputs are kept together.
fn is_lazy(term: &Expression, is_collected: bool) -> bool {
    let lazy = |term: &Expression| is_lazy(term, is_collected);
    if !stack::has_room() {
        return false;
    }
    match &term.kind {
        Kind::Identity
        | Kind::Null
        | Kind::Boolean(_)
        | Kind::Number(_)
        | Kind::Variable(_)
        | Kind::Location(_)
        | Kind::Array(None) => true,
        Kind::String { parts, .. } => parts.iter().all(|part| matches!(part, Part::Text(_))),
        Kind::Array(Some(inner)) => is_lazy(inner, true),
        Kind::Each { base, .. } => !is_collected && lazy(base),
        Kind::Object(members) => members.iter().all(|(key, value)| lazy(key) && lazy(value)),
        // If a key is an array or object, the result is a new array.
        Kind::Index { base, key, .. } => lazy(base) && is_literal(key),
        // An operator makes copies only if both sides are arrays or objects. A literal is neither,
        // so it is enough that one side is a literal.
        Kind::Binary(operator, left, right) => {
            (is_comparison(*operator) || is_literal(left) || is_literal(right))
                && lazy(left)
                && lazy(right)
        }
        Kind::And(left, right)
        | Kind::Or(left, right)
        | Kind::Comma(left, right)
        | Kind::Alternative(left, right)
        | Kind::Pipe(left, right) => lazy(left) && lazy(right),
        Kind::Try { body, handler } => lazy(body) && handler.as_deref().is_none_or(lazy),
        Kind::If {
            condition,
            then,
            otherwise,
        } => lazy(condition) && lazy(then) && otherwise.as_deref().is_none_or(lazy),
        Kind::Bind {
            source,
            patterns,
            body,
        } => matches!(patterns.as_slice(), [Pattern::Variable(_)]) && lazy(source) && lazy(body),
        Kind::Call { name, arguments } => match (name.as_str(), arguments.as_slice()) {
            ("select", [condition]) => lazy(condition),
            ("empty" | "length" | "not" | "type", []) => true,
            _ => false,
        },
        _ => false,
    }
}

fn is_comparison(operator: Operator) -> bool {
    match operator {
        Operator::Equal
        | Operator::Unequal
        | Operator::Less
        | Operator::LessOrEqual
        | Operator::Greater
        | Operator::GreaterOrEqual => true,
        Operator::Add
        | Operator::Subtract
        | Operator::Multiply
        | Operator::Divide
        | Operator::Remainder => false,
    }
}

/// Whether a term is a number, or a string without interpolation.
fn is_literal(term: &Expression) -> bool {
    match &term.kind {
        Kind::Number(_) => true,
        Kind::Negate(inner) => matches!(inner.kind, Kind::Number(_)),
        _ => constant(term).is_some(),
    }
}

struct Reader {
    names: BTreeSet<String>,
}

impl Reader {
    /// Returns how the outputs of `term` relate to the input. `None` if `term` may need all of the
    /// input.
    fn visit(&mut self, term: &Expression) -> Option<Gives> {
        if !stack::has_room() {
            return None;
        }
        match &term.kind {
            Kind::Identity => Some(Gives::Input),
            Kind::Null
            | Kind::Boolean(_)
            | Kind::Number(_)
            | Kind::Variable(_)
            | Kind::Location(_)
            | Kind::Array(None) => Some(Gives::Parts),
            Kind::String { parts, .. } => self.string(parts),
            Kind::Array(Some(inner)) | Kind::Negate(inner) => self.parts(inner),
            Kind::Object(members) => {
                for (key, value) in members {
                    self.parts(key)?;
                    self.parts(value)?;
                }
                Some(Gives::Parts)
            }
            Kind::Binary(_, left, right) | Kind::And(left, right) | Kind::Or(left, right) => {
                self.parts(left)?;
                self.parts(right)
            }
            Kind::Comma(left, right) | Kind::Alternative(left, right) => {
                Some(either(self.visit(left)?, self.visit(right)?))
            }
            Kind::Pipe(left, right) => match self.visit(left)? {
                Gives::Input => self.visit(right),
                Gives::Parts => Some(Gives::Parts),
            },
            Kind::Bind {
                source,
                patterns,
                body,
            } => {
                let [Pattern::Variable(_)] = patterns.as_slice() else {
                    return None;
                };
                self.parts(source)?;
                self.visit(body)
            }
            // The input of the handler is the error, not the input of the term.
            Kind::Try { body, .. } => self.visit(body),
            Kind::If {
                condition,
                then,
                otherwise,
            } => {
                self.parts(condition)?;
                let then = self.visit(then)?;
                // Without `else`, the input itself is the output.
                let otherwise = match otherwise {
                    Some(otherwise) => self.visit(otherwise)?,
                    None => Gives::Input,
                };
                Some(either(then, otherwise))
            }
            Kind::Call { name, arguments } => match (name.as_str(), arguments.as_slice()) {
                ("select", [condition]) => {
                    self.parts(condition)?;
                    Some(Gives::Input)
                }
                ("empty", []) => Some(Gives::Parts),
                _ => None,
            },
            Kind::Index { base, key, .. } => self.index(base, key),
            Kind::Slice { base, from, to, .. } => {
                self.parts(base)?;
                for bound in [from, to].into_iter().flatten() {
                    self.parts(bound)?;
                }
                Some(Gives::Parts)
            }
            Kind::Each { base, .. } => self.parts(base),
            _ => None,
        }
    }

    /// Like [`Reader::visit`], for a term that must not give the input itself.
    fn parts(&mut self, term: &Expression) -> Option<Gives> {
        self.visit(term).filter(|gives| *gives == Gives::Parts)
    }

    fn string(&mut self, parts: &[Part]) -> Option<Gives> {
        for part in parts {
            if let Part::Code(code) = part {
                self.parts(code)?;
            }
        }
        Some(Gives::Parts)
    }

    fn index(&mut self, base: &Expression, key: &Expression) -> Option<Gives> {
        match self.visit(base)? {
            Gives::Input => {
                self.names.insert(constant(key)?.to_owned());
                Some(Gives::Parts)
            }
            // The key has the same input as the whole term.
            Gives::Parts => self.parts(key),
        }
    }
}

fn either(left: Gives, right: Gives) -> Gives {
    if left == Gives::Input { left } else { right }
}

/// Returns the value of `term` if it is a string without interpolation.
fn constant(term: &Expression) -> Option<&str> {
    match &term.kind {
        Kind::String { parts, .. } => match parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        },
        _ => None,
    }
}
