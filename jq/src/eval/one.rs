//! Computes parts that give exactly one value directly, without a receiver. Other parts are run in
//! the general way, output by output.

use super::environment::Environment;
use super::flow::{Output, error};
use super::operate::{operate, unfit};
use super::{Machine, Scope, access};
use crate::builtins::Native;
use crate::program::{Kind, Node, Patterns};
use crate::value::Value;

impl<'v> Machine<'_, 'v> {
    /// Returns the output of a part that gives exactly one output.
    pub(crate) fn one(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        input: &Value<'v>,
    ) -> Output<'v> {
        match &node.kind {
            Kind::Identity => Ok(input.clone()),
            Kind::Constant(constant) => Ok(constant.value()),
            Kind::Variable(up) => Ok(env.value(*up)),
            Kind::Global(index) => Ok(self.global(*index)),
            Kind::Field { base, name, .. } => match base {
                None => access::field(input, name),
                Some(base) => access::field(&self.one(base, env, input)?, name),
            },
            Kind::Index { base, key, .. } => {
                let key = self.one(key, env, input)?;
                if let Kind::Identity = base.kind {
                    return access::index(input, &key);
                }
                access::index(&self.one(base, env, input)?, &key)
            }
            Kind::Slice { base, from, to, .. } => {
                let bound = |node: &'v Option<Box<Node>>| match node {
                    Some(node) => self.one(node, env, input),
                    None => Ok(Value::Null),
                };
                let (from, to) = (bound(from)?, bound(to)?);
                access::slice(&self.one(base, env, input)?, &from, &to)
            }
            Kind::Pipe(left, right) => {
                let value = self.one(left, env, input)?;
                self.one_owned(right, env, value)
            }
            Kind::And(left, right) => Ok(Value::Boolean(
                self.one(left, env, input)?.is_truthy() && self.one(right, env, input)?.is_truthy(),
            )),
            Kind::Or(left, right) => Ok(Value::Boolean(
                self.one(left, env, input)?.is_truthy() || self.one(right, env, input)?.is_truthy(),
            )),
            Kind::If {
                condition,
                then,
                otherwise,
            } => match (self.one(condition, env, input)?.is_truthy(), otherwise) {
                (true, _) => self.one(then, env, input),
                (false, Some(otherwise)) => self.one(otherwise, env, input),
                (false, None) => Ok(input.clone()),
            },
            Kind::Alternative(left, right) => {
                let value = self.one(left, env, input)?;
                if value.is_truthy() {
                    return Ok(value);
                }
                self.one(right, env, input)
            }
            Kind::Array(inner) => self.collect(inner.as_deref(), env, input),
            Kind::Object(members) => self.object(members, env, input),
            Kind::Binary(operator, left, right) => {
                let right = self.one(right, env, input)?;
                operate(*operator, self.one(left, env, input)?, right)
            }
            Kind::Negate(inner) => negate(&self.one(inner, env, input)?),
            Kind::Text(format, parts) => self.text(*format, parts, env, input),
            Kind::Native(native, arguments) => self.native(*native, arguments, env, input.clone()),
            Kind::Assign(..)
            | Kind::Update(..)
            | Kind::UpdateWith(..)
            | Kind::UpdateAlternative(..) => self.assigned(node, env, input.clone()),
            Kind::Each { .. }
            | Kind::Comma(..)
            | Kind::Try { .. }
            | Kind::Reduce { .. }
            | Kind::Foreach { .. }
            | Kind::Label(_)
            | Kind::Break(_)
            | Kind::Parameter(_)
            | Kind::Special(..) => self.last_of(node, env, input.clone()),
            Kind::Bind { .. } | Kind::Call { .. } => self.one_owned(node, env, input.clone()),
        }
    }

    /// Like [`Machine::one`], but may change the input in place, and each value that nothing except
    /// the input holds.
    pub(crate) fn one_owned(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        input: Value<'v>,
    ) -> Output<'v> {
        let (mut node, mut scope, mut input) = (node, Scope::Given(env), input);
        loop {
            let env = scope.get();
            match &node.kind {
                Kind::Pipe(left, right) => {
                    input = self.one_owned(left, env, input)?;
                    node = right;
                }
                Kind::If {
                    condition,
                    then,
                    otherwise,
                } => match (self.one(condition, env, &input)?.is_truthy(), otherwise) {
                    (true, _) => node = then,
                    (false, Some(otherwise)) => node = otherwise,
                    (false, None) => return Ok(input),
                },
                Kind::Alternative(left, right) => {
                    let value = self.one(left, env, &input)?;
                    if value.is_truthy() {
                        return Ok(value);
                    }
                    node = right;
                }
                Kind::Bind {
                    source,
                    patterns: patterns @ Patterns::One(_),
                    body,
                } => {
                    let value = self.one(source, env, &input)?;
                    scope = Scope::Own(self.bound_once(patterns, env, value)?);
                    node = body;
                }
                Kind::Call {
                    function,
                    up,
                    arguments,
                    ..
                } => {
                    self.step()?;
                    let called = &self.functions[*function];
                    if !arguments.is_empty() {
                        let within = env.up(*up);
                        let inner = self.entered(called, within, arguments, env, &input)?;
                        scope = Scope::Own(inner);
                    } else if *up > 0 {
                        scope = Scope::Own(env.up(*up).clone());
                    }
                    node = &called.body;
                }
                _ => return self.changed(node, env, input),
            }
        }
    }

    /// Like [`Machine::one_owned`], for a part that is not the last one that the loop runs.
    fn changed(&self, node: &'v Node, env: &Environment<'v>, input: Value<'v>) -> Output<'v> {
        match &node.kind {
            Kind::Identity => Ok(input),
            Kind::Binary(operator, left, right) => {
                let right = self.one(right, env, &input)?;
                operate(*operator, self.one_owned(left, env, input)?, right)
            }
            Kind::Native(native, arguments) => self.native(*native, arguments, env, input),
            Kind::Assign(..)
            | Kind::Update(..)
            | Kind::UpdateWith(..)
            | Kind::UpdateAlternative(..) => self.assigned(node, env, input),
            Kind::Reduce { .. }
            | Kind::Foreach { .. }
            | Kind::Bind { .. }
            | Kind::Label(_)
            | Kind::Special(..) => self.last_of(node, env, input),
            _ => self.one(node, env, &input),
        }
    }

    /// Returns the last output of a part.
    fn last_of(&self, node: &'v Node, env: &Environment<'v>, input: Value<'v>) -> Output<'v> {
        let mut last = None;
        self.check()?;
        self.follow(node, env, input, &mut |value: Value<'v>| {
            last = Some(value);
            Ok(())
        })?;
        last.ok_or_else(|| error("a part of the expression gave no value"))
    }

    fn native(
        &self,
        native: Native,
        arguments: &'v [Node],
        env: &Environment<'v>,
        input: Value<'v>,
    ) -> Output<'v> {
        match arguments {
            [] => native.run(input, &[]),
            [argument] => {
                let argument = self.one(argument, env, &input)?;
                native.run(input, &[argument])
            }
            arguments => {
                // The argument that changes least often is computed first, because it may fail.
                let mut given = vec![Value::Null; arguments.len()];
                for step in 0..arguments.len() {
                    let at = native.nth(step, arguments.len());
                    given[at] = self.one(&arguments[at], env, &input)?;
                }
                native.run(input, &given)
            }
        }
    }
}

pub(crate) fn negate<'v>(value: &Value<'v>) -> Output<'v> {
    value
        .negated()
        .ok_or_else(|| unfit(value, "cannot be negated"))
}
