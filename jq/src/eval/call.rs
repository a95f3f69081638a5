//! Calls of definitions: binds the arguments and runs the body.

use super::environment::{Bound, Environment};
use super::flow::{Failure, Flow};
use super::item::Item;
use super::{Machine, Taker};
use crate::program::{Function, Kind, Node};
use crate::value::Value;

impl Function {
    /// Whether each argument that is passed by value gives exactly one value.
    pub(super) fn takes_one_of_each(&self, arguments: &[Node]) -> bool {
        let mut given = self.parameters.iter().zip(arguments);
        given.all(|(parameter, argument)| argument.is_single || !parameter.is_value)
    }
}

impl<'v> Machine<'_, 'v> {
    /// Returns the environment of a definition's body. It begins with the environment in which the
    /// definition was made. First, each argument that is a filter adds a link. Then each argument
    /// that is a value adds a link. Each argument that is a value must give exactly one value.
    pub(super) fn entered(
        &self,
        function: &'v Function,
        within: &Environment<'v>,
        arguments: &'v [Node],
        caller: &Environment<'v>,
        input: &Value<'v>,
    ) -> Result<Environment<'v>, Failure<'v>> {
        let mut inner = with_filters(function, within, arguments, caller);
        for (parameter, argument) in function.parameters.iter().zip(arguments) {
            if parameter.is_value {
                let value = self.one(argument, caller, input)?;
                inner = inner.with(Bound::Value(value));
            }
        }
        Ok(inner)
    }

    /// Runs a definition's body for every combination of the values of its arguments. If the body
    /// ends in a recursion, the body is not run for the last combination, and its environment is
    /// returned.
    pub(super) fn call_for_each<M: Item<'v>>(
        &self,
        function: &'v Function,
        within: &Environment<'v>,
        arguments: &'v [Node],
        caller: &Environment<'v>,
        item: &M,
        out: Taker<'_, 'v, M>,
    ) -> Result<Option<Environment<'v>>, Failure<'v>> {
        let inner = with_filters(function, within, arguments, caller);
        let values = function.parameters.iter().zip(arguments);
        let values = values.filter(|(parameter, _)| parameter.is_value);
        let values: Vec<&'v Node> = values.map(|(_, argument)| argument).collect();
        let mut combinations = |give: Taker<'_, 'v, Environment<'v>>| {
            self.bind_each(&values, &inner, caller, item.value(), give)
        };
        let mut go = |inner: Environment<'v>| self.run(&function.body, &inner, item.clone(), out);
        if function.body.ends_in_recursion {
            return self.all_but_last(&mut combinations, &mut go);
        }
        combinations(&mut go)?;
        Ok(None)
    }

    /// Runs `body` for each combination of the outputs of `values`. Each combination adds one link
    /// for each argument, the link of the first argument first.
    fn bind_each(
        &self,
        values: &[&'v Node],
        inner: &Environment<'v>,
        caller: &Environment<'v>,
        input: &Value<'v>,
        body: Taker<'_, 'v, Environment<'v>>,
    ) -> Flow<'v> {
        let Some((first, rest)) = values.split_first() else {
            return body(inner.clone());
        };
        self.values(first, caller, input, &mut |value| {
            let inner = inner.with(Bound::Value(value));
            self.bind_each(rest, &inner, caller, input, body)
        })
    }
}

fn with_filters<'v>(
    function: &Function,
    within: &Environment<'v>,
    arguments: &'v [Node],
    caller: &Environment<'v>,
) -> Environment<'v> {
    let mut inner = within.clone();
    for (parameter, argument) in function.parameters.iter().zip(arguments) {
        if parameter.is_filter {
            inner = inner.with(filter(argument, caller));
        }
    }
    inner
}

/// Resolves an argument that is itself a parameter of the caller. Follows it through all calls that
/// passed it on.
fn filter<'v>(argument: &'v Node, caller: &Environment<'v>) -> Bound<'v> {
    if let Kind::Parameter(up) = argument.kind
        && let Some(Bound::Filter(node, within)) = caller.bound(up)
    {
        return Bound::Filter(node, within.clone());
    }
    Bound::Filter(argument, caller.clone())
}
