//! Finds the part of a program that fails. Evaluation does not record the failing part. So after an
//! error, this module runs the program again, part by part, on the input on which it failed. It
//! does not search inside definitions.

use super::environment::{Bound, Environment};
use super::flow::Stop;
use super::{Machine, Taker};
use crate::builtins::Special;
use crate::program::{Kind, NOWHERE, Node, Part, Pattern, Patterns};
use crate::value::Value;

/// The part that is run next, with its environment and its input.
type Next<'v> = (&'v Node, Environment<'v>, Value<'v>);

impl<'v> Machine<'_, 'v> {
    /// Runs `node` on `input` and returns the offset of the innermost part that fails. `None` if
    /// nothing fails.
    pub(crate) fn locate(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        input: &Value<'v>,
    ) -> Option<usize> {
        if !self.fails(node, env, input) {
            return None;
        }
        let (mut place, mut next) = (node.at, (node, env.clone(), input.clone()));
        while let Some(inner) = self.failing_part(&next) {
            if inner.0.at != NOWHERE {
                place = inner.0.at;
            }
            next = inner;
        }
        (place != NOWHERE).then_some(place)
    }

    /// Whether a part raises an error. Reaching a limit does not count as an error.
    fn fails(&self, node: &'v Node, env: &Environment<'v>, input: &Value<'v>) -> bool {
        let flow = self.run(node, env, input.clone(), &mut |_: Value<'v>| Ok(()));
        flow.is_err_and(|stop| matches!(*stop, Stop::Error(_)))
    }

    /// Returns the inner part that fails. `None` if the part itself fails.
    fn failing_part(&self, (node, env, input): &Next<'v>) -> Option<Next<'v>> {
        let (node, env, input) = (*node, env, input);
        let first = |parts: &[&'v Node]| {
            let failing = parts.iter().find(|part| self.fails(part, env, input));
            failing.map(|part| (*part, env.clone(), input.clone()))
        };
        match &node.kind {
            Kind::Pipe(left, right) => self.failing_after(&first, left, env, input, &|value| {
                (&**right, env.clone(), value)
            }),
            Kind::Bind {
                source,
                patterns: Patterns::One(Pattern::Variable),
                body,
            } => self.failing_after(&first, source, env, input, &|value| {
                (&**body, env.with(Bound::Value(value)), input.clone())
            }),
            Kind::If {
                condition,
                then,
                otherwise,
            } => self.failing_after(&first, condition, env, input, &|value| {
                let branch = if value.is_truthy() {
                    Some(then)
                } else {
                    otherwise.as_ref()
                };
                (branch.unwrap_or(condition), env.clone(), input.clone())
            }),
            Kind::Binary(_, left, right) => first(&[right, left]),
            Kind::Comma(left, right)
            | Kind::Alternative(left, right)
            | Kind::And(left, right)
            | Kind::Or(left, right) => first(&[left, right]),
            Kind::Array(Some(inner)) | Kind::Negate(inner) => first(&[inner]),
            Kind::Field { base, .. } | Kind::Each { base, .. } => {
                base.as_ref().and_then(|base| first(&[base]))
            }
            Kind::Index { base, key, .. } => first(&[key, base]),
            Kind::Slice { base, from, to, .. } => {
                let bounds = [from, to].into_iter().flatten();
                first(&bounds.chain([base]).map(|part| &**part).collect::<Vec<_>>())
            }
            Kind::Object(members) => {
                let parts = members.iter().flat_map(|(key, value)| [key, value]);
                first(&parts.collect::<Vec<_>>())
            }
            Kind::Text(_, parts) => {
                let codes = parts.iter().rev().filter_map(|part| match part {
                    Part::Code(node) => Some(node),
                    Part::Text(_) => None,
                });
                first(&codes.collect::<Vec<_>>())
            }
            Kind::Native(_, arguments) => first(&arguments.iter().rev().collect::<Vec<_>>()),
            Kind::Assign(_, value)
            | Kind::UpdateWith(_, _, value)
            | Kind::UpdateAlternative(_, value) => first(&[value]),
            Kind::Reduce { source, start, .. } | Kind::Foreach { source, start, .. } => {
                first(&[start, source])
            }
            Kind::Special(
                Special::Select
                | Special::First
                | Special::Last
                | Special::Add
                | Special::IsEmpty
                | Special::Error
                | Special::Range,
                arguments,
            ) => first(&arguments.iter().collect::<Vec<_>>()),
            _ => None,
        }
    }

    /// Returns the part that fails. If the part that is run for an output of `source` fails, it is
    /// that part; otherwise it is `source` itself.
    fn failing_after(
        &self,
        first: &dyn Fn(&[&'v Node]) -> Option<Next<'v>>,
        source: &'v Node,
        env: &Environment<'v>,
        input: &Value<'v>,
        next: &dyn Fn(Value<'v>) -> Next<'v>,
    ) -> Option<Next<'v>> {
        let mut failing = None;
        let take: Taker<'_, 'v, Value<'v>> = &mut |value| {
            let (node, env, input) = next(value);
            if self.fails(node, &env, &input) {
                failing = Some((node, env, input));
                return Err(Box::new(Stop::Halted));
            }
            Ok(())
        };
        let _ = self.run(source, env, input.clone(), take);
        failing.or_else(|| first(&[source]))
    }
}
