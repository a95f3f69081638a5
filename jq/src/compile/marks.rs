//! Marks the parts of a program after all of it is compiled. The marks say which parts give exactly
//! one value, which parts may run without end, and which parts may end in a call of a definition
//! that contains them.

use crate::builtins::Special;
use crate::program::{Ending, Function, Kind, Node, Part, Pattern, Patterns};

/// What is known about the definitions so far.
struct Known {
    /// At first every definition is assumed to give one value. Without this assumption, a
    /// definition that calls itself would never count as giving one value.
    is_single: Vec<bool>,
    ends_in_recursion: Vec<bool>,
    has_alternatives: bool,
    endings: Vec<Ending>,
}

/// Marks all parts of a program. `has_alternatives` says whether a pattern of the program has
/// alternatives.
pub(super) fn set(root: &mut Node, functions: &mut [Function], has_alternatives: bool) {
    let mut known = Known {
        is_single: vec![true; functions.len()],
        ends_in_recursion: vec![false; functions.len()],
        has_alternatives,
        endings: vec![Ending::default(); functions.len()],
    };
    let mut is_settled = false;
    while !is_settled {
        is_settled = true;
        for (at, function) in functions.iter_mut().enumerate() {
            known.mark(&mut function.body);
            let body = &function.body;
            is_settled &= body.is_single == known.is_single[at]
                && body.ends_in_recursion == known.ends_in_recursion[at]
                && body.ending == known.endings[at];
            known.endings[at] = body.ending;
            known.is_single[at] = body.is_single;
            known.ends_in_recursion[at] = body.ends_in_recursion;
        }
    }
    known.mark(root);
}

impl Known {
    fn mark(&self, node: &mut Node) {
        let mut ending = Ending::default();
        each_part(&mut node.kind, &mut |part| {
            self.mark(part);
            ending.is_caught |= part.ending.is_caught;
            ending.is_unknown |= part.ending.is_unknown;
        });
        ending.is_caught |= self.catches(&node.kind);
        ending.is_unknown |= self.repeats(&node.kind)
            || node
                .followed
                .is_some_and(|function| self.endings[function].is_unknown);
        node.ending = ending;
        node.is_single = self.is_single(&node.kind);
        node.ends_in_recursion = self.ends_in_recursion(&node.kind);
    }

    fn is_single(&self, kind: &Kind) -> bool {
        let base = |base: &Option<Box<Node>>| base.as_ref().is_none_or(|base| base.is_single);
        match kind {
            Kind::Identity
            | Kind::Constant(_)
            | Kind::Variable(_)
            | Kind::Global(_)
            | Kind::Array(_)
            | Kind::Update(..) => true,
            Kind::Field {
                base: inner,
                optional,
                ..
            } => !optional && base(inner),
            Kind::Index {
                base,
                key,
                optional,
            } => !optional && base.is_single && key.is_single,
            Kind::Slice {
                base: inner,
                from,
                to,
                optional,
            } => !optional && inner.is_single && base(from) && base(to),
            Kind::Pipe(left, right)
            | Kind::Alternative(left, right)
            | Kind::And(left, right)
            | Kind::Or(left, right)
            | Kind::Binary(_, left, right) => left.is_single && right.is_single,
            Kind::If {
                condition,
                then,
                otherwise,
            } => condition.is_single && then.is_single && base(otherwise),
            Kind::Call {
                function,
                arguments,
                ..
            } => {
                self.is_single[*function]
                // Arguments that are filters are counted too, because that is simpler.
                && arguments.iter().all(|argument| argument.is_single)
            }
            _ => makes_one(kind),
        }
    }

    /// Whether the part itself may catch the failure that stops it. The parts inside it are not
    /// considered.
    fn catches(&self, kind: &Kind) -> bool {
        match kind {
            Kind::Bind { patterns, .. }
            | Kind::Reduce { patterns, .. }
            | Kind::Foreach { patterns, .. } => matches!(patterns, Patterns::Several { .. }),
            Kind::Call { function, .. } => self.endings[*function].is_caught,
            // The filter that the caller passes may have any pattern of the program.
            Kind::Parameter(_) => self.has_alternatives,
            _ => false,
        }
    }

    /// Whether the part itself may run without end, even if each part inside it ends.
    fn repeats(&self, kind: &Kind) -> bool {
        match kind {
            Kind::Special(special, _) => matches!(
                special,
                Special::RecurseWith
                    | Special::RecurseIf
                    | Special::While
                    | Special::Until
                    | Special::Repeat
                    | Special::Range
                    | Special::RangeBy
            ),
            Kind::Call {
                function,
                is_recursive,
                ..
            } => *is_recursive || self.endings[*function].is_unknown,
            _ => false,
        }
    }

    /// Whether the part may end in a recursion. Only the parts that the evaluator's loop runs next,
    /// instead of calling itself, count.
    fn ends_in_recursion(&self, kind: &Kind) -> bool {
        match kind {
            Kind::Pipe(_, last) | Kind::Comma(_, last) | Kind::Alternative(_, last) => {
                last.ends_in_recursion
            }
            Kind::Bind { body, .. } => body.ends_in_recursion,
            Kind::If {
                then, otherwise, ..
            } => {
                then.ends_in_recursion
                    || otherwise
                        .as_ref()
                        .is_some_and(|otherwise| otherwise.ends_in_recursion)
            }
            Kind::Call {
                function,
                is_recursive,
                ..
            } => *is_recursive || self.ends_in_recursion[*function],
            _ => false,
        }
    }
}

/// Whether a part that makes new values gives exactly one value.
fn makes_one(kind: &Kind) -> bool {
    let all = |nodes: &[Node]| nodes.iter().all(|node| node.is_single);
    match kind {
        Kind::Reduce { start, .. } => start.is_single,
        Kind::Bind {
            source,
            patterns,
            body,
        } => {
            source.is_single
                && body.is_single
                && matches!(patterns, Patterns::One(pattern) if pattern.is_single())
        }
        Kind::Object(members) => members
            .iter()
            .all(|(key, value)| key.is_single && value.is_single),
        Kind::Negate(inner) => inner.is_single,
        Kind::Text(_, parts) => parts.iter().all(|part| match part {
            Part::Text(_) => true,
            Part::Code(node) => node.is_single,
        }),
        Kind::Assign(_, value)
        | Kind::UpdateWith(_, _, value)
        | Kind::UpdateAlternative(_, value) => value.is_single,
        Kind::Native(_, arguments) => all(arguments),
        Kind::Special(special, arguments) => match special {
            Special::Any | Special::All | Special::IsEmpty => {
                !arguments.iter().any(|argument| argument.ending.is_caught)
            }
            Special::Add
            | Special::SortBy
            | Special::GroupBy
            | Special::UniqueBy
            | Special::MinBy
            | Special::MaxBy
            | Special::Delete
            | Special::Pick => true,
            Special::GetPath | Special::Substitute { .. } | Special::Until | Special::Error => {
                all(arguments)
            }
            _ => false,
        },
        _ => false,
    }
}

impl Pattern {
    fn is_single(&self) -> bool {
        match self {
            Self::Variable => true,
            Self::Array(elements) => elements.iter().all(Self::is_single),
            Self::Object(members) => members.iter().all(|member| {
                member.key.is_single && member.pattern.as_ref().is_none_or(Self::is_single)
            }),
        }
    }
}

/// Calls `visit` with each part that is directly inside a part.
fn each_part(kind: &mut Kind, visit: &mut dyn FnMut(&mut Node)) {
    match kind {
        Kind::Field { base, .. } | Kind::Each { base, .. } => {
            if let Some(base) = base {
                visit(base);
            }
        }
        Kind::Index { base, key, .. } => {
            visit(base);
            visit(key);
        }
        Kind::Slice { base, from, to, .. } => {
            visit(base);
            for bound in [from, to].into_iter().flatten() {
                visit(bound);
            }
        }
        Kind::Pipe(left, right)
        | Kind::Comma(left, right)
        | Kind::Alternative(left, right)
        | Kind::And(left, right)
        | Kind::Or(left, right)
        | Kind::Binary(_, left, right)
        | Kind::Assign(left, right)
        | Kind::Update(left, right)
        | Kind::UpdateWith(_, left, right)
        | Kind::UpdateAlternative(left, right) => {
            visit(left);
            visit(right);
        }
        Kind::If {
            condition,
            then,
            otherwise,
        } => {
            visit(condition);
            visit(then);
            if let Some(otherwise) = otherwise {
                visit(otherwise);
            }
        }
        Kind::Array(inner) => {
            if let Some(inner) = inner {
                visit(inner);
            }
        }
        Kind::Object(members) => {
            for (key, value) in members {
                visit(key);
                visit(value);
            }
        }
        Kind::Label(inner) | Kind::Negate(inner) => visit(inner),
        Kind::Call { arguments, .. } | Kind::Special(_, arguments) | Kind::Native(_, arguments) => {
            arguments.iter_mut().for_each(visit);
        }
        Kind::Text(_, parts) => {
            for part in parts {
                if let Part::Code(node) = part {
                    visit(node);
                }
            }
        }
        _ => each_part_of_scope(kind, visit),
    }
}

/// Like [`each_part`], for parts that bind variables or catch errors.
fn each_part_of_scope(kind: &mut Kind, visit: &mut dyn FnMut(&mut Node)) {
    match kind {
        Kind::Try { body, handler } => {
            visit(body);
            if let Some(handler) = handler {
                visit(handler);
            }
        }
        Kind::Reduce {
            source,
            patterns,
            start,
            update,
        } => {
            each_key_of_all(patterns, visit);
            for node in [source, start, update] {
                visit(node);
            }
        }
        Kind::Foreach {
            source,
            patterns,
            start,
            update,
            extract,
        } => {
            each_key_of_all(patterns, visit);
            for node in [source, start, update].into_iter().chain(extract) {
                visit(node);
            }
        }
        Kind::Bind {
            source,
            patterns,
            body,
        } => {
            each_key_of_all(patterns, visit);
            visit(source);
            visit(body);
        }
        _ => {}
    }
}

fn each_key_of_all(patterns: &mut Patterns, visit: &mut dyn FnMut(&mut Node)) {
    match patterns {
        Patterns::One(pattern) => each_key(pattern, visit),
        Patterns::Several { alternatives, .. } => {
            for (pattern, _) in alternatives {
                each_key(pattern, visit);
            }
        }
    }
}

fn each_key(pattern: &mut Pattern, visit: &mut dyn FnMut(&mut Node)) {
    match pattern {
        Pattern::Variable => {}
        Pattern::Array(elements) => {
            for element in elements {
                each_key(element, visit);
            }
        }
        Pattern::Object(members) => {
            for member in members {
                visit(&mut member.key);
                if let Some(pattern) = &mut member.pattern {
                    each_key(pattern, visit);
                }
            }
        }
    }
}
