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
    /// This environment with one more link, the innermost one.
    pub(crate) fn with(&self, bound: Bound<'v>) -> Self {
        Self(Some(Rc::new(Link {
            outer: self.clone(),
            bound,
            held: Held::new(size_of::<Link<'_>>()),
        })))
    }

    /// The environment with another value in place of the innermost link, which is `used`. The link
    /// is reused if nothing else holds it.
    pub(crate) fn with_value(&self, used: Option<Self>, value: Value<'v>) -> Self {
        if let Some(Self(Some(mut link))) = used
            && let Some(free) = Rc::get_mut(&mut link)
        {
            free.bound = Bound::Value(value);
            return Self(Some(link));
        }
        self.with(Bound::Value(value))
    }

    /// Without the `up` innermost links.
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

    /// The binding of the link after the `up` innermost ones.
    pub(crate) fn bound(&self, up: usize) -> Option<&Bound<'v>> {
        self.up(up).0.as_ref().map(|link| &link.bound)
    }

    /// The value of a variable.
    pub(crate) fn value(&self, up: usize) -> Value<'v> {
        match self.bound(up) {
            Some(Bound::Value(value)) => value.clone(),
            // The compiler has computed the number of links.
            Some(Bound::Filter(..) | Bound::Label(_)) | None => Value::Null,
        }
    }
}

/// Freed without recursion: a list may be long, and filters have lists of their own.
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
    /// Removes the outer list, and the list of a filter if nothing else holds it.
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
