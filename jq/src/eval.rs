//! The evaluator: each output of a part is pushed into what takes it, which says whether to go on.
//! Nothing is collected and no iterator is built. Recursion of a program is recursion here, within
//! a limit.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is not of the wanted type is refused in one sentence"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "items are given away: what is held once may be changed in place"
)]
#![expect(
    clippy::unnecessary_box_returns,
    reason = "a failure is boxed wherever it goes, so that what succeeds stays small"
)]
#![expect(
    clippy::unused_self,
    reason = "all steps of a machine are called the same way"
)]

use std::cell::Cell;

use crate::program::{Function, Kind, Node};
use crate::stack;
use crate::value::{Text, Type, Value};
use environment::{Bound, Environment, Link};
use flow::{ENDLESS_RECURSION, Failure, Flow, Stop};
use item::Item;

pub(crate) mod access;
mod assign;
mod bind;
mod collect;
pub(crate) mod environment;
pub(crate) mod flow;
pub(crate) mod item;
pub(crate) mod one;
pub(crate) mod operate;
pub(crate) mod paths;
pub(crate) mod special;
mod substitute;

/// A run of a program.
pub(crate) struct Machine<'g, 'v> {
    functions: &'v [Function],
    globals: &'g [Value<'v>],
    /// The number of the next label.
    labels: Cell<u64>,
    /// The number of the next wish of the evaluator itself to stop something.
    wishes: Cell<u64>,
    /// The lowest address that the stack may reach.
    floor: usize,
}

/// Fails if the stack is nearly used up.
pub(crate) fn check_stack<'v>() -> Result<(), Failure<'v>> {
    if stack::has_room() {
        Ok(())
    } else {
        Err(Box::new(Stop::Exhausted(ENDLESS_RECURSION)))
    }
}

impl<'g, 'v> Machine<'g, 'v> {
    pub(crate) fn new(functions: &'v [Function], globals: &'g [Value<'v>]) -> Self {
        Self {
            functions,
            globals,
            labels: Cell::new(0),
            wishes: Cell::new(0),
            floor: stack::floor(),
        }
    }

    fn check(&self) -> Result<(), Failure<'v>> {
        if stack::here() >= self.floor {
            Ok(())
        } else {
            Err(Box::new(Stop::Exhausted(ENDLESS_RECURSION)))
        }
    }

    /// Gives every output of `node` for `item` to `out`.
    pub(crate) fn run<M: Item<'v>>(
        &self,
        node: &'v Node,
        env: Environment<'_, 'v>,
        item: M,
        out: &mut dyn FnMut(M) -> Flow<'v>,
    ) -> Flow<'v> {
        self.check()?;
        if node.is_single && (!M::HAS_PATHS || !is_followed(&node.kind)) {
            if M::HAS_PATHS {
                let value = self.one(node, env, item.value())?;
                return out(item.replaced(value));
            }
            let value = self.one_owned(node, env, item.into_value())?;
            return out(M::plain(value));
        }
        self.follow(node, env, item, out)
    }

    /// As [`Machine::run`], output by output also where there is just one.
    fn follow<M: Item<'v>>(
        &self,
        node: &'v Node,
        env: Environment<'_, 'v>,
        item: M,
        out: &mut dyn FnMut(M) -> Flow<'v>,
    ) -> Flow<'v> {
        match &node.kind {
            Kind::Identity => out(item),
            Kind::Field {
                base,
                name,
                optional,
            } => {
                let mut take = |item: M| self.field(&item, name, *optional, out);
                match base {
                    None => take(item),
                    Some(base) => self.run(base, env, item, &mut take),
                }
            }
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
            } => self.slices(
                base,
                (from.as_deref(), to.as_deref()),
                *optional,
                env,
                &item,
                out,
            ),
            Kind::Each { base, optional } => {
                let mut take = |item: M| self.each(&item, *optional, out);
                match base {
                    None => take(item),
                    Some(base) => self.run(base, env, item, &mut take),
                }
            }
            Kind::Pipe(left, right) => {
                self.run(left, env, item, &mut |item| self.run(right, env, item, out))
            }
            Kind::Comma(left, right) => {
                self.run(left, env, item.clone(), out)?;
                self.run(right, env, item, out)
            }
            Kind::Alternative(left, right) => self.alternative(left, right, env, item, out),
            Kind::If {
                condition,
                then,
                otherwise,
            } => self.choose(condition, (then, otherwise.as_deref()), env, item, out),
            Kind::Try { body, handler } => self.attempt(body, handler.as_deref(), env, item, out),
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
                    self.bind(patterns, env, &value, &mut |env| {
                        self.run(body, env, item.clone(), out)
                    })
                })
            }
            Kind::Label(body) => self.label(body, env, item, out),
            Kind::Break(up) => Err(Box::new(match env.bound(*up) {
                Some(Bound::Label(label)) => Stop::Break(*label),
                Some(Bound::Value(_) | Bound::Filter(..)) | None => Stop::Error(Value::Null),
            })),
            Kind::Call {
                function,
                up,
                arguments,
            } => self.call(*function, arguments, env, env.up(*up), item, out),
            Kind::Parameter(up) => match env.bound(*up) {
                Some(Bound::Filter(node, env)) => self.run(node, *env, item, out),
                Some(Bound::Value(_) | Bound::Label(_)) | None => Ok(()),
            },
            Kind::Special(special, arguments) => self.special(*special, arguments, env, item, out),
            _ => self.anew(node, env, item, out),
        }
    }

    /// What makes values that stand at no path.
    fn anew<M: Item<'v>>(
        &self,
        node: &'v Node,
        env: Environment<'_, 'v>,
        item: M,
        out: &mut dyn FnMut(M) -> Flow<'v>,
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
        env: Environment<'_, 'v>,
        item: &M,
        out: &mut dyn FnMut(M) -> Flow<'v>,
    ) -> Flow<'v> {
        let input = item.clone().into_value();
        self.values(key, env, &input, &mut |key| {
            self.run(base, env, item.clone(), &mut |item| {
                self.index(&item, &key, optional, out)
            })
        })
    }

    fn alternative<M: Item<'v>>(
        &self,
        left: &'v Node,
        right: &'v Node,
        env: Environment<'_, 'v>,
        item: M,
        out: &mut dyn FnMut(M) -> Flow<'v>,
    ) -> Flow<'v> {
        let mut is_found = false;
        self.run(left, env, item.clone(), &mut |item: M| {
            if !item.value().is_truthy() {
                return Ok(());
            }
            is_found = true;
            out(item)
        })?;
        if is_found {
            return Ok(());
        }
        self.run(right, env, item, out)
    }

    fn choose<M: Item<'v>>(
        &self,
        condition: &'v Node,
        (then, otherwise): (&'v Node, Option<&'v Node>),
        env: Environment<'_, 'v>,
        item: M,
        out: &mut dyn FnMut(M) -> Flow<'v>,
    ) -> Flow<'v> {
        let mut go = |is_true: bool, item: M| match (is_true, otherwise) {
            (true, _) => self.run(then, env, item, out),
            (false, Some(otherwise)) => self.run(otherwise, env, item, out),
            (false, None) => out(item),
        };
        if condition.is_single {
            let is_true = self.one(condition, env, item.value())?.is_truthy();
            return go(is_true, item);
        }
        let input = item.value().clone();
        self.values(condition, env, &input, &mut |condition| {
            go(condition.is_truthy(), item.clone())
        })
    }

    fn label<M: Item<'v>>(
        &self,
        body: &'v Node,
        env: Environment<'_, 'v>,
        item: M,
        out: &mut dyn FnMut(M) -> Flow<'v>,
    ) -> Flow<'v> {
        let label = self.labels.get();
        self.labels.set(label + 1);
        let link = Link::new(env, Bound::Label(label));
        match self.run(body, Environment::with(&link), item, out) {
            Err(stop) if matches!(*stop, Stop::Break(broken) if broken == label) => Ok(()),
            flow => flow,
        }
    }

    /// Gives every output of `node` to `out`, with no regard to paths.
    pub(crate) fn values(
        &self,
        node: &'v Node,
        env: Environment<'_, 'v>,
        input: &Value<'v>,
        out: &mut dyn FnMut(Value<'v>) -> Flow<'v>,
    ) -> Flow<'v> {
        if node.is_single {
            return out(self.one(node, env, input)?);
        }
        self.run(node, env, input.clone(), out)
    }

    pub(crate) fn global(&self, index: usize) -> Value<'v> {
        self.globals.get(index).cloned().unwrap_or(Value::Null)
    }

    /// Runs `work` until it fails with the [`Stop::Enough`] of the number that it gets. Returns
    /// whether it did so; any other failure is its own.
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
        out: &mut dyn FnMut(M) -> Flow<'v>,
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
        out: &mut dyn FnMut(M) -> Flow<'v>,
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
        env: Environment<'_, 'v>,
        item: &M,
        out: &mut dyn FnMut(M) -> Flow<'v>,
    ) -> Flow<'v> {
        let input = item.clone().into_value();
        self.bound(from, env, &input, &mut |from| {
            self.bound(to, env, &input, &mut |to| {
                self.run(base, env, item.clone(), &mut |item| {
                    let key = || access::slice_key(from.clone(), to.clone());
                    item.check(&|value| element_attempt(&key(), &value))?;
                    match access::slice(item.value(), &from, &to) {
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
        env: Environment<'_, 'v>,
        input: &Value<'v>,
        out: &mut dyn FnMut(Value<'v>) -> Flow<'v>,
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
        out: &mut dyn FnMut(M) -> Flow<'v>,
    ) -> Flow<'v> {
        item.check(&|value| {
            format!("Invalid path expression near attempt to iterate through {value}")
        })?;
        let value = item.value();
        match value.kind() {
            Type::Array => {
                for (at, element) in value.children().enumerate() {
                    out(item.child(|| Value::count(at), element))?;
                }
                Ok(())
            }
            Type::Object if !M::HAS_PATHS => {
                for member in value.children() {
                    out(item.child(|| Value::Null, member))?;
                }
                Ok(())
            }
            Type::Object => {
                for (key, member) in value.members() {
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

    fn attempt<M: Item<'v>>(
        &self,
        body: &'v Node,
        handler: Option<&'v Node>,
        env: Environment<'_, 'v>,
        item: M,
        out: &mut dyn FnMut(M) -> Flow<'v>,
    ) -> Flow<'v> {
        // What goes wrong behind the body is not the body's.
        let mut is_behind = false;
        let before = handler.map(|_| item.clone());
        let flow = self.run(body, env, item, &mut |item| {
            out(item).inspect_err(|_| is_behind = true)
        });
        let Err(failure) = flow else { return Ok(()) };
        if is_behind {
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

    /// Calls a function: its arguments become links upon the environment that it was written in.
    fn call<M: Item<'v>>(
        &self,
        function: usize,
        arguments: &'v [Node],
        caller: Environment<'_, 'v>,
        within: Environment<'_, 'v>,
        item: M,
        out: &mut dyn FnMut(M) -> Flow<'v>,
    ) -> Flow<'v> {
        let Some((argument, rest)) = arguments.split_first() else {
            return self.run(&self.functions[function].body, within, item, out);
        };
        // A parameter that is passed on is what it was, however often that happens.
        let bound = match (&argument.kind, argument.parameter(caller)) {
            (Kind::Parameter(_), Some((node, env))) => Bound::Filter(node, env),
            _ => Bound::Filter(argument, caller),
        };
        let link = Link::new(within, bound);
        self.call(function, rest, caller, Environment::with(&link), item, out)
    }
}

impl Node {
    fn parameter<'e, 'v>(
        &self,
        env: Environment<'e, 'v>,
    ) -> Option<(&'v Node, Environment<'e, 'v>)> {
        let Kind::Parameter(up) = self.kind else {
            return None;
        };
        match env.bound(up) {
            Some(Bound::Filter(node, env)) => Some((node, *env)),
            Some(Bound::Value(_) | Bound::Label(_)) | None => None,
        }
    }
}

/// What `catch` gets of a `break`.
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

/// Whether paths go on through this.
fn is_followed(kind: &Kind) -> bool {
    !matches!(
        kind,
        Kind::Constant(_)
            | Kind::Variable(_)
            | Kind::Global(_)
            | Kind::And(..)
            | Kind::Or(..)
            | Kind::Array(_)
            | Kind::Object(_)
            | Kind::Binary(..)
            | Kind::Negate(_)
            | Kind::Text(..)
            | Kind::Assign(..)
            | Kind::Update(..)
            | Kind::UpdateWith(..)
            | Kind::UpdateAlternative(..)
            | Kind::Native(..)
    )
}
