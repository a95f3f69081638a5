//! The evaluator. It passes each output of a part to a receiver, which returns whether to continue.
//! It collects no outputs and builds no iterators. If the last step of a definition is a call of
//! the same definition, a loop runs this call, so it uses no stack. Any other recursion of a
//! program is recursion of the evaluator, within a limit.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is not of the wanted type is refused in one sentence"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "items are passed by value: a value that is held only once may be changed in place"
)]
#![expect(
    clippy::unnecessary_box_returns,
    reason = "failures are always boxed, so that results stay small"
)]
#![expect(
    clippy::unused_self,
    reason = "all steps of a machine are called the same way"
)]

use std::cell::Cell;

use crate::builtins::Native;
use crate::program::{Constant, Function, Kind, Node, Pattern, Patterns};
use crate::value::{Text, Type, Value};
use crate::{Exhausted, meter, stack};
use environment::{Bound, Environment};
use flow::{Failure, Flow, Stop};
use item::Item;

pub(crate) mod access;
mod assign;
mod bind;
mod call;
mod collect;
pub(crate) mod environment;
pub(crate) mod flow;
pub(crate) mod item;
mod locate;
pub(crate) mod one;
pub(crate) mod operate;
pub(crate) mod paths;
pub(crate) mod special;
mod substitute;
mod traced;

/// How many steps one turn of a loop costs, if the loop runs a program.
const TURN_STEPS: usize = 3;

/// A receiver of outputs.
type Taker<'t, 'v, T> = &'t mut dyn FnMut(T) -> Flow<'v>;

/// The state of one run of a program.
pub(crate) struct Machine<'g, 'v> {
    functions: &'v [Function],
    globals: &'g [Value<'v>],
    /// The number of the next label.
    labels: Cell<u64>,
    /// The number of the next [`Stop::Enough`], which the evaluator itself causes.
    wishes: Cell<u64>,
    /// How many failures the alternatives of patterns have caught.
    caught: Cell<u64>,
    /// The lowest address that the stack may reach.
    floor: usize,
}

/// The environment in which the loop of [`Machine::run`] continues: one that it made, or the one
/// that it was given.
enum Scope<'e, 'v> {
    Given(&'e Environment<'v>),
    Own(Environment<'v>),
}

impl<'v> Scope<'_, 'v> {
    fn get(&self) -> &Environment<'v> {
        match self {
            Self::Given(environment) => environment,
            Self::Own(environment) => environment,
        }
    }
}

impl<'g, 'v> Machine<'g, 'v> {
    pub(crate) fn new(functions: &'v [Function], globals: &'g [Value<'v>]) -> Self {
        Self {
            functions,
            globals,
            labels: Cell::new(0),
            wishes: Cell::new(0),
            caught: Cell::new(0),
            floor: stack::floor(),
        }
    }

    /// Fails if the stack is nearly used up, or values take too much memory.
    #[inline]
    fn check(&self) -> Result<(), Failure<'v>> {
        if stack::here() < self.floor {
            return Err(Exhausted::Recursion.into());
        }
        Ok(meter::room(0)?)
    }

    /// Like [`Machine::check`], before a call.
    #[inline]
    fn step(&self) -> Result<(), Failure<'v>> {
        if stack::here() < self.floor {
            return Err(Exhausted::Recursion.into());
        }
        Ok(meter::step(1)?)
    }

    /// Like [`Machine::check`], before a turn of a loop that runs a program.
    #[inline]
    fn turn(&self) -> Result<(), Failure<'v>> {
        self.check()?;
        Ok(meter::step(TURN_STEPS)?)
    }

    /// Passes every output of `node` for `item` to `out`.
    pub(crate) fn run<M: Item<'v>>(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        self.check()?;
        let (mut node, mut scope, mut item) = (node, Scope::Given(env), item);
        loop {
            let env = scope.get();
            if M::HAS_PATHS
                && let Some(flow) = self.traced(node, env, &item, out)
            {
                return flow;
            }
            if is_direct::<M>(node) {
                return self.direct(node, env, item, out);
            }
            match &node.kind {
                Kind::Pipe(left, right) => {
                    let Some(last) = self.piped(left, right, env, item, out)? else {
                        return Ok(());
                    };
                    (node, item) = (right, last);
                }
                Kind::Comma(left, right) => {
                    self.run(left, env, item.clone(), out)?;
                    node = right;
                }
                Kind::Alternative(left, right) => {
                    if self.gives_truth(left, env, item.clone(), out)? {
                        return Ok(());
                    }
                    node = right;
                }
                Kind::If {
                    condition,
                    then,
                    otherwise,
                } => {
                    let branches = (&**then, otherwise.as_deref());
                    let Some(is_true) = self.choose(condition, branches, env, &item, out)? else {
                        return Ok(());
                    };
                    match (is_true, otherwise) {
                        (true, _) => node = then,
                        (false, Some(otherwise)) => node = otherwise,
                        (false, None) => return out(item),
                    }
                }
                Kind::Bind {
                    source,
                    patterns: Patterns::One(Pattern::Variable),
                    body,
                } if source.is_single => {
                    let value = self.one(source, env, item.value())?;
                    scope = Scope::Own(env.with(Bound::Value(value)));
                    node = body;
                }
                Kind::Bind {
                    source,
                    patterns,
                    body,
                } if body.ends_in_recursion && matches!(patterns, Patterns::One(_)) => {
                    let last = self.bound_but_last(source, patterns, body, env, &item, out)?;
                    let Some(last) = last else { return Ok(()) };
                    scope = Scope::Own(last);
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
                    if !called.takes_one_of_each(arguments) {
                        let within = env.up(*up);
                        let last =
                            self.call_for_each(called, within, arguments, env, &item, out)?;
                        let Some(last) = last else { return Ok(()) };
                        scope = Scope::Own(last);
                    } else if !arguments.is_empty() {
                        let within = env.up(*up);
                        let inner = self.entered(called, within, arguments, env, item.value())?;
                        scope = Scope::Own(inner);
                    } else if *up > 0 {
                        scope = Scope::Own(env.up(*up).clone());
                    }
                    node = &called.body;
                }
                Kind::Parameter(up) => match env.bound(*up) {
                    Some(Bound::Filter(filter, within)) => {
                        node = filter;
                        scope = Scope::Own(within.clone());
                    }
                    Some(Bound::Value(_) | Bound::Label(_)) | None => return Ok(()),
                },
                _ => return self.follow(node, env, item, out),
            }
        }
    }

    /// Returns the output of a program that has exactly one.
    pub(crate) fn run_single(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        input: Value<'v>,
    ) -> flow::Output<'v> {
        self.check()?;
        self.one_owned(node, env, input)
    }

    /// Passes the output of a part that gives exactly one new value to `out`.
    fn direct<M: Item<'v>>(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        if M::HAS_PATHS {
            let mut value = self.one(node, env, item.value())?;
            if is_new_string(node)
                && let Value::String(text) = &value
            {
                value = Value::from(text.to_string());
            }
            return out(item.replaced(value));
        }
        out(M::plain(self.one_owned(node, env, item.into_value())?))
    }

    /// Runs the left side of a pipe, and the right side for each of its outputs except the last
    /// one. Returns the last output if the right side has not been run for it.
    fn piped<M: Item<'v>>(
        &self,
        left: &'v Node,
        right: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Result<Option<M>, Failure<'v>> {
        if left.is_single && !M::HAS_PATHS {
            let value = self.one_owned(left, env, item.into_value())?;
            return Ok(Some(M::plain(value)));
        }
        if left.is_single || right.ends_in_recursion {
            return self.all_but_last(
                &mut |give| self.run(left, env, item.clone(), give),
                &mut |item| self.run(right, env, item, out),
            );
        }
        self.run(left, env, item, &mut |item| self.run(right, env, item, out))?;
        Ok(None)
    }

    /// Runs `body` for every way to bind the values except the last one, and returns the
    /// environment of the last one.
    fn bound_but_last<M: Item<'v>>(
        &self,
        source: &'v Node,
        patterns: &'v Patterns,
        body: &'v Node,
        env: &Environment<'v>,
        item: &M,
        out: Taker<'_, 'v, M>,
    ) -> Result<Option<Environment<'v>>, Failure<'v>> {
        self.all_but_last(
            &mut |give| {
                self.values(source, env, item.value(), &mut |value| {
                    self.bind(patterns, env, value, &mut |env| give(env.clone()))
                })
            },
            &mut |env| self.run(body, &env, item.clone(), out),
        )
    }

    /// Passes every output of `source` except the last one to `each`, and returns the last one. If
    /// `source` fails, `each` gets the last one too.
    fn all_but_last<T>(
        &self,
        source: &mut dyn FnMut(Taker<'_, 'v, T>) -> Flow<'v>,
        each: Taker<'_, 'v, T>,
    ) -> Result<Option<T>, Failure<'v>> {
        let mut latest = None;
        let mut behind = None;
        let flow = source(&mut |next| match latest.replace(next) {
            Some(before) => self.noted(each(before), &mut behind),
            None => Ok(()),
        });
        let Err(failure) = flow else {
            return Ok(latest);
        };
        if let Some(last) = latest
            && !self.is_from(behind)
        {
            each(last)?;
        }
        Err(failure)
    }

    /// Passes the outputs that are neither null nor false to `out`. Returns whether there are any.
    fn gives_truth<M: Item<'v>>(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Result<bool, Failure<'v>> {
        let mut is_found = false;
        self.run(node, env, item, &mut |item: M| {
            if !item.value().is_truthy() {
                return Ok(());
            }
            is_found = true;
            out(item)
        })?;
        Ok(is_found)
    }

    /// Like [`Machine::run`], but only for parts that do not continue the loop of [`Machine::run`].
    /// Outputs are passed one by one, even if there is only one.
    fn follow<M: Item<'v>>(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        match &node.kind {
            Kind::Identity => out(item),
            Kind::Field {
                base,
                name,
                optional,
            } => self.with_base(base.as_deref(), env, item, &mut |item: M| {
                self.field(&item, name, *optional, out)
            }),
            Kind::Index {
                base,
                key,
                optional,
            } => self.keys(base, key, *optional, env, &item, out),
            Kind::Slice {
                base,
                from,
                to,
                optional,
            } => {
                let bounds = (from.as_deref(), to.as_deref());
                self.slices(base, bounds, *optional, env, &item, out)
            }
            Kind::Each {
                base: Some(base), ..
            } if !M::HAS_PATHS && is_split(base) => self.split_each(base, env, &item, out),
            Kind::Each { base, optional } => {
                self.with_base(base.as_deref(), env, item, &mut |item: M| {
                    self.each(&item, *optional, out)
                })
            }
            Kind::Break(up) => Err(Box::new(match env.bound(*up) {
                Some(Bound::Label(label)) => Stop::Break(*label),
                Some(Bound::Value(_) | Bound::Filter(..)) | None => Stop::Error(Value::Null),
            })),
            Kind::Special(special, arguments) => self.special(*special, arguments, env, item, out),
            Kind::Pipe(..)
            | Kind::Comma(..)
            | Kind::Alternative(..)
            | Kind::If { .. }
            | Kind::Call { .. }
            | Kind::Parameter(_) => self.run(node, env, item, out),
            _ => self.scoped(node, env, item, out),
        }
    }

    /// Runs parts that bind variables or catch errors.
    fn scoped<M: Item<'v>>(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        match &node.kind {
            Kind::Try { body, handler } => self.attempt(body, handler.as_deref(), env, item, out),
            Kind::Label(body) => self.label(body, env, item, out),
            Kind::Reduce {
                source,
                patterns,
                start,
                update,
            } => self.reduce(source, patterns, (start, update), env, item, out),
            Kind::Foreach {
                source,
                patterns,
                start,
                update,
                extract,
            } => {
                let body = (&**start, &**update, extract.as_deref());
                self.foreach(source, patterns, body, env, item, out)
            }
            Kind::Bind {
                source,
                patterns,
                body,
            } => {
                let input = item.value().clone();
                self.values(source, env, &input, &mut |value| {
                    self.bind(patterns, env, value, &mut |env| {
                        self.run(body, env, item.clone(), out)
                    })
                })
            }
            _ => self.anew(node, env, item, out),
        }
    }

    /// Evaluates the part before a field or bracket. If there is no such part, passes the input
    /// itself to `out`.
    fn with_base<M: Item<'v>>(
        &self,
        base: Option<&'v Node>,
        env: &Environment<'v>,
        item: M,
        take: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        match base {
            None => take(item),
            Some(base) => self.run(base, env, item, take),
        }
    }

    /// Runs parts that make new values. Such values have no path.
    fn anew<M: Item<'v>>(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        match &node.kind {
            Kind::Constant(constant) => out(item.replaced(constant.value())),
            Kind::Variable(up) => out(item.replaced(env.value(*up))),
            Kind::Global(index) => out(item.replaced(self.global(*index))),
            _ => {
                let input = item.value().clone();
                self.computed(node, env, &input, &mut |value| {
                    out(item.clone().replaced(value))
                })
            }
        }
    }

    fn keys<M: Item<'v>>(
        &self,
        base: &'v Node,
        key: &'v Node,
        optional: bool,
        env: &Environment<'v>,
        item: &M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        let input = item.clone().into_value();
        self.values(key, env, &input, &mut |key| {
            self.run(base, env, item.clone(), &mut |item| {
                self.index(&item, &key, optional, out)
            })
        })
    }

    /// Runs the branch of a condition for each output of the condition except the last one, and
    /// returns the last one. If no branch ends in a recursion, the branch is run for the last
    /// output too, and nothing is returned.
    fn choose<M: Item<'v>>(
        &self,
        condition: &'v Node,
        (then, otherwise): (&'v Node, Option<&'v Node>),
        env: &Environment<'v>,
        item: &M,
        out: Taker<'_, 'v, M>,
    ) -> Result<Option<bool>, Failure<'v>> {
        if condition.is_single {
            return Ok(Some(self.one(condition, env, item.value())?.is_truthy()));
        }
        let mut go = |is_true: bool| match (is_true, otherwise) {
            (true, _) => self.run(then, env, item.clone(), out),
            (false, Some(otherwise)) => self.run(otherwise, env, item.clone(), out),
            (false, None) => out(item.clone()),
        };
        let mut conditions = |give: Taker<'_, 'v, bool>| {
            self.values(condition, env, item.value(), &mut |value| {
                give(value.is_truthy())
            })
        };
        if then.ends_in_recursion || otherwise.is_some_and(|other| other.ends_in_recursion) {
            return self.all_but_last(&mut conditions, &mut go);
        }
        conditions(&mut go)?;
        Ok(None)
    }

    fn label<M: Item<'v>>(
        &self,
        body: &'v Node,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        let label = self.labels.get();
        self.labels.set(label + 1);
        match self.run(body, &env.with(Bound::Label(label)), item, out) {
            Err(stop) if matches!(*stop, Stop::Break(broken) if broken == label) => Ok(()),
            flow => flow,
        }
    }

    /// Passes every output of `node` to `out`, without its path.
    pub(crate) fn values(
        &self,
        node: &'v Node,
        env: &Environment<'v>,
        input: &Value<'v>,
        out: Taker<'_, 'v, Value<'v>>,
    ) -> Flow<'v> {
        if node.is_single {
            return out(self.one(node, env, input)?);
        }
        self.run(node, env, input.clone(), out)
    }

    pub(crate) fn global(&self, index: usize) -> Value<'v> {
        self.globals.get(index).cloned().unwrap_or(Value::Null)
    }

    /// Records in `place` that a failure passed here.
    fn noted(&self, flow: Flow<'v>, place: &mut Option<u64>) -> Flow<'v> {
        if flow.is_err() {
            *place = Some(self.caught.get());
        }
        flow
    }

    /// Whether the current failure is the recorded one. It is if no pattern has caught a failure
    /// since it was recorded.
    fn is_from(&self, place: Option<u64>) -> bool {
        place == Some(self.caught.get())
    }

    /// Returns whether the next alternative of a pattern catches this failure. If so, counts it.
    fn catches(&self, stop: &Stop<'v>) -> bool {
        let catches = matches!(stop, Stop::Error(_) | Stop::Break(_) | Stop::Enough(_));
        if catches {
            self.caught.set(self.caught.get() + 1);
        }
        catches
    }

    /// Runs `work` with a new number. Returns whether `work` ended with the [`Stop::Enough`] of
    /// this number. Returns any other failure as an error.
    pub(crate) fn until_enough(
        &self,
        work: impl FnOnce(u64) -> Flow<'v>,
    ) -> Result<bool, Failure<'v>> {
        let wish = self.wishes.get();
        self.wishes.set(wish + 1);
        match work(wish) {
            Ok(()) => Ok(false),
            Err(stop) if matches!(*stop, Stop::Enough(wished) if wished == wish) => Ok(true),
            Err(stop) => Err(stop),
        }
    }

    fn field<M: Item<'v>>(
        &self,
        item: &M,
        name: &'v str,
        optional: bool,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        let key = || Value::from(name);
        item.check(&|value| element_attempt(&key(), &value))?;
        match access::field(item.value(), name) {
            Ok(value) => out(item.child(key, value)),
            Err(failure) => unless(optional, failure),
        }
    }

    fn index<M: Item<'v>>(
        &self,
        item: &M,
        key: &Value<'v>,
        optional: bool,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        item.check(&|value| element_attempt(key, &value))?;
        match access::index(item.value(), key) {
            Ok(value) => out(item.child(|| key.clone(), value)),
            Err(failure) => unless(optional, failure),
        }
    }

    fn slices<M: Item<'v>>(
        &self,
        base: &'v Node,
        (from, to): (Option<&'v Node>, Option<&'v Node>),
        optional: bool,
        env: &Environment<'v>,
        item: &M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        let input = item.clone().into_value();
        self.bound(from, env, &input, &mut |from| {
            self.bound(to, env, &input, &mut |to| {
                self.run(base, env, item.clone(), &mut |item| {
                    let key = || access::slice_key(from.clone(), to.clone());
                    item.check(&|value| element_attempt(&key(), &value))?;
                    match access::slice(item.value(), &from, &to) {
                        // In jq a part of a string is a separate string, even if the part is the
                        // whole string.
                        Ok(Value::String(text)) if M::HAS_PATHS => {
                            out(item.child(key, Value::from(text.to_string())))
                        }
                        Ok(value) => out(item.child(key, value)),
                        Err(failure) => unless(optional, failure),
                    }
                })
            })
        })
    }

    fn bound(
        &self,
        node: Option<&'v Node>,
        env: &Environment<'v>,
        input: &Value<'v>,
        out: Taker<'_, 'v, Value<'v>>,
    ) -> Flow<'v> {
        match node {
            Some(node) => self.values(node, env, input, out),
            None => out(Value::Null),
        }
    }

    pub(crate) fn each<M: Item<'v>>(
        &self,
        item: &M,
        optional: bool,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        item.check(&|value| {
            format!("Invalid path expression near attempt to iterate through {value}")
        })?;
        let value = item.value();
        match value.kind() {
            Type::Array => {
                for (at, element) in value.children().enumerate() {
                    meter::step(1)?;
                    out(item.child(|| Value::count(at), element))?;
                }
                Ok(())
            }
            Type::Object if !M::HAS_PATHS => {
                for member in value.children() {
                    meter::step(1)?;
                    out(item.child(|| Value::Null, member))?;
                }
                Ok(())
            }
            Type::Object => {
                for (key, member) in value.members() {
                    meter::step(1)?;
                    out(item.child(|| Value::String(key), member))?;
                }
                Ok(())
            }
            Type::Null | Type::False | Type::True | Type::Number | Type::String => unless(
                optional,
                flow::error(format!(
                    "Cannot iterate over {}",
                    value.shown(operate::SHOWN_BYTES)
                )),
            ),
        }
    }

    /// Runs `split(separator)[]`: passes the parts to `out` one by one, without their array.
    fn split_each<M: Item<'v>>(
        &self,
        split: &'v Node,
        env: &Environment<'v>,
        item: &M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        let Kind::Native(_, arguments) = &split.kind else {
            return Ok(());
        };
        self.check()?;
        let input = item.value();
        let separator = self.one(&arguments[0], env, input)?;
        Native::split_each(input, &separator, &mut |part| {
            meter::step(1)?;
            out(M::plain(part))
        })
    }

    fn attempt<M: Item<'v>>(
        &self,
        body: &'v Node,
        handler: Option<&'v Node>,
        env: &Environment<'v>,
        item: M,
        out: Taker<'_, 'v, M>,
    ) -> Flow<'v> {
        // `try` must not catch an error of the receiver, because it is not an error of the body.
        let mut behind = None;
        let before = handler.map(|_| item.clone());
        let flow = self.run(body, env, item, &mut |item| {
            self.noted(out(item), &mut behind)
        });
        let Err(failure) = flow else { return Ok(()) };
        if self.is_from(behind) {
            return Err(failure);
        }
        let message = match *failure {
            Stop::Error(value) => value,
            Stop::Break(label) => label_value(label),
            stop @ (Stop::Enough(_) | Stop::Halted | Stop::Exhausted(_)) => {
                return Err(Box::new(stop));
            }
        };
        match (handler, before) {
            (Some(handler), Some(item)) => self.run(handler, env, item.replaced(message), out),
            _ => Ok(()),
        }
    }
}

/// Returns the value that `catch` gets for a `break`.
fn label_value<'v>(label: u64) -> Value<'v> {
    let number = i64::try_from(label).unwrap_or(i64::MAX);
    Value::Object(std::rc::Rc::new(crate::value::object::Object::from_unique(
        vec![(Text::Borrowed("__jq"), Value::Integer(number))],
    )))
}

fn element_attempt(key: &Value<'_>, value: &str) -> String {
    format!(
        "Invalid path expression near attempt to access element {} of {value}",
        key.excerpt(operate::SHOWN_BYTES)
    )
}

fn unless(optional: bool, failure: Failure<'_>) -> Flow<'_> {
    if optional { Ok(()) } else { Err(failure) }
}

/// Whether a part gives one value without a path, or a value whose path is not needed.
#[inline]
fn is_direct<'v, M: Item<'v>>(node: &Node) -> bool {
    node.is_single && (!M::HAS_PATHS || !is_followed(&node.kind))
}

/// Whether a part is `split(separator)` with exactly one separator.
fn is_split(node: &Node) -> bool {
    matches!(&node.kind, Kind::Native(native, _) if node.is_single && native.is_split())
}

/// Whether jq makes a new string here, even if it equals the input.
fn is_new_string(node: &Node) -> bool {
    let is_null = |node: &Node| matches!(node.kind, Kind::Constant(Constant::Null));
    matches!(&node.kind, Kind::Binary(_, left, right) if !is_null(left) && !is_null(right))
}

/// Whether the outputs of this part can have paths.
fn is_followed(kind: &Kind) -> bool {
    !matches!(
        kind,
        Kind::Constant(_)
            | Kind::Variable(_)
            | Kind::Global(_)
            | Kind::Array(_)
            | Kind::Object(_)
            | Kind::Binary(..)
            | Kind::Text(..)
            | Kind::Assign(..)
            | Kind::Native(..)
    )
}
