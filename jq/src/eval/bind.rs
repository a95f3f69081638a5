//! Binding values to variables: patterns, alternatives of patterns, `reduce` and `foreach`.

use super::environment::{Bound, Environment};
use super::flow::{Failure, Flow, error};
use super::item::Item;
use super::{Machine, Taker, access};
use crate::program::{MemberPattern, Node, Pattern, Patterns};
use crate::value::Value;

/// The code that runs after variables were bound.
type Body<'b, 'v> = &'b mut dyn FnMut(&Environment<'v>) -> Flow<'v>;

impl<'v> Machine<'_, 'v> {
    /// Runs `body` once for each way in which the pattern can match the value. Of several
    /// alternatives, the next one is tried only if the pattern or `body` fails with the one before.
    pub(super) fn bind(
        &self,
        patterns: &'v Patterns,
        env: &Environment<'v>,
        value: Value<'v>,
        body: Body<'_, 'v>,
    ) -> Flow<'v> {
        match patterns {
            Patterns::One(Pattern::Variable) => body(&env.with(Bound::Value(value))),
            Patterns::One(pattern) => self.pattern(pattern, env, &value, body),
            Patterns::Several {
                variables,
                alternatives,
            } => {
                for (index, (pattern, own)) in alternatives.iter().enumerate() {
                    let flow = self.pattern(pattern, env, &value, &mut |inner| {
                        let values: Vec<Value<'v>> = own
                            .iter()
                            .map(|up| up.map_or(Value::Null, |up| inner.value(up)))
                            .collect();
                        debug_assert_eq!(values.len(), *variables);
                        with_values(&values, env, body)
                    });
                    let is_last = index + 1 == alternatives.len();
                    match flow {
                        Err(stop) if !is_last && self.catches(&stop) => {}
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
        env: &Environment<'v>,
        value: &Value<'v>,
        body: Body<'_, 'v>,
    ) -> Flow<'v> {
        match pattern {
            Pattern::Variable => body(&env.with(Bound::Value(value.clone()))),
            Pattern::Array(elements) => self.elements(elements, env, value, body),
            Pattern::Object(members) => self.members(members, env, value, body),
        }
    }

    /// Binds the elements from the last one to the first one, as jq does.
    fn elements(
        &self,
        elements: &'v [Pattern],
        env: &Environment<'v>,
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
        env: &Environment<'v>,
        value: &Value<'v>,
        body: Body<'_, 'v>,
    ) -> Flow<'v> {
        let Some((first, rest)) = members.split_first() else {
            return body(env);
        };
        self.values(&first.key, env, value, &mut |key| {
            let member = access::index(value, &key)?;
            let mut inner = |env: &Environment<'v>| match &first.pattern {
                Some(pattern) => self.pattern(pattern, env, &member, &mut |env| {
                    self.members(rest, env, value, body)
                }),
                None => self.members(rest, env, value, body),
            };
            if first.is_bound {
                inner(&env.with(Bound::Value(member.clone())))
            } else {
                inner(env)
            }
        })
    }

    /// Returns the environment with the variables bound. The caller must know that the patterns
    /// match in at most one way. Fails if they do not match.
    pub(super) fn bound_once(
        &self,
        patterns: &'v Patterns,
        env: &Environment<'v>,
        value: Value<'v>,
    ) -> Result<Environment<'v>, Failure<'v>> {
        if let Patterns::One(Pattern::Variable) = patterns {
            return Ok(env.with(Bound::Value(value)));
        }
        let mut bound = None;
        self.bind(patterns, env, value, &mut |env| {
            bound = Some(env.clone());
            Ok(())
        })?;
        bound.ok_or_else(|| error("a pattern bound no variable"))
    }

    /// Like [`Machine::bind`], for a loop that binds one item after the other. `used` is the
    /// environment of the previous item: its innermost link (see `Environment`) is reused if
    /// nothing else holds it. `body` also gets an item. If items have paths, its path is that of
    /// the part that the pattern looked at last. Otherwise it is the item itself.
    fn bind_next<M: Item<'v>>(
        &self,
        patterns: &'v Patterns,
        env: &Environment<'v>,
        used: &mut Option<Environment<'v>>,
        item: M,
        body: &mut dyn FnMut(&Environment<'v>, &M) -> Flow<'v>,
    ) -> Flow<'v> {
        if patterns.take_apart() && M::HAS_PATHS {
            return self.bind_traced(patterns, env, item, &mut |env, item| body(env, &item));
        }
        let value = item.value().clone();
        if patterns.take_apart() {
            return self.bind(patterns, env, value, &mut |env| body(env, &item));
        }
        let inner = env.with_value(used.take(), value);
        body(&inner, &item)?;
        *used = Some(inner);
        Ok(())
    }

    /// `reduce`. If an update has no output, the new state is null. If it has several outputs, the
    /// last one is the new state.
    pub(super) fn reduce<M: Item<'v>>(
        &self,
        source: &'v Node,
        patterns: &'v Patterns,
        (start, update): (&'v Node, &'v Node),
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        // As in jq, the input is used up after the first start value; later start values have none.
        let mut input = Some(item.value().clone());
        self.run(start, env, item, &mut |start: M| {
            let mut state = Some(start.value().clone());
            let from = start.replaced(input.take().unwrap_or(Value::Null));
            let after = from.clone();
            let mut used = None;
            self.run(source, env, from, &mut |element: M| {
                self.bind_next(patterns, env, &mut used, element, &mut |env, element| {
                    let current = state.take().unwrap_or(Value::Null);
                    if !M::HAS_PATHS && update.is_single {
                        state = Some(self.one_owned(update, env, current)?);
                        return Ok(());
                    }
                    let current = element.clone().replaced(current);
                    self.run(update, env, current, &mut |new: M| {
                        state = Some(new.into_value());
                        Ok(())
                    })
                })
            })?;
            out(after.replaced(state.take().unwrap_or(Value::Null)))
        })
    }

    /// `foreach`. Like `reduce`, but each result of an update is passed on: to `extract` if there
    /// is one, otherwise as an output. Every start value has the input.
    pub(super) fn foreach<M: Item<'v>>(
        &self,
        source: &'v Node,
        patterns: &'v Patterns,
        (start, update, extract): (&'v Node, &'v Node, Option<&'v Node>),
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        self.run(start, env, item.clone(), &mut |start: M| {
            let mut state = Some(start.value().clone());
            let from = start.replaced(item.value().clone());
            let mut used = None;
            self.run(source, env, from, &mut |element: M| {
                self.bind_next(patterns, env, &mut used, element, &mut |env, element| {
                    let current = state.take().unwrap_or(Value::Null);
                    let current = element.clone().replaced(current);
                    self.run(update, env, current, &mut |new: M| {
                        state = Some(new.value().clone());
                        match extract {
                            Some(extract) => self.run(extract, env, new, out),
                            None => out(new),
                        }
                    })
                })
            })
        })
    }
}

/// Runs `body` in an environment with one more link for each value.
fn with_values<'v>(values: &[Value<'v>], env: &Environment<'v>, body: Body<'_, 'v>) -> Flow<'v> {
    let Some((first, rest)) = values.split_first() else {
        return body(env);
    };
    with_values(rest, &env.with(Bound::Value(first.clone())), body)
}
