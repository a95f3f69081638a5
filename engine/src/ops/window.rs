//! `window` and `windowBy`: neighbouring records of a shard become one array. A window ends when it
//! has enough records, or before the first record for which a condition does not hold. That record
//! opens the next window. The shard's last window may be shorter. A window is one record, so its
//! length is limited to that of a record.

use crate::expr::Expression;
use crate::ops::error::OperatorError;
use crate::ops::expression::{self, Scope};
use crate::pipeline;
use crate::plan::{counted, path};
use crate::record::{ArrayText, LINE_LIMIT_FIELD, Limits, NoRoom, Record, Row};

/// How many times the text of a window is in memory at most: twice while it grows, as a record, and
/// as its output.
const COPIES: usize = 4;

/// The compiled step.
pub(crate) struct Window {
    path: String,
    limits: Limits,
    end: End,
}

/// When a window ends.
enum End {
    After(u64),
    Unless(Box<Condition>),
}

struct Condition {
    init: Expression,
    update: Expression,
    holds: Expression,
    /// The limits of the input of `update` and `while`.
    limits: Limits,
}

/// The records of a shard that belong to the current window.
#[derive(Default)]
pub(crate) struct Open {
    records: ArrayText,
    /// For `windowBy`: the state after the last record.
    state: Option<Record>,
}

impl Window {
    /// A window of this many records, at least 1.
    pub(crate) fn of_count(path: &str, records: u64, scope: &Scope<'_>) -> Self {
        Self {
            path: path.to_owned(),
            limits: scope.limits,
            end: End::After(records),
        }
    }

    /// A window that grows while a condition holds.
    pub(crate) fn compile(
        path: &str,
        window: &pipeline::WindowBy,
        scope: &Scope<'_>,
    ) -> Result<Self, OperatorError> {
        let compile = |(field, source): (&str, &str)| {
            expression::compile(&path::inside(path, field), source, scope)
        };
        let [init, update, holds] = window.expressions();
        Ok(Self {
            path: path.to_owned(),
            limits: scope.limits,
            end: End::Unless(Box::new(Condition {
                init: compile(init)?,
                update: compile(update)?,
                holds: compile(holds)?,
                limits: scope.limits.of_state_and_record(),
            })),
        })
    }

    /// Adds a record. Returns the window that has ended, if one has.
    pub(crate) fn push(
        &self,
        open: &mut Open,
        row: &Row<'_>,
    ) -> Result<Option<Record>, OperatorError> {
        let record = &*row.to_record();
        match &self.end {
            End::After(count) => {
                self.append(open, record)?;
                let is_full = open.records.len() >= *count;
                Ok(if is_full { open.close() } else { None })
            }
            End::Unless(condition) => self.push_by(condition, open, record),
        }
    }

    /// Adds a record to the open window if the condition holds, or else to a new one. The first
    /// record of a window needs no condition.
    fn push_by(
        &self,
        condition: &Condition,
        open: &mut Open,
        record: &Record,
    ) -> Result<Option<Record>, OperatorError> {
        let Condition {
            init,
            update,
            holds,
            ..
        } = condition;
        let mut ended = None;
        let continued = match &open.state {
            None => None,
            Some(state) => {
                let input = self.input(condition, state, record)?;
                let path = path::inside(&self.path, pipeline::WHILE);
                let holds = expression::one(&path, holds, &input, |held| Ok(held.is_truthy()))?;
                holds.then_some(input)
            }
        };
        let input = if let Some(input) = continued {
            input
        } else {
            ended = open.close();
            let nothing = Record::null().into();
            let state = self.evaluate(init, pipeline::INIT, &nothing)?;
            self.input(condition, &state, record)?
        };
        open.state = Some(self.evaluate(update, pipeline::UPDATE, &input)?);
        self.append(open, record)?;
        Ok(ended)
    }

    fn evaluate(
        &self,
        expression: &Expression,
        field: &str,
        input: &Row<'_>,
    ) -> Result<Record, OperatorError> {
        let path = path::inside(&self.path, field);
        expression::one(&path, expression, input, |value| {
            value
                .to_record()
                .map_err(|error| expression::unusable(&path, &error))
        })
    }

    /// `{"state": …, "record": …}`.
    fn input(
        &self,
        condition: &Condition,
        state: &Record,
        record: &Record,
    ) -> Result<Row<'static>, OperatorError> {
        let members = [("state", state), ("record", record)];
        let input = Record::object(&condition.limits, members);
        input.map(Row::from).map_err(|error| {
            let problem = error.problem;
            OperatorError::of_data(&self.path, format!("the state with the record: {problem}"))
        })
    }

    fn append(&self, open: &mut Open, record: &Record) -> Result<(), OperatorError> {
        let records = open.records.len();
        let refused = |problem: String| {
            let before = counted(records, "record");
            let message =
                format!("after {before}, the next one does not fit into the window: {problem}");
            Err(OperatorError::of_data(&self.path, message))
        };
        let Limits {
            bytes,
            memory_bytes,
            ..
        } = self.limits;
        let length = open.records.bytes() + 1 + record.as_json().len();
        if length >= bytes {
            return refused(format!(
                "a window is a record, and at most {bytes} bytes are allowed ({LINE_LIMIT_FIELD})"
            ));
        }
        if length > memory_bytes / COPIES {
            let no_room = NoRoom {
                needed_bytes: length * COPIES,
                room_bytes: memory_bytes,
            };
            return refused(no_room.to_string());
        }
        match open.records.push(&self.limits, record) {
            Ok(()) => Ok(()),
            Err(error) => refused(error.problem.to_string()),
        }
    }
}

impl Open {
    /// The records of the window that is open, if there are any. Afterwards none is open.
    pub(crate) fn close(&mut self) -> Option<Record> {
        std::mem::take(self).records.into_record()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(window: &Window, records: &[&str]) -> Result<Vec<String>, String> {
        let mut open = Open::default();
        let mut ended = Vec::new();
        for text in records {
            let row = Record::parse(text.as_bytes()).unwrap().into();
            let window = window.push(&mut open, &row);
            ended.extend(window.map_err(|error| error.to_string())?);
        }
        ended.extend(open.close());
        Ok(ended
            .iter()
            .map(|window| window.as_json_str().to_owned())
            .collect())
    }

    fn by(init: &str, update: &str, holds: &str) -> Window {
        let window = pipeline::WindowBy {
            init: init.to_owned(),
            update: update.to_owned(),
            holds: holds.to_owned(),
        };
        Window::compile("steps[0].windowBy", &window, &Scope::of_test()).unwrap()
    }

    #[test]
    fn a_window_has_as_many_records_as_asked_for_and_the_last_one_the_rest() {
        let of = |count, records: &[&str]| {
            windows(
                &Window::of_count("steps[0].window", count, &Scope::of_test()),
                records,
            )
            .unwrap()
        };
        let records = ["1.0", "null", r#"{"a":[]}"#, "\"x\"", "[2]"];
        assert_eq!(
            of(2, &records),
            ["[1.0,null]", r#"[{"a":[]},"x"]"#, "[[2]]"]
        );
        assert_eq!(of(5, &records), [r#"[1.0,null,{"a":[]},"x",[2]]"#]);
        assert_eq!(of(1, &records[..2]), ["[1.0]", "[null]"]);
        assert_eq!(of(3, &[]), [""; 0]);
    }

    #[test]
    fn the_record_for_which_the_condition_fails_opens_the_next_window() {
        let by_sum = by("0", ".state + .record", ".state + .record <= 10");
        assert_eq!(
            windows(&by_sum, &["4", "6", "1", "20", "20", "3", "7"]).unwrap(),
            ["[4,6]", "[1]", "[20]", "[20]", "[3,7]"]
        );
        // The condition sees the state before the update.
        let gaps = by("null", ".record", ".record - .state < 5");
        assert_eq!(
            windows(&gaps, &["1", "3", "7", "20", "21"]).unwrap(),
            ["[1,3,7]", "[20,21]"]
        );
        assert_eq!(windows(&gaps, &[]).unwrap(), [""; 0]);
        let never = by("0", "0", "null");
        assert_eq!(windows(&never, &["1", "2"]).unwrap(), ["[1]", "[2]"]);
    }

    #[test]
    fn a_fault_names_the_expression_or_the_limit() {
        let error = windows(&by("0", ".record + .state", "true"), &["1", "\"a\""]).unwrap_err();
        assert!(
            error.starts_with("steps[0].windowBy.update: string (\"a\")"),
            "{error}"
        );
        let error = windows(&by("empty", "1", "true"), &["1"]).unwrap_err();
        assert!(
            error
                .starts_with("steps[0].windowBy.init: the expression must have exactly one result"),
            "{error}"
        );
        let limits = Limits {
            bytes: 12,
            ..Limits::default()
        };
        let scope = Scope {
            limits,
            ..Scope::of_test()
        };
        let of_three = Window::of_count("steps[0].window", 3, &scope);
        assert_eq!(
            windows(&of_three, &["\"aaaa\"", "1"]).unwrap(),
            ["[\"aaaa\",1]"]
        );
        assert_eq!(
            windows(&of_three, &["\"aaaa\"", "\"bb\""]).unwrap_err(),
            "steps[0].window: after 1 record, the next one does not fit into the window: a window is a record, and at most 12 bytes are allowed (spec.pipeline.limits.lineBytes)"
        );
        let limits = Limits {
            memory_bytes: 20,
            ..Limits::default()
        };
        let scope = Scope {
            limits,
            ..Scope::of_test()
        };
        let error = windows(
            &Window::of_count("steps[0].window", 3, &scope),
            &["1", "22222"],
        )
        .unwrap_err();
        assert!(error.contains("too large for this worker"), "{error}");
    }
}
