//! Assignments: of values, and of what a filter makes of the old ones.

use super::Machine;
use super::environment::Environment;
use super::flow::{Failure, Output, Stop, error};
use super::item::{Item, Placed};
use super::operate::operate;
use super::paths::{change_path, delete_paths, get_path, set_path};
use crate::program::{Kind, Node};
use crate::value::Value;

impl<'v> Machine<'_, 'v> {
    /// The output of an assignment whose right side gives one value.
    pub(super) fn assigned(
        &self,
        node: &'v Node,
        env: Environment<'_, 'v>,
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

    /// The output of an assignment for one value of its right side.
    pub(super) fn assigned_value(
        &self,
        node: &'v Node,
        env: Environment<'_, 'v>,
        mut input: Value<'v>,
        value: &Value<'v>,
    ) -> Output<'v> {
        let (Kind::Assign(paths, _)
        | Kind::UpdateWith(_, paths, _)
        | Kind::UpdateAlternative(paths, _)) = &node.kind
        else {
            return Err(error("not an assignment"));
        };
        let (paths, failure) = self.paths_of(paths, env, &input);
        for path in paths {
            input = change_path(input, &path, &mut |old| match &node.kind {
                Kind::UpdateWith(operator, ..) => operate(*operator, old, value.clone()),
                Kind::UpdateAlternative(..) if old.is_truthy() => Ok(old),
                _ => Ok(value.clone()),
            })?;
        }
        failure.map_or(Ok(input), Err)
    }

    /// `paths |= update`: the first output of `update` takes the place of what was there; without one it is deleted.
    pub(super) fn update(
        &self,
        paths: &'v Node,
        update: &'v Node,
        env: Environment<'_, 'v>,
        mut input: Value<'v>,
    ) -> Output<'v> {
        let (paths, failure) = self.paths_of(paths, env, &input);
        let mut deleted = Vec::new();
        for path in paths {
            if update.is_single {
                input = change_path(input, &path, &mut |old| self.one_owned(update, env, old))?;
                continue;
            }
            let path = Value::array(path);
            let old = get_path(&input, &path)?;
            match self.first_of(update, env, old)? {
                Some(new) => input = set_path(input, &path.into_elements(), new)?,
                None => deleted.push(path),
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        if deleted.is_empty() {
            return Ok(input);
        }
        delete_paths(input, Value::array(deleted))
    }

    /// `del(paths)`
    pub(super) fn delete(
        &self,
        paths: &'v Node,
        env: Environment<'_, 'v>,
        input: Value<'v>,
    ) -> Output<'v> {
        let (paths, failure) = self.paths_of(paths, env, &input);
        if let Some(failure) = failure {
            return Err(failure);
        }
        delete_paths(
            input,
            Value::array(paths.into_iter().map(Value::array).collect()),
        )
    }

    /// `pick(paths)`
    pub(super) fn pick(
        &self,
        paths: &'v Node,
        env: Environment<'_, 'v>,
        input: &Value<'v>,
    ) -> Output<'v> {
        let (paths, failure) = self.paths_of(paths, env, input);
        let mut picked = Value::Null;
        for path in paths {
            let path = Value::array(path);
            let value = get_path(input, &path)?;
            picked = set_path(picked, &path.into_elements(), value)?;
        }
        failure.map_or(Ok(picked), Err)
    }

    /// The first output of a part.
    pub(super) fn first_of(
        &self,
        node: &'v Node,
        env: Environment<'_, 'v>,
        input: Value<'v>,
    ) -> Result<Option<Value<'v>>, Failure<'v>> {
        if node.is_single {
            return self.one_owned(node, env, input).map(Some);
        }
        let wish = self.wish();
        let mut first = None;
        let flow = self.run(node, env, input, &mut |value: Value<'v>| {
            first = Some(value);
            Err(Box::new(Stop::Enough(wish)))
        });
        match flow {
            Err(stop) if !matches!(*stop, Stop::Enough(wished) if wished == wish) => Err(stop),
            Ok(()) | Err(_) => Ok(first),
        }
    }

    /// All paths that a part leads to before it ends or fails.
    fn paths_of(
        &self,
        node: &'v Node,
        env: Environment<'_, 'v>,
        input: &Value<'v>,
    ) -> (Vec<Vec<Value<'v>>>, Option<Failure<'v>>) {
        let mut paths = Vec::new();
        let flow = self.run(node, env, Placed::plain(input.clone()), &mut |placed| {
            paths.push(placed.into_path()?);
            Ok(())
        });
        (paths, flow.err())
    }
}
