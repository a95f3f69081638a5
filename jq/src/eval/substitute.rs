//! `sub` and `gsub`. Each output of the replacement gives a separate result.

use super::environment::Environment;
use super::flow::{Flow, error};
use super::operate::add;
use super::{Machine, Taker};
use crate::builtins::matches::{Rest, matches, named};
use crate::program::Node;
use crate::value::Value;

impl<'v> Machine<'_, 'v> {
    pub(super) fn substitute(
        &self,
        is_global: bool,
        arguments: &'v [Node],
        env: &Environment<'v>,
        input: &Value<'v>,
        out: Taker<'_, 'v, Value<'v>>,
    ) -> Flow<'v> {
        let [pattern, replacement, rest @ ..] = arguments else {
            return Err(error("a filter was given the wrong arguments"));
        };
        let global = |flags: Value<'v>| {
            if is_global {
                add(flags, Value::from("g"))
            } else {
                Ok(flags)
            }
        };
        self.values(pattern, env, input, &mut |pattern| {
            if let Some(flags) = rest.first() {
                return self.values(flags, env, input, &mut |flags| {
                    let flags = global(flags)?;
                    self.substituted(&pattern, replacement, &flags, env, input, out)
                });
            }
            let flags = global(Value::from(""))?;
            self.substituted(&pattern, replacement, &flags, env, input, out)
        })
    }

    fn substituted(
        &self,
        pattern: &Value<'v>,
        replacement: &'v Node,
        flags: &Value<'v>,
        env: &Environment<'v>,
        input: &Value<'v>,
        out: Taker<'_, 'v, Value<'v>>,
    ) -> Flow<'v> {
        let (regex, found) = matches(input, pattern, flags)?;
        let Value::String(text) = input else {
            return Ok(());
        };
        let mut rest = Rest::new(text);
        let mut results: Vec<Value<'v>> = Vec::new();
        for found in &found {
            let gap = Value::String(rest.up_to(found.offset));
            let mut count = 0;
            self.values(replacement, env, &named(&regex, found), &mut |inserted| {
                let piece = add(gap.clone(), inserted)?;
                if results.len() == count {
                    results.push(Value::Null);
                }
                let before = std::mem::replace(&mut results[count], Value::Null);
                results[count] = add(before, piece)?;
                count += 1;
                Ok(())
            })?;
            rest.skip(found.length);
        }
        if results.is_empty() {
            return out(input.clone());
        }
        let tail = Value::String(rest.all());
        for result in results {
            out(add(result, tail.clone())?)?;
        }
        Ok(())
    }
}
