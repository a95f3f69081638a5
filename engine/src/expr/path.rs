//! The short way for the expressions that pipelines use most, plain paths such as `.` and `.user.name`: looked up on the
//! record's tape, with nothing converted. Whatever would be an error is left to jaq, so that its words are the same.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::Term;
use jaq_core::path::{Opt, Part};

use crate::record::{Kind, View};

/// The names of a plain path from the outside in; none for `.`.
pub(super) struct PlainPath(Vec<String>);

/// What a path leads to.
pub(super) enum Found<'record> {
    Value(View<'record>),
    /// A member that is not there, or any member of null: null.
    Null,
    /// An index into what has no members: jaq says it.
    Error,
}

impl PlainPath {
    /// The path that `source` is; `None` when it is anything else.
    pub(super) fn of(source: &str) -> Option<Self> {
        let term = jaq_core::load::parse(source, |parser| parser.term())?;
        if let Term::Id = term {
            return Some(Self(Vec::new()));
        }
        if let Term::Path(root, path) = term
            && let Term::Id = *root
        {
            return path
                .0
                .into_iter()
                .map(|(part, optional)| name(part, optional))
                .collect::<Option<_>>()
                .map(Self);
        }
        None
    }

    pub(super) fn is_identity(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn find<'record>(&self, root: View<'record>) -> Found<'record> {
        let mut value = root;
        for name in &self.0 {
            match value.kind() {
                Kind::Null => return Found::Null,
                Kind::Object => match value.member(name) {
                    Some(member) => value = member,
                    None => return Found::Null,
                },
                Kind::False
                | Kind::True
                | Kind::Number
                | Kind::PlainString
                | Kind::EscapedString
                | Kind::Array => {
                    return Found::Error;
                }
            }
        }
        Found::Value(value)
    }
}

fn name(part: Part<Term<&str>>, optional: Opt) -> Option<String> {
    match (part, optional) {
        (Part::Index(Term::Str(None, parts)), Opt::Essential) => match parts.as_slice() {
            [StrPart::Str(name)] => Some((*name).to_owned()),
            _ => None,
        },
        _ => None,
    }
}
