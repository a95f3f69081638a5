//! Which members of a record an expression can look at, so that no others need be converted for jaq. When in doubt: all.
//!
//! The whole record must never be a value that the expression can show, compare, bind or pass on: then nobody can tell
//! that members are missing. Everything here is about terms whose input is the record itself; what stands behind a pipe
//! whose left side gives something else cannot reach it any more, since a record is never bound to a variable.

use std::collections::BTreeSet;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Pattern, Term};
use jaq_core::path::Part;

/// What a term gives for the record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    /// Perhaps the record itself, whole.
    Record,
    /// Never the record, nor anything that holds it.
    Parts,
}

/// The names of the members that jq `source` can look at in an object; `None` for all of them.
pub(super) fn of(source: &str) -> Option<BTreeSet<String>> {
    let term = jaq_core::load::parse(source, |parser| parser.term())?;
    let mut fields = Fields {
        names: BTreeSet::new(),
    };
    fields.parts(&term)?;
    Some(fields.names)
}

struct Fields {
    names: BTreeSet<String>,
}

impl Fields {
    /// What `term` gives for the record; `None` when it may need all of it.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever is not known to be harmless needs the whole record"
    )]
    fn visit(&mut self, term: &Term<&str>) -> Option<Gives> {
        match term {
            Term::Id => Some(Gives::Record),
            Term::Num(_) | Term::Var(_) | Term::Arr(None) => Some(Gives::Parts),
            Term::Str(_, parts) => self.string(parts),
            Term::Arr(Some(inner)) | Term::Neg(inner) => self.parts(inner),
            Term::Obj(members) => {
                members
                    .iter()
                    .try_for_each(|(key, value)| self.member(key, value.as_ref()))?;
                Some(Gives::Parts)
            }
            Term::BinOp(left, operator, right) => self.binary(left, operator, right),
            Term::TryCatch(body, _) => self.visit(body),
            Term::IfThenElse(branches, otherwise) => {
                // Without `else` the record itself passes.
                let mut gives = otherwise
                    .as_ref()
                    .map_or(Some(Gives::Record), |otherwise| self.visit(otherwise))?;
                for (condition, then) in branches {
                    self.parts(condition)?;
                    gives = either(gives, self.visit(then)?);
                }
                Some(gives)
            }
            Term::Call("select", arguments) => {
                let [condition] = arguments.as_slice() else {
                    return None;
                };
                self.parts(condition)?;
                Some(Gives::Record)
            }
            Term::Call("empty" | "null" | "true" | "false", arguments) if arguments.is_empty() => {
                Some(Gives::Parts)
            }
            Term::Path(root, path) => self.path(root, &path.0),
            _ => None,
        }
    }

    /// As [`Fields::visit`] for a term that must not give the record itself.
    fn parts(&mut self, term: &Term<&str>) -> Option<Gives> {
        self.visit(term).filter(|gives| *gives == Gives::Parts)
    }

    fn string(&mut self, parts: &[StrPart<&str, Term<&str>>]) -> Option<Gives> {
        for part in parts {
            if let StrPart::Term(term) = part {
                self.parts(term)?;
            }
        }
        Some(Gives::Parts)
    }

    fn member(&mut self, key: &Term<&str>, value: Option<&Term<&str>>) -> Option<()> {
        match (key, value) {
            (key, Some(value)) => {
                self.parts(key)?;
                self.parts(value)?;
            }
            // `{name}` means `{name: .name}`, `{$x}` takes nothing from the record.
            (Term::Var(_), None) => {}
            (key, None) => {
                self.names.insert(constant(key)?.to_owned());
            }
        }
        Some(())
    }

    fn binary(
        &mut self,
        left: &Term<&str>,
        operator: &BinaryOp<&str>,
        right: &Term<&str>,
    ) -> Option<Gives> {
        match operator {
            BinaryOp::Pipe(None) => match self.visit(left)? {
                Gives::Record => self.visit(right),
                Gives::Parts => Some(Gives::Parts),
            },
            BinaryOp::Pipe(Some(Pattern::Var(_))) => {
                self.parts(left)?;
                self.visit(right)
            }
            BinaryOp::Comma | BinaryOp::Alt => Some(either(self.visit(left)?, self.visit(right)?)),
            BinaryOp::Or | BinaryOp::And | BinaryOp::Math(_) | BinaryOp::Cmp(_) => {
                self.parts(left)?;
                self.parts(right)
            }
            BinaryOp::Pipe(Some(Pattern::Arr(_) | Pattern::Obj(_)))
            | BinaryOp::Assign
            | BinaryOp::Update
            | BinaryOp::UpdateMath(_)
            | BinaryOp::UpdateAlt => None,
        }
    }

    fn path(
        &mut self,
        root: &Term<&str>,
        path: &[(Part<Term<&str>>, jaq_core::path::Opt)],
    ) -> Option<Gives> {
        let gives = self.visit(root)?;
        let Some(((first, _), rest)) = path.split_first() else {
            return Some(gives);
        };
        // The terms of indices have the record as input, wherever in the path they stand.
        match (gives, first) {
            (Gives::Record, Part::Index(name)) => {
                self.names.insert(constant(name)?.to_owned());
            }
            (Gives::Record, Part::Range(..)) => return None,
            (Gives::Parts, part) => self.part(part)?,
        }
        rest.iter().try_for_each(|(part, _)| self.part(part))?;
        Some(Gives::Parts)
    }

    fn part(&mut self, part: &Part<Term<&str>>) -> Option<()> {
        let terms = match part {
            Part::Index(index) => [Some(index), None],
            Part::Range(from, to) => [from.as_ref(), to.as_ref()],
        };
        terms
            .into_iter()
            .flatten()
            .try_for_each(|term| self.parts(term).map(|_| ()))
    }
}

fn either(left: Gives, right: Gives) -> Gives {
    if left == Gives::Record { left } else { right }
}

/// The string that `term` is, when it is one without anything to compute.
fn constant<'source>(term: &Term<&'source str>) -> Option<&'source str> {
    if let Term::Str(None, parts) = term
        && let [StrPart::Str(string)] = parts.as_slice()
    {
        return Some(string);
    }
    None
}
