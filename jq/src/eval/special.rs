//! Filters whose arguments are programs, and which the evaluator runs itself. Depending on the
//! results of a program, they choose values, repeat, stop or sort. A filter that repeats uses no
//! stack for its last step.

use std::rc::Rc;

use super::environment::Environment;
use super::flow::{Failure, Flow, Output, Stop, error};
use super::item::{Item, Placed};
use super::operate::{add, mismatch, operate, unfit};
use super::{Machine, Taker, paths};
use crate::ast::Operator;
use crate::builtins::Special;
use crate::meter;
use crate::program::Node;
use crate::value::elements::Elements;
use crate::value::number::whole_steps;
use crate::value::{Type, Value};

impl<'v> Machine<'_, 'v> {
    /// Passes every output of a special filter to `out`.
    pub(super) fn special<M: Item<'v>>(
        &self,
        special: Special,
        arguments: &'v [Node],
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        match (special, arguments) {
            (Special::Empty, _) => Ok(()),
            (Special::Recurse, _) => self.recurse_values(item, out),
            (Special::RecurseWith, [step]) => self.recurse(step, None, env, item, out),
            (Special::RecurseIf, [step, condition]) => {
                self.recurse(step, Some(condition), env, item, out)
            }
            (Special::Select, [condition]) if condition.is_single => {
                if self.one(condition, env, item.value())?.is_truthy() {
                    out(item)
                } else {
                    Ok(())
                }
            }
            (Special::Select, [condition]) => {
                let value = item.value().clone();
                self.values(condition, env, &value, &mut |condition| {
                    if condition.is_truthy() {
                        out(item.clone())
                    } else {
                        Ok(())
                    }
                })
            }
            (Special::OfTypes(types), _) => {
                if types & 1 << item.value().kind() as u8 != 0 {
                    out(item)
                } else {
                    Ok(())
                }
            }
            (Special::First, [from]) => self.take(1, from, env, item, out),
            (Special::Last, [from]) => self.last(from, env, item, out),
            (Special::Limit, [count, from]) => self.limit(count, from, env, item, out),
            (Special::Skip, [count, from]) => self.skip(count, from, env, item, out),
            (Special::Nth, [count, from]) => self.nth(count, from, env, item, out),
            (Special::Until, [condition, step]) => self.until(condition, step, env, item, out),
            (Special::While, [condition, step]) => self.while_(condition, step, env, item, out),
            (Special::Repeat, [step]) => loop {
                self.step()?;
                self.run(step, env, item.clone(), out)?;
            },
            (Special::GetPath, [path]) => {
                let value = item.value().clone();
                self.values(path, env, &value, &mut |path| {
                    let found = paths::get_path(item.value(), &path)?;
                    out(item.descendant(&path, found))
                })
            }
            (Special::Error, [message]) => self.run(message, env, item, &mut |message: M| {
                Err(Box::new(Stop::Error(message.into_value())))
            }),
            (Special::Any | Special::All | Special::IsEmpty, _) => {
                self.decided(special, arguments, env, item, out)
            }
            (Special::Add, [from]) => self.sum(from, env, item, out),
            _ => self.made(special, arguments, env, item, out),
        }
    }

    /// Runs special filters that make new values.
    fn made<M: Item<'v>>(
        &self,
        special: Special,
        arguments: &'v [Node],
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        let input = item.clone().into_value();
        let mut give = |value: Value<'v>| out(item.clone().replaced(value));
        match (special, arguments) {
            (Special::Path, [path]) => {
                self.run(path, env, Placed::plain(input), &mut |placed: Placed<
                    'v,
                >| {
                    give(Value::array(placed.into_path()?))
                })
            }
            (Special::Range, [from, to]) if M::HAS_PATHS => {
                self.run(from, env, item.clone(), &mut |from: M| {
                    let start = from.value().clone();
                    let behind = from.replaced(input.clone());
                    self.run(to, env, behind, &mut |to: M| {
                        // The first number of the range is the start itself.
                        let mut first = Some(start.clone());
                        range(&start, to.value(), &mut |at| {
                            out(to.clone().replaced(first.take().unwrap_or(at)))
                        })
                    })
                })
            }
            (Special::Range, [from, to]) => self.values(from, env, &input, &mut |from| {
                self.values(to, env, &input, &mut |to| range(&from, &to, &mut give))
            }),
            (Special::RangeBy, [from, to, by]) => self.values(from, env, &input, &mut |from| {
                self.values(to, env, &input, &mut |to| {
                    self.values(by, env, &input, &mut |by| {
                        range_by(from.clone(), &to, &by, &mut give)
                    })
                })
            }),
            (Special::Delete, [path]) => give(self.delete(path, env, input)?),
            (Special::Pick, [path]) => give(self.pick(path, env, &input)?),
            (Special::Walk, [step]) => self.walk(step, env, input, &mut give),
            (Special::Substitute { is_global }, arguments) => {
                self.substitute(is_global, arguments, env, &input, &mut give)
            }
            (
                Special::SortBy
                | Special::GroupBy
                | Special::UniqueBy
                | Special::MinBy
                | Special::MaxBy,
                [key],
            ) => give(self.by_key(special, key, env, input)?),
            _ => Err(error("a filter was given the wrong arguments")),
        }
    }

    /// `..`
    fn recurse_values<M: Item<'v>>(&self, item: M, out: Taker<'_, 'v, M>) -> Flow<'v> {
        self.check()?;
        out(item.clone())?;
        self.each(&item, true, &mut |child: M| {
            if matches!(child.value().kind(), Type::Array | Type::Object) {
                self.recurse_values(child, out)
            } else {
                out(child)
            }
        })
    }

    /// `recurse(step)`, `recurse(step; condition)`
    fn recurse<M: Item<'v>>(
        &self,
        step: &'v Node,
        condition: Option<&'v Node>,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        self.repeat(
            item,
            &|item, out: Taker<'_, 'v, M>| out(item.clone()),
            &|item, next: Taker<'_, 'v, M>| {
                self.run(step, env, item, &mut |item: M| match condition {
                    None => next(item),
                    Some(condition) => {
                        let value = item.value().clone();
                        self.values(condition, env, &value, &mut |condition| {
                            if condition.is_truthy() {
                                next(item.clone())
                            } else {
                                Ok(())
                            }
                        })
                    }
                })
            },
            out,
        )
    }

    /// `while(condition; step)`
    fn while_<M: Item<'v>>(
        &self,
        condition: &'v Node,
        step: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        let holds = |item: &M, then: &mut dyn FnMut() -> Flow<'v>| {
            let value = item.value().clone();
            self.values(condition, env, &value, &mut |condition| {
                if condition.is_truthy() {
                    then()
                } else {
                    Ok(())
                }
            })
        };
        if condition.is_single {
            let is_wanted = |item: &M| {
                self.one(condition, env, item.value())
                    .map(|condition| condition.is_truthy())
            };
            if !is_wanted(&item)? {
                return Ok(());
            }
            return self.repeat(
                item,
                &|item, out: Taker<'_, 'v, M>| out(item.clone()),
                &|item, next: Taker<'_, 'v, M>| {
                    self.run(step, env, item, &mut |item: M| {
                        if is_wanted(&item)? {
                            next(item)
                        } else {
                            Ok(())
                        }
                    })
                },
                out,
            );
        }
        self.step()?;
        holds(&item, &mut || {
            out(item.clone())?;
            self.run(step, env, item.clone(), &mut |item: M| {
                self.while_(condition, step, env, item, out)
            })
        })
    }

    /// `until(condition; step)`
    fn until<M: Item<'v>>(
        &self,
        condition: &'v Node,
        step: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        if condition.is_single {
            return self.repeat(
                item,
                &|item, out: Taker<'_, 'v, M>| {
                    if self.one(condition, env, item.value())?.is_truthy() {
                        out(item.clone())
                    } else {
                        Ok(())
                    }
                },
                &|item, next: Taker<'_, 'v, M>| {
                    if self.one(condition, env, item.value())?.is_truthy() {
                        return Ok(());
                    }
                    self.run(step, env, item, next)
                },
                out,
            );
        }
        self.step()?;
        let value = item.value().clone();
        self.values(condition, env, &value, &mut |condition_holds| {
            if condition_holds.is_truthy() {
                return out(item.clone());
            }
            self.run(step, env, item.clone(), &mut |item: M| {
                self.until(condition, step, env, item, out)
            })
        })
    }

    /// Runs `visit` on an item, and then does the same with each output of `step` for that item.
    /// The last output of `step` is handled by a loop, and the others by recursion. Therefore each
    /// output waits until the next one shows that it was not the last one.
    fn repeat<M: Item<'v>>(
        &self,
        mut item: M,
        visit: &dyn Fn(&M, Taker<'_, 'v, M>) -> Flow<'v>,
        step: &dyn Fn(M, Taker<'_, 'v, M>) -> Flow<'v>,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        loop {
            self.turn()?;
            visit(&item, out)?;
            let mut latest = None;
            let mut behind = None;
            let flow = step(item, &mut |next| match latest.replace(next) {
                Some(before) => self.noted(self.repeat(before, visit, step, out), &mut behind),
                None => Ok(()),
            });
            match (flow, latest) {
                (Ok(()), Some(last)) => item = last,
                (Ok(()), None) => return Ok(()),
                (Err(failure), Some(last)) if !self.is_from(behind) => {
                    self.repeat(last, visit, step, out)?;
                    return Err(failure);
                }
                (Err(failure), _) => return Err(failure),
            }
        }
    }

    /// `limit`: passes the first `count` outputs to `out`.
    fn take<M: Item<'v>>(
        &self,
        count: u64,
        from: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        let mut taken = 0;
        self.until_enough(|wish| {
            self.run(from, env, item, &mut |item: M| {
                taken += 1;
                out(item)?;
                if taken >= count {
                    return Err(Box::new(Stop::Enough(wish)));
                }
                Ok(())
            })
        })
        .map(drop)
    }

    fn last<M: Item<'v>>(
        &self,
        from: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        let mut last = None;
        self.run(from, env, item.clone(), &mut |item: M| {
            last = Some(item.into_value());
            Ok(())
        })?;
        last.map_or(Ok(()), |last| out(item.replaced(last)))
    }

    fn limit<M: Item<'v>>(
        &self,
        count: &'v Node,
        from: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        self.counted(&LIMIT, count, from, env, item, &mut |count, item| {
            if count == 0 {
                return Ok(());
            }
            self.take(count, from, env, item, out)
        })
    }

    fn skip<M: Item<'v>>(
        &self,
        count: &'v Node,
        from: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        self.counted(&SKIP, count, from, env, item, &mut |count, item| {
            self.behind(count, from, env, item, out)
        })
    }

    fn nth<M: Item<'v>>(
        &self,
        count: &'v Node,
        from: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        self.counted(&NTH, count, from, env, item, &mut |count, item| {
            self.until_enough(|wish| {
                self.behind(count, from, env, item, &mut |item: M| {
                    out(item)?;
                    Err(Box::new(Stop::Enough(wish)))
                })
            })
            .map(drop)
        })
    }

    /// `skip`: passes the outputs after the first `count` to `out`.
    fn behind<M: Item<'v>>(
        &self,
        count: u64,
        from: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        let mut seen = 0;
        self.run(from, env, item, &mut |item: M| {
            seen += 1;
            if seen > count { out(item) } else { Ok(()) }
        })
    }

    /// Calls `body` for each output of `count`. An output that is not a number is an error, but
    /// only if `from` has an output.
    fn counted<M: Item<'v>>(
        &self,
        rule: &Rule,
        count: &'v Node,
        from: &'v Node,
        env: &Environment<'v>,
        item: M,
        body: &mut dyn FnMut(u64, M) -> Flow<'v>,
    ) -> Flow<'v> {
        let value = item.value().clone();
        self.values(
            count,
            env,
            &value,
            &mut |count| match steps(&count, rule.round)? {
                Steps::Of(count) => body(count, item.clone()),
                Steps::Unfit(failure) => {
                    let mut failure = Some(failure);
                    self.run(from, env, item.clone(), &mut |_: M| {
                        failure.take().map_or(Ok(()), Err)
                    })
                }
                Steps::Negative => Err(error(rule.negative)),
            },
        )
    }

    /// `any`, `all` and `isempty`. Their result has the path of the output that decided it, or the
    /// path of the input if no output did.
    fn decided<M: Item<'v>>(
        &self,
        special: Special,
        arguments: &'v [Node],
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        let (from, condition, result) = match (special, arguments) {
            (Special::Any, [from, condition]) => (from, Some((condition, true)), true),
            (Special::All, [from, condition]) => (from, Some((condition, false)), false),
            (Special::IsEmpty, [from]) => (from, None, false),
            _ => return Err(error("a filter was given the wrong arguments")),
        };
        let is_decided = self.until_enough(|wish| {
            let mut decide = |item: M| {
                out(item.replaced(Value::Boolean(result)))?;
                Err(Box::new(Stop::Enough(wish)))
            };
            self.run(from, env, item.clone(), &mut |item: M| match condition {
                None => decide(item),
                Some((condition, wanted)) => self.run(condition, env, item, &mut |item: M| {
                    if item.value().is_truthy() == wanted {
                        return decide(item);
                    }
                    Ok(())
                }),
            })
        })?;
        if is_decided {
            return Ok(());
        }
        out(item.replaced(Value::Boolean(!result)))
    }

    /// `add(from)`
    fn sum<M: Item<'v>>(
        &self,
        from: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        let mut sum = Value::Null;
        self.run(from, env, item.clone(), &mut |item: M| {
            sum = add(std::mem::replace(&mut sum, Value::Null), item.into_value())?;
            Ok(())
        })?;
        out(item.replaced(sum))
    }

    fn walk(
        &self,
        step: &'v Node,
        env: &Environment<'v>,
        mut value: Value<'v>,
        out: Taker<'_, 'v, Value<'v>>,
    ) -> Flow<'v> {
        self.check()?;
        match value.kind() {
            Type::Array => {
                let mut walked = Elements::default();
                for element in value.into_elements() {
                    self.walk(step, env, element, &mut |element| Ok(walked.push(element)?))?;
                }
                value = Value::Array(Rc::new(walked));
            }
            Type::Object => {
                let mut walked = crate::value::object::Object::default();
                for (key, member) in value.members() {
                    if let Some(member) = self.walked_first(step, env, member)? {
                        walked.insert(key, member);
                    }
                }
                value = Value::Object(Rc::new(walked));
            }
            Type::Null | Type::False | Type::True | Type::Number | Type::String => {}
        }
        self.run(step, env, value, out)
    }

    fn walked_first(
        &self,
        step: &'v Node,
        env: &Environment<'v>,
        value: Value<'v>,
    ) -> Result<Option<Value<'v>>, Failure<'v>> {
        self.first_given(|give| self.walk(step, env, value, give))
    }

    /// Runs filters that sort, group or choose elements by the result of a program for each
    /// element.
    fn by_key(
        &self,
        special: Special,
        key: &'v Node,
        env: &Environment<'v>,
        input: Value<'v>,
    ) -> Output<'v> {
        let mut keyed = Vec::new();
        self.each(&input, false, &mut |element: Value<'v>| {
            let key = if key.is_single {
                self.one(key, env, &element)?
            } else {
                self.collect(Some(key), env, &element)?
            };
            keyed.push((key, element));
            Ok(())
        })?;
        if input.kind() != Type::Array {
            let keys = keyed.into_iter().map(|(found, _)| {
                if key.is_single {
                    Value::array(vec![found])
                } else {
                    found
                }
            });
            let keys = Value::array(keys.collect());
            return Err(match special {
                Special::MinBy | Special::MaxBy => {
                    mismatch(&input, &keys, "cannot be iterated over")
                }
                _ => mismatch(
                    &input,
                    &keys,
                    "cannot be sorted, as they are not both arrays",
                ),
            });
        }
        if let Special::MinBy | Special::MaxBy = special {
            return extreme(keyed, special == Special::MinBy);
        }
        Value::sort(&mut keyed, &|(key, _)| key)?;
        arrange(special, keyed)
    }
}

/// Returns the element with the least or the greatest key. If several elements have equal keys, the
/// first of them counts as the least and the last of them as the greatest, as in jq.
pub(crate) fn extreme<'v>(keyed: Vec<(Value<'v>, Value<'v>)>, is_least: bool) -> Output<'v> {
    let mut found: Option<(Value<'v>, Value<'v>)> = None;
    for (key, element) in keyed {
        let is_better = match &found {
            None => true,
            Some((best, _)) => key.compare(best)?.is_lt() == is_least,
        };
        if is_better {
            found = Some((key, element));
        }
    }
    Ok(found.map_or(Value::Null, |(_, element)| element))
}

/// Returns the result of a sorting filter, made from its sorted elements.
pub(crate) fn arrange<'v>(special: Special, keyed: Vec<(Value<'v>, Value<'v>)>) -> Output<'v> {
    if special == Special::SortBy {
        return Ok(Value::array(
            keyed.into_iter().map(|(_, element)| element).collect(),
        ));
    }
    let mut groups: Vec<(Value<'v>, Vec<Value<'v>>)> = Vec::new();
    for (key, element) in keyed {
        match groups.last_mut() {
            Some((last, group)) if last.equals(&key)? => {
                if special == Special::GroupBy {
                    group.push(element);
                }
            }
            _ => groups.push((key, vec![element])),
        }
    }
    let groups = groups.into_iter().map(|(_, mut group)| {
        if special == Special::GroupBy {
            Value::array(group)
        } else {
            group.pop().unwrap_or(Value::Null)
        }
    });
    Ok(Value::array(groups.collect()))
}

/// How a filter reads its count.
struct Rule {
    round: fn(f64) -> f64,
    /// The error if the count is below 0.
    negative: &'static str,
}

const LIMIT: Rule = Rule {
    round: f64::ceil,
    negative: "limit doesn't support negative count",
};
const SKIP: Rule = Rule {
    round: f64::floor,
    negative: "skip doesn't support negative count",
};
const NTH: Rule = Rule {
    round: f64::floor,
    negative: "nth doesn't support negative indices",
};

/// The number of outputs that a count allows.
enum Steps<'v> {
    Negative,
    Of(u64),
    /// The count is not a number. In jq it compares as greater than 0, so jq fails only at the
    /// first output, when it subtracts 1 from the count.
    Unfit(Failure<'v>),
}

/// Returns the number of outputs that a count allows, rounded with `round`.
fn steps<'v>(count: &Value<'v>, round: fn(f64) -> f64) -> Result<Steps<'v>, Failure<'v>> {
    if count.compare(&Value::Integer(0))?.is_lt() {
        return Ok(Steps::Negative);
    }
    Ok(match count.to_float() {
        Some(float) => Steps::Of(whole_steps(round(float))),
        None => Steps::Unfit(mismatch(count, &Value::Integer(1), "cannot be subtracted")),
    })
}

fn range<'v>(from: &Value<'v>, to: &Value<'v>, out: Taker<'_, 'v, Value<'v>>) -> Flow<'v> {
    let (Some(mut at), Some(end)) = (from.to_float(), to.to_float()) else {
        return Err(error("Range bounds must be numeric"));
    };
    if let Some(mut at) = from.as_small_integer() {
        #[expect(clippy::cast_precision_loss, reason = "compared as jq compares")]
        while is_before(at as f64, end) {
            meter::step(1)?;
            out(Value::Integer(at))?;
            at += 1;
        }
        return Ok(());
    }
    if is_before(at, end) {
        out(from.clone())?;
        at += 1.0;
    }
    while is_before(at, end) {
        meter::step(1)?;
        out(Value::Float(at))?;
        at += 1.0;
    }
    Ok(())
}

/// Whether a range continues. A range that begins or ends with NaN is endless, as in jq.
fn is_before(at: f64, end: f64) -> bool {
    at.partial_cmp(&end).is_none_or(std::cmp::Ordering::is_lt)
}

fn range_by<'v>(
    mut at: Value<'v>,
    to: &Value<'v>,
    by: &Value<'v>,
    out: Taker<'_, 'v, Value<'v>>,
) -> Flow<'v> {
    let zero = Value::Integer(0);
    let operator = match by.compare(&zero)? {
        std::cmp::Ordering::Greater => Operator::Less,
        std::cmp::Ordering::Less => Operator::Greater,
        std::cmp::Ordering::Equal => return Ok(()),
    };
    while operate(operator, at.clone(), to.clone())?.is_truthy() {
        meter::step(1)?;
        out(at.clone())?;
        at = operate(Operator::Add, at, by.clone())?;
    }
    Ok(())
}

/// Returns the error of a filter that needs an array.
pub(crate) fn not_an_array<'v>(value: &Value<'v>) -> Failure<'v> {
    unfit(value, "cannot be sorted, as it is not an array")
}
