//! Filters for dates. They convert values for the functions of `dates`, and convert the results of
//! these functions to values.

use crate::dates::{self, BrokenDown};
use crate::eval::flow::{Failure, Output, error};
use crate::value::{Type, Value};

/// How many numbers a broken-down time has.
const FIELDS: usize = 8;
/// The index of the seconds in a broken-down time. They may have a fraction.
const SECONDS: usize = 5;

pub(super) fn gmtime<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    let Some(seconds) = input.to_float() else {
        return Err(error("gmtime() requires numeric inputs"));
    };
    let (time, seconds) = dates::gmtime(seconds).map_err(error)?;
    let mut fields = fields_of(time);
    fields[SECONDS] = Value::Float(seconds);
    Ok(Value::array(fields))
}

pub(super) fn mktime<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    if input.kind() != Type::Array {
        return Err(error("mktime requires array inputs"));
    }
    let numbers = numbers(&input, "mktime requires parsed datetime inputs")?;
    dates::mktime(&numbers).map(Value::Integer).map_err(error)
}

pub(super) fn strftime<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    const NOT_A_DATE: &str = "strftime/1 requires parsed datetime inputs";
    let time = match input.kind() {
        Type::Number => gmtime(input, &[])?,
        Type::Array => input,
        Type::Null | Type::False | Type::True | Type::String | Type::Object => {
            return Err(error(NOT_A_DATE));
        }
    };
    let Some(format) = arguments[0].as_str() else {
        return Err(error("strftime/1 requires a string format"));
    };
    let time = BrokenDown::from_numbers(&numbers(&time, NOT_A_DATE)?);
    dates::strftime(&time, format)
        .map(Value::from)
        .map_err(error)
}

pub(super) fn strptime<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    let (Some(text), Some(format)) = (input.as_str(), arguments[0].as_str()) else {
        return Err(error("strptime/1 requires string inputs and arguments"));
    };
    let (time, rest) = dates::strptime(text, format).map_err(error)?;
    let mut fields = fields_of(time);
    if !rest.is_empty() {
        fields.push(Value::from(rest.to_owned()));
    }
    Ok(Value::array(fields))
}

fn fields_of<'v>(time: BrokenDown) -> Vec<Value<'v>> {
    time.to_numbers().into_iter().map(Value::Integer).collect()
}

/// Returns the numbers of a broken-down time, which may be incomplete. `refused` is the error if
/// `time` is not such an array.
fn numbers<'v>(time: &Value<'v>, refused: &str) -> Result<Vec<f64>, Failure<'v>> {
    let numbers = time.children().take(FIELDS).map(|field| {
        field
            .to_float()
            .filter(|number| !number.is_nan())
            .ok_or_else(|| error(refused))
    });
    numbers.collect()
}
