//! Parts that build a value from the outputs of their own parts: arrays, objects, strings,
//! operators and filters of values. There is one value for each combination of these outputs.

use super::environment::Environment;
use super::flow::{Failure, Flow, Output, error};
use super::one::negate;
use super::operate::{SHOWN_BYTES, operate};
use super::{Machine, Taker};
use crate::builtins::Native;
use crate::builtins::format::{Format, apply};
use crate::meter;
use crate::program::{Kind, Node, Part};
use crate::value::elements::Elements;
use crate::value::object::Object;
use crate::value::{Text, Value};
use std::rc::Rc;

impl<'v> Machine<'_, 'v> {
    /// Passes every output of a part that makes new values to `out`.
    pub(super) fn computed(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        input: &Value<'v>,
        out: Taker<'_, 'v, Value<'v>>,
    ) -> Flow<'v> {
        if node.is_single {
            return out(self.one(node, env, input)?);
        }
        match &node.kind {
            Kind::And(left, right) => self.values(left, env, input, &mut |left| {
                if !left.is_truthy() {
                    return out(Value::Boolean(false));
                }
                self.values(right, env, input, &mut |right| {
                    out(Value::Boolean(right.is_truthy()))
                })
            }),
            Kind::Or(left, right) => self.values(left, env, input, &mut |left| {
                if left.is_truthy() {
                    return out(Value::Boolean(true));
                }
                self.values(right, env, input, &mut |right| {
                    out(Value::Boolean(right.is_truthy()))
                })
            }),
            Kind::Object(members) => self.objects(members, Object::default(), env, input, out),
            Kind::Binary(operator, left, right) => self.values(right, env, input, &mut |right| {
                self.values(left, env, input, &mut |left| {
                    out(operate(*operator, left, right.clone())?)
                })
            }),
            Kind::Negate(inner) => {
                self.values(inner, env, input, &mut |value| out(negate(&value)?))
            }
            Kind::Text(format, parts) => {
                self.texts(*format, parts, &mut Vec::new(), env, input, out)
            }
            Kind::Native(native, arguments) => {
                let mut given = vec![Value::Null; arguments.len()];
                self.natives(*native, arguments, 0, &mut given, env, input, out)
            }
            Kind::Assign(_, value)
            | Kind::UpdateWith(_, _, value)
            | Kind::UpdateAlternative(_, value) => self.values(value, env, input, &mut |value| {
                out(self.assigned_value(node, env, input.clone(), &value)?)
            }),
            // Every other part gives exactly one value, or is run by the caller.
            _ => out(self.one(node, env, input)?),
        }
    }

    /// `[inner]`
    pub(super) fn collect(
        &self,
        inner: Option<&'v Node>,
        env: &Environment<'v>,
        input: &Value<'v>,
    ) -> Output<'v> {
        let mut elements = Elements::default();
        if let Some(inner) = inner {
            self.values(inner, env, input, &mut |value| Ok(elements.push(value)?))?;
        }
        Ok(Value::Array(Rc::new(elements)))
    }

    /// Returns the object of `{…}`, if each of its parts gives exactly one value.
    pub(super) fn object(
        &self,
        members: &'v [(Node, Node)],
        env: &Environment<'v>,
        input: &Value<'v>,
    ) -> Output<'v> {
        let mut object = Object::with_capacity(members.len());
        for (key, value) in members {
            let key = key_text(self.one(key, env, input)?);
            let value = self.one(value, env, input)?;
            object.insert(key?, value);
        }
        Ok(Value::Object(Rc::new(object)))
    }

    fn objects(
        &self,
        members: &'v [(Node, Node)],
        object: Object<'v>,
        env: &Environment<'v>,
        input: &Value<'v>,
        out: Taker<'_, 'v, Value<'v>>,
    ) -> Flow<'v> {
        let Some(((key, value), rest)) = members.split_first() else {
            return out(Value::Object(Rc::new(object)));
        };
        self.values(key, env, input, &mut |key| {
            self.values(value, env, input, &mut |value| {
                let mut object = object.clone();
                object.insert(key_text(key.clone())?, value);
                self.objects(rest, object, env, input, out)
            })
        })
    }

    /// Returns a string with interpolations, if each of its parts gives exactly one value.
    pub(super) fn text(
        &self,
        format: Format,
        parts: &'v [Part],
        env: &Environment<'v>,
        input: &Value<'v>,
    ) -> Output<'v> {
        let mut text = String::new();
        for (at, part) in parts.iter().enumerate() {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Code(node) => {
                    let part = match self.formatted(format, node, env, input) {
                        Ok(part) => part,
                        Err(failure) => {
                            return Err(self.last_failure(
                                format,
                                &parts[at + 1..],
                                env,
                                input,
                                failure,
                            ));
                        }
                    };
                    meter::room(text.len() + part.len())?;
                    text.push_str(&part);
                }
            }
        }
        Ok(Value::from(text))
    }

    fn formatted(
        &self,
        format: Format,
        node: &'v Node,
        env: &Environment<'v>,
        input: &Value<'v>,
    ) -> Result<Text<'v>, Failure<'v>> {
        apply(format, self.one(node, env, input)?)
    }

    /// Returns the failure that is reported. If several parts fail, it is the failure of the last
    /// part, because jq evaluates the last part first.
    fn last_failure(
        &self,
        format: Format,
        behind: &'v [Part],
        env: &Environment<'v>,
        input: &Value<'v>,
        failure: Failure<'v>,
    ) -> Failure<'v> {
        let codes = behind.iter().rev().filter_map(|part| match part {
            Part::Code(node) => Some(node),
            Part::Text(_) => None,
        });
        for node in codes {
            if let Err(later) = self.formatted(format, node, env, input) {
                return later;
            }
        }
        failure
    }

    /// Passes all strings that the parts can make to `out`. `done` has the texts of the last parts,
    /// in reverse order.
    fn texts(
        &self,
        format: Format,
        parts: &'v [Part],
        done: &mut Vec<Text<'v>>,
        env: &Environment<'v>,
        input: &Value<'v>,
        out: Taker<'_, 'v, Value<'v>>,
    ) -> Flow<'v> {
        let Some((last, before)) = parts.split_last() else {
            let texts = done.iter().rev().map(|text| &**text);
            meter::room(texts.clone().map(str::len).sum())?;
            return out(Value::from(texts.collect::<String>()));
        };
        match last {
            Part::Text(text) => {
                done.push(Text::Borrowed(text));
                let flow = self.texts(format, before, done, env, input, out);
                done.pop();
                flow
            }
            Part::Code(node) => self.values(node, env, input, &mut |value| {
                done.push(apply(format, value)?);
                let flow = self.texts(format, before, done, env, input, out);
                done.pop();
                flow
            }),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a step of a loop over arguments needs all of these"
    )]
    fn natives(
        &self,
        native: Native,
        arguments: &'v [Node],
        chosen: usize,
        given: &mut Vec<Value<'v>>,
        env: &Environment<'v>,
        input: &Value<'v>,
        out: Taker<'_, 'v, Value<'v>>,
    ) -> Flow<'v> {
        if chosen == arguments.len() {
            return out(native.run(input.clone(), given)?);
        }
        let at = native.nth(chosen, arguments.len());
        self.values(&arguments[at], env, input, &mut |value| {
            given[at] = value;
            self.natives(native, arguments, chosen + 1, given, env, input, out)
        })
    }
}

fn key_text(key: Value<'_>) -> Result<Text<'_>, Failure<'_>> {
    match key {
        Value::String(text) => Ok(text),
        other => Err(error(format!(
            "Cannot use {} as object key",
            other.shown(SHOWN_BYTES)
        ))),
    }
}
