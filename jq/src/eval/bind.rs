//! Binding values to variables: patterns, alternatives of patterns, `reduce` and `foreach`.

use super::environment::{Bound, Environment, Link};
use super::flow::{Flow, Stop};
use super::item::Item;
use super::{Machine, access};
use crate::program::{MemberPattern, Node, Pattern, Patterns};
use crate::value::Value;

/// What runs with variables bound.
type Body<'b, 'v> = &'b mut dyn FnMut(Environment<'_, 'v>) -> Flow<'v>;

impl<'v> Machine<'_, 'v> {
    /// Runs `body` for every way in which the patterns take a value apart.
    pub(super) fn bind(
        &self,
        patterns: &'v Patterns,
        env: Environment<'_, 'v>,
        value: &Value<'v>,
        body: Body<'_, 'v>,
    ) -> Flow<'v> {
        match patterns {
            Patterns::One(pattern) => self.pattern(pattern, env, value, body),
            Patterns::Several {
                variables,
                alternatives,
            } => {
                for (index, (pattern, own)) in alternatives.iter().enumerate() {
                    let flow = self.pattern(pattern, env, value, &mut |inner| {
                        let values: Vec<Value<'v>> = own
                            .iter()
                            .map(|up| up.map_or(Value::Null, |up| inner.value(up)))
                            .collect();
                        debug_assert_eq!(values.len(), *variables);
                        with_values(&values, env, body)
                    });
                    let is_last = index + 1 == alternatives.len();
                    match flow {
                        Err(stop)
                            if !is_last && matches!(*stop, Stop::Error(_) | Stop::Break(_)) => {}
                        flow => return flow,
                    }
                }
                Ok(())
            }
        }
    }

    fn pattern(
        &self,
        pattern: &'v Pattern,
        env: Environment<'_, 'v>,
        value: &Value<'v>,
        body: Body<'_, 'v>,
    ) -> Flow<'v> {
        match pattern {
            Pattern::Variable => {
                let link = Link::new(env, Bound::Value(value.clone()));
                body(Environment::with(&link))
            }
            Pattern::Array(elements) => self.elements(elements, env, value, body),
            Pattern::Object(members) => self.members(members, env, value, body),
        }
    }

    /// From the last one to the first, as jq does it.
    fn elements(
        &self,
        elements: &'v [Pattern],
        env: Environment<'_, 'v>,
        value: &Value<'v>,
        body: Body<'_, 'v>,
    ) -> Flow<'v> {
        let Some((last, before)) = elements.split_last() else {
            return body(env);
        };
        let element = access::index(value, &Value::count(before.len()))?;
        self.pattern(last, env, &element, &mut |env| {
            self.elements(before, env, value, body)
        })
    }

    fn members(
        &self,
        members: &'v [MemberPattern],
        env: Environment<'_, 'v>,
        value: &Value<'v>,
        body: Body<'_, 'v>,
    ) -> Flow<'v> {
        let Some((first, rest)) = members.split_first() else {
            return body(env);
        };
        self.values(&first.key, env, value, &mut |key| {
            let member = access::index(value, &key)?;
            let mut inner = |env: Environment<'_, 'v>| match &first.pattern {
                Some(pattern) => self.pattern(pattern, env, &member, &mut |env| {
                    self.members(rest, env, value, body)
                }),
                None => self.members(rest, env, value, body),
            };
            if first.is_bound {
                let link = Link::new(env, Bound::Value(member.clone()));
                inner(Environment::with(&link))
            } else {
                inner(env)
            }
        })
    }

    /// `reduce`: an update without an output leaves null, of several the last one counts.
    pub(super) fn reduce<M: Item<'v>>(
        &self,
        source: &'v Node,
        patterns: &'v Patterns,
        (start, update): (&'v Node, &'v Node),
        env: Environment<'_, 'v>,
        item: M,
        out: &mut dyn FnMut(M) -> Flow<'v>,
    ) -> Flow<'v> {
        self.run(start, env, item.clone(), &mut |start: M| {
            let mut state = Some(start.value().clone());
            let from = start.replaced(item.value().clone());
            let after = from.clone();
            self.run(source, env, from, &mut |element: M| {
                let value = element.value().clone();
                self.bind(patterns, env, &value, &mut |env| {
                    let current = state.take().unwrap_or(Value::Null);
                    if !M::HAS_PATHS && update.is_single {
                        state = Some(self.one_owned(update, env, current)?);
                        return Ok(());
                    }
                    self.run(
                        update,
                        env,
                        element.clone().replaced(current),
                        &mut |new: M| {
                            state = Some(new.into_value());
                            Ok(())
                        },
                    )
                })
            })?;
            out(after.replaced(state.take().unwrap_or(Value::Null)))
        })
    }

    /// `foreach`: as `reduce`, with what each update gives as outputs.
    pub(super) fn foreach<M: Item<'v>>(
        &self,
        source: &'v Node,
        patterns: &'v Patterns,
        (start, update, extract): (&'v Node, &'v Node, Option<&'v Node>),
        env: Environment<'_, 'v>,
        item: M,
        out: &mut dyn FnMut(M) -> Flow<'v>,
    ) -> Flow<'v> {
        self.run(start, env, item.clone(), &mut |start: M| {
            let mut state = Some(start.value().clone());
            let from = start.replaced(item.value().clone());
            self.run(source, env, from, &mut |element: M| {
                let value = element.value().clone();
                self.bind(patterns, env, &value, &mut |env| {
                    let current = state.take().unwrap_or(Value::Null);
                    self.run(
                        update,
                        env,
                        element.clone().replaced(current),
                        &mut |new: M| {
                            state = Some(new.value().clone());
                            match extract {
                                Some(extract) => self.run(extract, env, new, out),
                                None => out(new),
                            }
                        },
                    )
                })
            })
        })
    }
}

/// Runs `body` with a link for each value.
fn with_values<'v>(values: &[Value<'v>], env: Environment<'_, 'v>, body: Body<'_, 'v>) -> Flow<'v> {
    let Some((first, rest)) = values.split_first() else {
        return body(env);
    };
    let link = Link::new(env, Bound::Value(first.clone()));
    with_values(rest, Environment::with(&link), body)
}
