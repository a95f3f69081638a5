//! Writes values as JSON text. The text is compact, its strings have the fewest escapes, and its
//! numbers are as they were written or as jq prints them.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "everything else is written in one way"
)]

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Text, Type, Value};
use crate::json::JsonProblem;
use crate::json::source::View;
use crate::json::string::{needs_escape, push_quoted};
use crate::json::tape::{Kind, ScanLimits};
use crate::meter::{self, MAX_JSON_BYTES};
use crate::{Exhausted, double, stack};

/// The limits of texts that stay inside the program: none. Only the stack limits their depth.
const UNLIMITED: ScanLimits = ScanLimits {
    bytes: MAX_JSON_BYTES,
    nesting: usize::MAX,
};

/// A guess of how many bytes a number has, or an array or object inside another one.
const GUESSED_BYTES: usize = 16;

/// Returns the text of a number. Empty for any other value.
pub(crate) fn number_text<'v>(value: &'v Value<'_>) -> Cow<'v, str> {
    match value {
        Value::Decimal(text) => Cow::Borrowed(text),
        Value::OwnedDecimal(text) => Cow::Borrowed(text),
        other => {
            let mut text = String::new();
            push_number(&mut text, other);
            Cow::Owned(text)
        }
    }
}

/// Appends the text of a number. Appends nothing for any other value.
pub(crate) fn push_number(text: &mut String, value: &Value<'_>) {
    match value {
        Value::Integer(integer) => {
            // Writing to a string cannot fail.
            let _ = write!(text, "{integer}");
        }
        Value::BigInteger(integer) => {
            let _ = write!(text, "{integer}");
        }
        Value::Float(float) => double::write_double(*float, text),
        Value::Decimal(decimal) => text.push_str(decimal),
        Value::OwnedDecimal(decimal) => text.push_str(decimal),
        Value::Null
        | Value::Boolean(_)
        | Value::String(_)
        | Value::Lazy(_)
        | Value::Array(_)
        | Value::Object(_) => {}
    }
}

impl Value<'_> {
    /// Appends the value as JSON: compact, each key once, strings with the fewest escapes, numbers
    /// as they were written or as jq prints them.
    ///
    /// # Errors
    /// [`JsonProblem::TooDeep`] and [`JsonProblem::TooLong`], if `text` with the value would exceed
    /// `limits`. Then a part of the value has been appended.
    pub fn write_json(&self, text: &mut String, limits: ScanLimits) -> Result<(), JsonProblem> {
        text.reserve(self.guessed_bytes());
        let mut writer = Writer {
            text,
            limits,
            is_metered: false,
        };
        let written = match self {
            Self::Lazy(view) if writer.is_copied(*view) => writer.copy(*view),
            value => writer.value(value, 0),
        };
        written.map_err(|refusal| match refusal {
            Refusal::TooLong => JsonProblem::TooLong {
                limit: limits.bytes,
            },
            Refusal::TooDeep | Refusal::Exhausted(_) => JsonProblem::TooDeep {
                limit: limits.nesting,
            },
        })
    }

    /// Appends the value as JSON that stays inside the program. The memory of the JSON counts
    /// towards the limit of the evaluation.
    pub(crate) fn push_json(&self, text: &mut String) -> Result<(), Exhausted> {
        let mut writer = Writer {
            text,
            limits: UNLIMITED,
            is_metered: true,
        };
        writer.value(self, 0).map_err(|refusal| match refusal {
            Refusal::TooLong => Exhausted::Json(MAX_JSON_BYTES >> 20),
            Refusal::TooDeep => Exhausted::Nesting,
            Refusal::Exhausted(exhausted) => exhausted,
        })
    }

    /// Returns the text of a number, as it was written or as jq prints it. `None` for any other
    /// value.
    pub fn number_text(&self) -> Option<Cow<'_, str>> {
        (self.kind() == Type::Number).then(|| number_text(self))
    }

    /// Returns the approximate length of the value as JSON. It is exact for most values.
    fn guessed_bytes(&self) -> usize {
        match self {
            Self::Array(elements) => {
                let inner = |element: &Self| element.guessed_inner_bytes() + 1;
                1 + elements.iter().map(inner).sum::<usize>()
            }
            Self::Object(object) => {
                let member =
                    |(key, value): &(Text<'_>, Self)| key.len() + 4 + value.guessed_inner_bytes();
                1 + object.entries().map(member).sum::<usize>()
            }
            value => value.guessed_inner_bytes(),
        }
    }

    fn guessed_inner_bytes(&self) -> usize {
        match self {
            Self::String(string) => string.len() + 2,
            Self::Lazy(view) => view.text().len(),
            Self::Decimal(text) => text.len(),
            Self::Null | Self::Boolean(_) => 5,
            _ => GUESSED_BYTES,
        }
    }

    /// Returns the value as JSON.
    pub fn to_json(&self) -> Result<String, Exhausted> {
        let mut text = String::new();
        self.push_json(&mut text)?;
        Ok(text)
    }

    /// Returns the value as an error shows it. This is its type, and its JSON cut to fewer than
    /// `room` bytes.
    pub(crate) fn shown(&self, room: usize) -> String {
        let json = self.excerpt(room);
        format!("{} ({json})", self.type_name())
    }

    /// Returns the value as JSON, cut to fewer than `room` bytes as jq cuts it.
    pub(crate) fn excerpt(&self, room: usize) -> String {
        let mut json = String::new();
        let limits = ScanLimits {
            bytes: room,
            ..UNLIMITED
        };
        let mut writer = Writer {
            text: &mut json,
            limits,
            is_metered: false,
        };
        if let Err(Refusal::TooDeep | Refusal::Exhausted(_)) = writer.value(self, 0) {
            "...".clone_into(&mut json);
        }
        if json.len() >= room {
            let mut end = room - 4;
            while !json.is_char_boundary(end) {
                end -= 1;
            }
            json.truncate(end);
            json.push_str("...");
        }
        json
    }
}

/// Why a value is not written.
enum Refusal {
    /// The text would be longer than the limit.
    TooLong,
    /// The value nests deeper than the limit or the stack allows.
    TooDeep,
    /// The evaluation has reached a limit.
    Exhausted(Exhausted),
}

impl From<Exhausted> for Refusal {
    fn from(exhausted: Exhausted) -> Self {
        Self::Exhausted(exhausted)
    }
}

/// Writes one value.
struct Writer<'t> {
    text: &'t mut String,
    limits: ScanLimits,
    /// Whether the text counts towards the limits of the evaluation.
    is_metered: bool,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value<'_>, depth: usize) -> Result<(), Refusal> {
        match value {
            Value::Null => self.text.push_str("null"),
            Value::Boolean(false) => self.text.push_str("false"),
            Value::Boolean(true) => self.text.push_str("true"),
            Value::Integer(_)
            | Value::BigInteger(_)
            | Value::Float(_)
            | Value::Decimal(_)
            | Value::OwnedDecimal(_) => push_number(self.text, value),
            Value::String(string) => {
                self.room(string.len())?;
                push_quoted(self.text, string);
            }
            Value::Lazy(view) => {
                self.room(view.text().len())?;
                return self.view(*view, depth);
            }
            Value::Array(elements) => {
                let inner = self.deeper(depth)?;
                self.room(0)?;
                self.text.push('[');
                for (index, element) in elements.iter().enumerate() {
                    self.comma(index);
                    self.value(element, inner)?;
                }
                self.text.push(']');
            }
            Value::Object(object) => {
                let inner = self.deeper(depth)?;
                self.room(0)?;
                self.text.push('{');
                for (index, (key, value)) in object.entries().enumerate() {
                    self.comma(index);
                    push_quoted(self.text, key);
                    self.text.push(':');
                    self.value(value, inner)?;
                }
                self.text.push('}');
            }
        }
        self.check_length()
    }

    /// Writes a value of a record in canonical form. Each key occurs once, at its first position
    /// and with its last value.
    fn view(&mut self, view: View<'_>, depth: usize) -> Result<(), Refusal> {
        match view.kind() {
            Kind::Null | Kind::False | Kind::True | Kind::Number => {
                self.text.push_str(view.text());
            }
            Kind::PlainString | Kind::EscapedString => push_quoted(self.text, &view.string()),
            Kind::Array | Kind::Object => {
                let inner = self.deeper(depth)?;
                if is_plain(view) {
                    self.text.push_str(view.text());
                } else {
                    self.container(view, inner)?;
                }
            }
        }
        self.check_length()
    }

    /// Writes the elements or members of a value of a record, with brackets.
    fn container(&mut self, view: View<'_>, inner: usize) -> Result<(), Refusal> {
        if view.kind() == Kind::Array {
            self.text.push('[');
            for (index, element) in view.elements().enumerate() {
                self.comma(index);
                self.view(element, inner)?;
            }
            self.text.push(']');
            return Ok(());
        }
        self.text.push('{');
        if view.repeats_a_key() {
            for (index, (key, value)) in view.unique_members().into_iter().enumerate() {
                self.comma(index);
                push_quoted(self.text, &key);
                self.text.push(':');
                self.view(value, inner)?;
            }
        } else {
            for (index, (key, value)) in view.members().enumerate() {
                self.comma(index);
                self.view(key, inner)?;
                self.text.push(':');
                self.view(value, inner)?;
            }
        }
        self.text.push('}');
        Ok(())
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.text.push(',');
        }
    }

    /// Whether the text of a value of a record is its canonical form and certainly within the limit
    /// of depth. The record as a whole was checked when it was read.
    fn is_copied(&self, view: View<'_>) -> bool {
        let containers = view
            .inside()
            .iter()
            .filter(|node| matches!(node.kind, Kind::Array | Kind::Object));
        (view.is_root() || containers.count() < self.limits.nesting) && view.is_canonical()
    }

    fn copy(&mut self, view: View<'_>) -> Result<(), Refusal> {
        self.text.push_str(view.text());
        self.check_length()
    }

    fn deeper(&self, depth: usize) -> Result<usize, Refusal> {
        if self.is_metered {
            stack::check()?;
        }
        if depth < self.limits.nesting && stack::has_room() {
            Ok(depth + 1)
        } else {
            Err(Refusal::TooDeep)
        }
    }

    /// Fails if the limits do not allow this number of additional bytes.
    fn room(&self, more: usize) -> Result<(), Refusal> {
        if !self.is_metered {
            return Ok(());
        }
        if self.text.len() + more > self.limits.bytes {
            return Err(Refusal::TooLong);
        }
        Ok(meter::room(self.text.len() + more)?)
    }

    fn check_length(&self) -> Result<(), Refusal> {
        if self.text.len() > self.limits.bytes {
            return Err(Refusal::TooLong);
        }
        Ok(())
    }
}

/// Whether the text of an array or object is its canonical form. It is if the value contains no
/// other array or object, no escape, no character that needs an escape, and no key twice.
fn is_plain(view: View<'_>) -> bool {
    let is_plain_scalar = |kind| {
        matches!(
            kind,
            Kind::Null | Kind::False | Kind::True | Kind::Number | Kind::PlainString
        )
    };
    view.inside().iter().all(|node| is_plain_scalar(node.kind))
        && !needs_escape(view.text())
        && !view.repeats_a_key()
}
