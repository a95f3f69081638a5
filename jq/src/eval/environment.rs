//! The bindings of a program's names while it runs: a list of links, from the innermost outwards.
//! The compiler has computed the distance of each name. Lists share their outer links.

use std::rc::Rc;

use crate::meter::Held;
use crate::program::Node;
use crate::value::Value;

/// The innermost link; none if nothing is bound.
#[derive(Clone, Default)]
pub(crate) struct Environment<'v>(Option<Rc<Link<'v>>>);

struct Link<'v> {
    outer: Environment<'v>,
    bound: Bound<'v>,
    #[expect(dead_code, reason = "it counts as long as it exists")]
    held: Held,
}

/// One binding.
pub(crate) enum Bound<'v> {
    Value(Value<'v>),
    /// A filter with the environment that it was written in.
    Filter(&'v Node, Environment<'v>),
    /// A label by its number.
    Label(u64),
}

impl<'v> Environment<'v> {
    /// Returns this environment with one more link, which is the innermost one.
    pub(crate) fn with(&self, bound: Bound<'v>) -> Self {
        Self(Some(Rc::new(Link {
            outer: self.clone(),
            bound,
            held: Held::new(size_of::<Link<'_>>()),
        })))
    }

    /// Returns this environment with one more link that holds `value`. `used` is an environment
    /// from an earlier call, whose innermost link is reused if nothing else holds it.
    pub(crate) fn with_value(&self, used: Option<Self>, value: Value<'v>) -> Self {
        if let Some(Self(Some(mut link))) = used
            && let Some(free) = Rc::get_mut(&mut link)
        {
            free.bound = Bound::Value(value);
            return Self(Some(link));
        }
        self.with(Bound::Value(value))
    }

    /// Returns this environment without the `up` innermost links.
    pub(crate) fn up(&self, up: usize) -> &Self {
        let mut environment = self;
        for _ in 0..up {
            match &environment.0 {
                Some(link) => environment = &link.outer,
                // The compiler has computed the number of links.
                None => break,
            }
        }
        environment
    }

    /// Returns the binding of the link that follows the `up` innermost links.
    pub(crate) fn bound(&self, up: usize) -> Option<&Bound<'v>> {
        self.up(up).0.as_ref().map(|link| &link.bound)
    }

    /// Returns the value of the variable at the link that follows the `up` innermost links.
    pub(crate) fn value(&self, up: usize) -> Value<'v> {
        match self.bound(up) {
            Some(Bound::Value(value)) => value.clone(),
            // The compiler has computed the number of links.
            Some(Bound::Filter(..) | Bound::Label(_)) | None => Value::Null,
        }
    }
}

/// Frees the links without recursion, because a list may be long, and filters hold other lists.
impl Drop for Link<'_> {
    fn drop(&mut self) {
        let mut waiting = Vec::new();
        let mut next = self.take_lists(&mut waiting);
        loop {
            next = match next.0.and_then(Rc::into_inner) {
                Some(mut link) => link.take_lists(&mut waiting),
                None => match waiting.pop() {
                    Some(list) => list,
                    None => return,
                },
            };
        }
    }
}

impl<'v> Link<'v> {
    /// Removes and returns the list of the outer links. If this link is a filter, moves the
    /// filter's list to `waiting`.
    fn take_lists(&mut self, waiting: &mut Vec<Environment<'v>>) -> Environment<'v> {
        if let Bound::Filter(_, list) = &mut self.bound
            && list
                .0
                .as_ref()
                .is_some_and(|link| Rc::strong_count(link) == 1)
        {
            waiting.push(std::mem::take(list));
        }
        std::mem::take(&mut self.outer)
    }
}
