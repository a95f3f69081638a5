//! What names of a program stand for while it runs: a list of links on the stack, from the
//! innermost outwards. The compiler counted how far away each name is.

use crate::program::Node;
use crate::value::Value;

/// The innermost link; none where nothing is bound.
#[derive(Clone, Copy)]
pub(crate) struct Environment<'e, 'v>(Option<&'e Link<'e, 'v>>);

pub(crate) struct Link<'e, 'v> {
    outer: Environment<'e, 'v>,
    bound: Bound<'e, 'v>,
}

/// What is bound.
pub(crate) enum Bound<'e, 'v> {
    Value(Value<'v>),
    /// A filter with the environment that it was written in.
    Filter(&'v Node, Environment<'e, 'v>),
    /// A label by its number.
    Label(u64),
}

impl<'e, 'v> Link<'e, 'v> {
    pub(crate) fn new(outer: Environment<'e, 'v>, bound: Bound<'e, 'v>) -> Self {
        Self { outer, bound }
    }
}

impl<'e, 'v> Environment<'e, 'v> {
    pub(crate) const EMPTY: Self = Self(None);

    /// With this link as the innermost.
    pub(crate) fn with<'n>(link: &'n Link<'n, 'v>) -> Environment<'n, 'v> {
        Environment(Some(link))
    }

    /// Without the `up` innermost links.
    pub(crate) fn up(self, up: usize) -> Self {
        let mut environment = self;
        for _ in 0..up {
            environment = environment.0.map_or(Self::EMPTY, |link| link.outer);
        }
        environment
    }

    /// What the link behind the `up` innermost ones binds.
    pub(crate) fn bound(self, up: usize) -> Option<&'e Bound<'e, 'v>> {
        self.up(up).0.map(|link| &link.bound)
    }

    /// The value of a variable.
    pub(crate) fn value(self, up: usize) -> Value<'v> {
        match self.bound(up) {
            Some(Bound::Value(value)) => value.clone(),
            // The compiler counted.
            Some(Bound::Filter(..) | Bound::Label(_)) | None => Value::Null,
        }
    }
}
