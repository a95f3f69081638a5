//! Assignments: `=`, `|=` and arithmetic assignments such as `+=`.

use super::environment::Environment;
use super::flow::{Failure, Flow, Output, Stop, error};
use super::item::{Item, Placed};
use super::operate::operate;
use super::paths::{change_path, delete_paths, get_path, set_path};
use super::{Machine, Taker};
use crate::program::{Kind, Node};
use crate::value::Value;

/// How many paths an assignment collects at most before it changes anything. After it has collected
/// all paths, nothing else holds the input, so it can change the input in place. If there are more
/// paths than this, or if the paths may be endless until a change fails, the assignment changes the
/// input after each path.
const MOST_WAITING: usize = 1 << 10;

impl<'v> Machine<'_, 'v> {
    /// Returns the output of an assignment whose right side gives exactly one value.
    pub(super) fn assigned(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        input: Value<'v>,
    ) -> Output<'v> {
        match &node.kind {
            Kind::Update(paths, update) => self.update(paths, update, env, input),
            Kind::Assign(_, value)
            | Kind::UpdateWith(_, _, value)
            | Kind::UpdateAlternative(_, value) => {
                let value = self.one(value, env, &input)?;
                self.assigned_value(node, env, input, &value)
            }
            _ => Err(error("not an assignment")),
        }
    }

    /// Returns the output of an assignment for one value of its right side.
    pub(super) fn assigned_value(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        input: Value<'v>,
        value: &Value<'v>,
    ) -> Output<'v> {
        let (Kind::Assign(paths, _)
        | Kind::UpdateWith(_, paths, _)
        | Kind::UpdateAlternative(paths, _)) = &node.kind
        else {
            return Err(error("not an assignment"));
        };
        self.change_each(paths, env, input, &mut |input, path| {
            change_path(input, &path, &mut |old| match &node.kind {
                Kind::UpdateWith(operator, ..) => operate(*operator, old, value.clone()),
                Kind::UpdateAlternative(..) if old.is_truthy() => Ok(old),
                _ => Ok(value.clone()),
            })
        })
    }

    /// `paths |= update`: the first output of `update` replaces the old value. If there is no
    /// output, the old value is deleted.
    pub(super) fn update(
        &self,
        paths: &'v Node,
        update: &'v Node,
        env: &Environment<'v>,
        input: Value<'v>,
    ) -> Output<'v> {
        let mut deleted = Vec::new();
        let input = self.change_each(paths, env, input, &mut |input, path| {
            if update.is_single {
                return change_path(input, &path, &mut |old| self.one_owned(update, env, old));
            }
            let path = Value::array(path);
            let old = get_path(&input, &path)?;
            if let Some(new) = self.first_of(update, env, old)? {
                return set_path(input, &path.into_elements(), new);
            }
            deleted.push(path);
            Ok(input)
        })?;
        if deleted.is_empty() {
            return Ok(input);
        }
        delete_paths(input, Value::array(deleted))
    }

    /// Applies `change` to the input at each path that a part gives, in their order.
    pub(super) fn change_each(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        input: Value<'v>,
        change: &mut dyn FnMut(Value<'v>, Vec<Value<'v>>) -> Output<'v>,
    ) -> Output<'v> {
        let (mut waiting, mut changed) = (Vec::new(), None);
        let most_waiting = if node.ending.is_unknown {
            0
        } else {
            MOST_WAITING
        };
        let flow = self.run(node, env, Placed::plain(input.clone()), &mut |placed| {
            let path = placed.into_path()?;
            if changed.is_none() && waiting.len() < most_waiting {
                waiting.push(path);
                return Ok(());
            }
            let mut value = changed.take().unwrap_or_else(|| input.clone());
            for path in waiting.drain(..).chain([path]) {
                value = change(value, path)?;
            }
            changed = Some(value);
            Ok(())
        });
        let mut value = changed.unwrap_or(input);
        for path in waiting {
            value = change(value, path)?;
        }
        flow.map(|()| value)
    }

    /// `del(paths)`
    pub(super) fn delete(
        &self,
        paths: &'v Node,
        env: &Environment<'v>,
        input: Value<'v>,
    ) -> Output<'v> {
        let mut found = Vec::new();
        self.each_path(paths, env, &input, &mut |path| {
            found.push(path);
            Ok(())
        })?;
        delete_paths(input, Value::array(found))
    }

    /// `pick(paths)`
    pub(super) fn pick(
        &self,
        paths: &'v Node,
        env: &Environment<'v>,
        input: &Value<'v>,
    ) -> Output<'v> {
        let mut picked = Value::Null;
        self.each_path(paths, env, input, &mut |path| {
            let value = get_path(input, &path)?;
            let before = std::mem::replace(&mut picked, Value::Null);
            picked = set_path(before, &path.into_elements(), value)?;
            Ok(())
        })?;
        Ok(picked)
    }

    /// Returns the first value that `source` gives. Fails if `source` catches the request to stop,
    /// because jq then loses its list of paths.
    pub(super) fn first_given(
        &self,
        source: impl FnOnce(Taker<'_, 'v, Value<'v>>) -> Flow<'v>,
    ) -> Result<Option<Value<'v>>, Failure<'v>> {
        let (mut first, mut count) = (None, 0);
        self.until_enough(|wish| {
            source(&mut |value| {
                first = Some(value);
                count += 1;
                Err(Box::new(Stop::Enough(wish)))
            })
        })?;
        if count > 1 {
            return Err(error("Paths must be specified as an array"));
        }
        Ok(first)
    }

    /// Returns the first output of a part.
    pub(super) fn first_of(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        input: Value<'v>,
    ) -> Result<Option<Value<'v>>, Failure<'v>> {
        if node.is_single {
            return self.one_owned(node, env, input).map(Some);
        }
        self.first_given(|give| self.run(node, env, input, give))
    }

    /// Passes every path that a part leads to, as an array, to `out`.
    fn each_path(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        input: &Value<'v>,
        out: Taker<'_, 'v, Value<'v>>,
    ) -> Flow<'v> {
        let from = Placed::plain(input.clone());
        self.run(node, env, from, &mut |placed: Placed<'v>| {
            out(Value::array(placed.into_path()?))
        })
    }
}
