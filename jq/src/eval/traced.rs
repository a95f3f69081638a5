//! Runs parts that make new values while paths are followed. jq follows paths into these parts too,
//! except into arguments. So a step without a valid path fails inside such a part, and the steps
//! after it may begin at another place of the input. This module is used only with an [`Item`] that
//! has paths.

use std::rc::Rc;

use super::environment::{Bound, Environment};
use super::flow::{Failure, Flow, Stop, error};
use super::item::{Item, SHOWN_VALUE_BYTES};
use super::one::negate;
use super::operate::operate;
use super::paths::{get_path, set_path};
use super::{Machine, Taker, access, element_attempt};
use crate::builtins::Special;
use crate::program::{Kind, MemberPattern, Node, Pattern, Patterns};
use crate::value::Value;
use crate::value::elements::Elements;

/// The code that runs with variables bound, for the item that the pattern leads to.
type Body<'b, 'v, M> = &'b mut dyn FnMut(&Environment<'v>, M) -> Flow<'v>;

/// A function that returns the new value for an old one. It returns nothing if the old value is to
/// be deleted.
type Change<'c, 'v, M> = &'c mut dyn FnMut(M) -> Result<Option<Value<'v>>, Failure<'v>>;

impl Patterns {
    /// Whether the patterns look into a value.
    pub(super) fn take_apart(&self) -> bool {
        !matches!(self, Self::One(Pattern::Variable))
    }
}

impl<'v> Machine<'_, 'v> {
    /// Passes every output of `node` for `item` to `out`. Returns `None`, and does nothing, if
    /// following paths makes no difference to `node`.
    pub(super) fn traced<M: Item<'v>>(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        item: &M,
        out: Taker<'_, 'v, M>,
    ) -> Option<Flow<'v>> {
        if let Some(function) = node.followed {
            return Some(self.through(function, node, env, item, out));
        }
        Some(match &node.kind {
            Kind::Array(Some(inner)) => self.collect_traced(inner, env, item, out),
            Kind::And(left, right) => self.joined(left, right, false, env, item, out),
            Kind::Or(left, right) => self.joined(left, right, true, env, item, out),
            Kind::Negate(inner) => self.run(inner, env, item.clone(), &mut |item: M| {
                let negated = negate(item.value())?;
                out(item.replaced(negated))
            }),
            Kind::Update(paths, update) => self.update_traced(paths, env, item, &mut |old| {
                self.first_traced(update, env, old)
            }),
            Kind::UpdateWith(operator, paths, value) => {
                self.update_with(paths, value, env, item, &|old, value| {
                    operate(*operator, old, value)
                })
            }
            Kind::UpdateAlternative(paths, value) => {
                self.update_with(paths, value, env, item, &|old, value| {
                    Ok(if old.is_truthy() { old } else { value })
                })
            }
            Kind::Bind {
                source,
                patterns,
                body,
            } if patterns.take_apart() => {
                let input = item.value();
                self.values(source, env, input, &mut |value| {
                    let value = item.clone().replaced(value);
                    self.bind_traced(patterns, env, value, &mut |env, item| {
                        self.run(body, env, item.replaced(input.clone()), out)
                    })
                })
            }
            _ => return None,
        })
    }

    /// Runs the definition that jq itself runs for a native filter.
    fn through<M: Item<'v>>(
        &self,
        function: usize,
        node: &'v Node,
        env: &Environment<'v>,
        item: &M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        self.step()?;
        let (called, within) = (&self.functions[function], Environment::default());
        let arguments = arguments(node);
        if called.takes_one_of_each(arguments) {
            let inner = self.entered(called, &within, arguments, env, item.value())?;
            return self.run(&called.body, &inner, item.clone(), out);
        }
        match self.call_for_each(called, &within, arguments, env, item, out)? {
            Some(inner) => self.run(&called.body, &inner, item.clone(), out),
            None => Ok(()),
        }
    }

    /// `[inner]`
    fn collect_traced<M: Item<'v>>(
        &self,
        inner: &'v Node,
        env: &Environment<'v>,
        item: &M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        let mut elements = Elements::default();
        self.run(inner, env, item.clone(), &mut |element: M| {
            Ok(elements.push(element.into_value())?)
        })?;
        out(item.clone().replaced(Value::Array(Rc::new(elements))))
    }

    /// `and` and `or`. The right side is run unless the left side equals `decided`.
    fn joined<M: Item<'v>>(
        &self,
        left: &'v Node,
        right: &'v Node,
        decided: bool,
        env: &Environment<'v>,
        item: &M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        self.run(left, env, item.clone(), &mut |left: M| {
            if left.value().is_truthy() == decided {
                return out(left.replaced(Value::Boolean(decided)));
            }
            // The input has the path that the left side leads to.
            let from = left.replaced(item.value().clone());
            self.run(right, env, from, &mut |right: M| {
                let is_true = right.value().is_truthy();
                out(right.replaced(Value::Boolean(is_true)))
            })
        })
    }

    /// Runs an assignment with an operator. The path goes through the right side of the assignment.
    fn update_with<M: Item<'v>>(
        &self,
        paths: &'v Node,
        value: &'v Node,
        env: &Environment<'v>,
        item: &M,
        make: &dyn Fn(Value<'v>, Value<'v>) -> Result<Value<'v>, Failure<'v>>,
    ) -> Flow<'v> {
        self.run(value, env, item.clone(), &mut |value: M| {
            let from = value.clone().replaced(item.value().clone());
            self.update_traced(paths, env, &from, &mut |old| {
                make(old.into_value(), value.value().clone()).map(Some)
            })
        })
    }

    /// `paths |= …`: jq keeps the changed input and the paths to be deleted in an array, and then
    /// reads them from this array. No path leads to this array. So this function always fails,
    /// unless an earlier step fails first.
    fn update_traced<M: Item<'v>>(
        &self,
        paths: &'v Node,
        env: &Environment<'v>,
        item: &M,
        change: Change<'_, 'v, M>,
    ) -> Flow<'v> {
        let mut deleted = Vec::new();
        let input = item.value().clone();
        let changed = self.change_each(paths, env, input, &mut |input, path| {
            let path = Value::array(path);
            let old = get_path(&input, &path)?;
            if let Some(new) = change(item.clone().replaced(old))? {
                return set_path(input, &path.into_elements(), new);
            }
            deleted.push(path);
            Ok(input)
        })?;
        let both = Value::array(vec![changed, Value::array(deleted)]);
        Err(error(element_attempt(
            &Value::Integer(0),
            &both.excerpt(SHOWN_VALUE_BYTES),
        )))
    }

    fn first_traced<M: Item<'v>>(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        item: M,
    ) -> Result<Option<Value<'v>>, Failure<'v>> {
        let mut first = None;
        self.until_enough(|wish| {
            self.run(node, env, item, &mut |item: M| {
                first = Some(item.into_value());
                Err(Box::new(Stop::Enough(wish)))
            })
        })?;
        Ok(first)
    }

    /// Runs `body` for every way in which the patterns can match the value of an item. Each time a
    /// pattern looks into the value, this is a step of the path.
    pub(super) fn bind_traced<M: Item<'v>>(
        &self,
        patterns: &'v Patterns,
        env: &Environment<'v>,
        item: M,
        body: Body<'_, 'v, M>,
    ) -> Flow<'v> {
        match patterns {
            Patterns::One(pattern) => self.pattern_traced(pattern, env, item, body),
            Patterns::Several { alternatives, .. } => {
                for (index, (pattern, own)) in alternatives.iter().enumerate() {
                    let mut bound = |inner: &Environment<'v>, item: M| {
                        let value =
                            |up: &Option<usize>| up.map_or(Value::Null, |up| inner.value(up));
                        let env = own
                            .iter()
                            .map(value)
                            .fold(env.clone(), |env, value| env.with(Bound::Value(value)));
                        body(&env, item)
                    };
                    let flow = self.pattern_traced(pattern, env, item.clone(), &mut bound);
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

    fn pattern_traced<M: Item<'v>>(
        &self,
        pattern: &'v Pattern,
        env: &Environment<'v>,
        item: M,
        body: Body<'_, 'v, M>,
    ) -> Flow<'v> {
        let value = item.value().clone();
        match pattern {
            Pattern::Variable => body(&env.with(Bound::Value(value)), item),
            Pattern::Array(elements) => self.elements_traced(elements, env, &value, item, body),
            Pattern::Object(members) => self.members_traced(members, env, &value, item, body),
        }
    }

    /// Binds the elements from the last one to the first one, as jq does.
    fn elements_traced<M: Item<'v>>(
        &self,
        elements: &'v [Pattern],
        env: &Environment<'v>,
        value: &Value<'v>,
        item: M,
        body: Body<'_, 'v, M>,
    ) -> Flow<'v> {
        let Some((last, before)) = elements.split_last() else {
            return body(env, item);
        };
        let element = step_into(&item.replaced(value.clone()), &Value::count(before.len()))?;
        self.pattern_traced(last, env, element, &mut |env, item| {
            self.elements_traced(before, env, value, item, body)
        })
    }

    fn members_traced<M: Item<'v>>(
        &self,
        members: &'v [MemberPattern],
        env: &Environment<'v>,
        value: &Value<'v>,
        item: M,
        body: Body<'_, 'v, M>,
    ) -> Flow<'v> {
        let Some((first, rest)) = members.split_first() else {
            return body(env, item);
        };
        self.values(&first.key, env, value, &mut |key| {
            let member = step_into(&item.clone().replaced(value.clone()), &key)?;
            let env = if first.is_bound {
                &env.with(Bound::Value(member.value().clone()))
            } else {
                env
            };
            match &first.pattern {
                Some(pattern) => self.pattern_traced(pattern, env, member, &mut |env, item| {
                    self.members_traced(rest, env, value, item, body)
                }),
                None => self.members_traced(rest, env, value, member, body),
            }
        })
    }
}

/// Returns the item at a key of `item`.
fn step_into<'v, M: Item<'v>>(item: &M, key: &Value<'v>) -> Result<M, Failure<'v>> {
    item.check(&|value| element_attempt(key, &value))?;
    let value = access::index(item.value(), key)?;
    Ok(item.child(|| key.clone(), value))
}

/// Returns the arguments of a native filter.
fn arguments(node: &Node) -> &[Node] {
    match &node.kind {
        // The compiler has added the start to the argument of `range($to)`.
        Kind::Special(Special::Range, arguments) => arguments.get(1..).unwrap_or_default(),
        Kind::Native(_, arguments) | Kind::Special(_, arguments) => arguments,
        Kind::Each {
            base: Some(base), ..
        } => arguments(base),
        _ => &[],
    }
}
