//! The table of the filters that programs can call. Some are written in Rust, some are run by the
//! evaluator, and some are other names for forms of the language. A name that is neither in this
//! table nor in `prelude` is not defined.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other type of value is refused with the same message"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "all filters are called the same way, and some keep their input"
)]

use crate::eval::flow::{Failure, Flow, Output};
use crate::eval::operate::unfit;
use crate::math::{self, Function};
use crate::meter;
use crate::value::{Type, Value};

mod arrays;
mod convert;
mod dates;
pub(crate) mod format;
pub(crate) mod matches;
pub(crate) mod prelude;
mod strings;
mod values;

/// A filter that sees only values, not programs. It computes one output from its input and one
/// value for each argument.
#[derive(Clone, Copy)]
pub(crate) struct Native {
    run: Run,
    outermost: Outermost,
}

#[derive(Clone, Copy)]
enum Run {
    Values(ValuesFilter),
    /// `split/1`, whose parts the evaluator can make one by one.
    Split,
    Math(Function),
}

type ValuesFilter = for<'v> fn(Value<'v>, &[Value<'v>]) -> Output<'v>;

/// The argument that is computed first. If several arguments have several outputs, the outputs of
/// this one change least often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outermost {
    First,
    Last,
}

/// A filter whose arguments are programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Empty,
    Path,
    First,
    Last,
    Limit,
    Skip,
    Nth,
    Until,
    While,
    Repeat,
    Recurse,
    RecurseWith,
    RecurseIf,
    Range,
    RangeBy,
    Select,
    /// Passes on values of these types. Each type is one bit.
    OfTypes(u8),
    Add,
    Any,
    All,
    IsEmpty,
    SortBy,
    GroupBy,
    UniqueBy,
    MinBy,
    MaxBy,
    Delete,
    GetPath,
    Pick,
    Walk,
    Error,
    /// `sub` and `gsub`.
    Substitute {
        is_global: bool,
    },
}

/// The meaning of a name.
pub(crate) enum Builtin {
    Native(Native),
    /// A filter in Rust that returns an array. Each element of the array is an output.
    Each(Native),
    Special(Special),
    /// A special filter whose first argument is `.[]`.
    SpecialOfEach(Special),
    /// `any` and `all` without arguments: the arguments are `.[]` and `.`.
    SpecialOfEachItself(Special),
    /// `range(n)`
    RangeTo,
    /// `.[number]`
    Element(i64),
    /// `.[argument]`
    ElementAt,
    /// `[.[] | argument]`
    Map,
    /// `.[] |= argument`
    MapValues,
    Boolean(bool),
    Number(f64),
    /// `builtins`: the names of all filters.
    Names,
}

impl Native {
    const fn values(run: ValuesFilter) -> Self {
        Self {
            run: Run::Values(run),
            outermost: Outermost::Last,
        }
    }

    /// Returns the index of the argument that is computed at `step`, if there are `count`
    /// arguments. Steps and indices count from 0. The outermost argument is computed first.
    pub(crate) fn nth(self, step: usize, count: usize) -> usize {
        match self.outermost {
            Outermost::First => step,
            Outermost::Last => count - 1 - step,
        }
    }

    /// Whether this is `split/1`.
    pub(crate) fn is_split(self) -> bool {
        matches!(self.run, Run::Split)
    }

    /// Passes the parts of a string to `take`, one by one: the elements of the output of `split/1`.
    pub(crate) fn split_each<'v>(
        input: &Value<'v>,
        separator: &Value<'v>,
        take: &mut dyn FnMut(Value<'v>) -> Flow<'v>,
    ) -> Flow<'v> {
        meter::step_bytes(input.as_str().map_or(0, str::len))?;
        strings::split_each(input, separator, take)
    }

    /// Computes the output for an input and one value for each argument.
    pub(crate) fn run<'v>(self, input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
        meter::step_bytes(input.as_str().map_or(0, str::len))?;
        match self.run {
            Run::Values(run) => run(input, arguments),
            Run::Split => strings::split(input, arguments),
            Run::Math(function) => calculate(function, &input, arguments),
        }
    }
}

fn calculate<'v>(function: Function, input: &Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    match (function, arguments) {
        (Function::One(function), _) => Ok(Value::Float(function(number(input)?))),
        (Function::Pair(function), _) => {
            let (first, second) = function(number(input)?);
            Ok(Value::array(vec![
                Value::Float(first),
                Value::Float(second),
            ]))
        }
        (Function::Two(function), [first, second]) => {
            Ok(Value::Float(function(number(first)?, number(second)?)))
        }
        (Function::Three(function), [first, second, third]) => Ok(Value::Float(function(
            number(first)?,
            number(second)?,
            number(third)?,
        ))),
        (Function::Two(_) | Function::Three(_), _) => Err(unfit(input, "number required")),
    }
}

fn number<'v>(value: &Value<'v>) -> Result<f64, Failure<'v>> {
    value
        .to_float()
        .ok_or_else(|| unfit(value, "number required"))
}

const fn types<const COUNT: usize>(types: [Type; COUNT]) -> Special {
    let mut bits = 0;
    let mut at = 0;
    while at < COUNT {
        bits |= 1 << types[at] as u8;
        at += 1;
    }
    Special::OfTypes(bits)
}

/// Returns the meaning of `name` if it is called with `arity` arguments.
pub(crate) fn find(name: &str, arity: usize) -> Option<Builtin> {
    special(name, arity)
        .or_else(|| native(name, arity).map(|run| Builtin::Native(Native::values(run))))
        .or_else(|| split(name, arity))
        .or_else(|| first_outermost(name, arity))
        .or_else(|| {
            let function = math::find(name, arity)?;
            Some(Builtin::Native(Native {
                run: Run::Math(function),
                outermost: Outermost::Last,
            }))
        })
}

fn split(name: &str, arity: usize) -> Option<Builtin> {
    let native = Native {
        run: Run::Split,
        outermost: Outermost::Last,
    };
    ((name, arity) == ("split", 1)).then_some(Builtin::Native(native))
}

fn first_outermost(name: &str, arity: usize) -> Option<Builtin> {
    let (run, is_stream): (ValuesFilter, bool) = match (name, arity) {
        ("split", 2) => (matches::split, false),
        ("splits", 1 | 2) => (matches::split, true),
        ("scan", 1 | 2) => (matches::scan, true),
        ("match", 1 | 2) => (matches::find, true),
        ("capture", 1 | 2) => (matches::capture, true),
        ("tostream", 0) => (arrays::to_stream, true),
        _ => return None,
    };
    let outermost = if matches!(name, "match" | "capture") {
        Outermost::Last
    } else {
        Outermost::First
    };
    let native = Native {
        run: Run::Values(run),
        outermost,
    };
    Some(if is_stream {
        Builtin::Each(native)
    } else {
        Builtin::Native(native)
    })
}

fn special(name: &str, arity: usize) -> Option<Builtin> {
    use Builtin::{SpecialOfEach, SpecialOfEachItself};
    let special = match (name, arity) {
        ("empty", 0) => Special::Empty,
        ("path", 1) => Special::Path,
        ("first", 0) => return Some(Builtin::Element(0)),
        ("first", 1) => Special::First,
        ("last", 0) => return Some(Builtin::Element(-1)),
        ("last", 1) => Special::Last,
        ("limit", 2) => Special::Limit,
        ("skip", 2) => Special::Skip,
        ("nth", 1) => return Some(Builtin::ElementAt),
        ("nth", 2) => Special::Nth,
        ("until", 2) => Special::Until,
        ("while", 2) => Special::While,
        ("repeat", 1) => Special::Repeat,
        ("recurse", 0) => Special::Recurse,
        ("recurse", 1) => Special::RecurseWith,
        ("recurse", 2) => Special::RecurseIf,
        ("range", 1) => return Some(Builtin::RangeTo),
        ("range", 2) => Special::Range,
        ("range", 3) => Special::RangeBy,
        ("select", 1) => Special::Select,
        ("map", 1) => return Some(Builtin::Map),
        ("map_values", 1) => return Some(Builtin::MapValues),
        ("add", 0) => return Some(SpecialOfEach(Special::Add)),
        ("add", 1) => Special::Add,
        ("any", 0) => return Some(SpecialOfEachItself(Special::Any)),
        ("any", 1) => return Some(SpecialOfEach(Special::Any)),
        ("any", 2) => Special::Any,
        ("all", 0) => return Some(SpecialOfEachItself(Special::All)),
        ("all", 1) => return Some(SpecialOfEach(Special::All)),
        ("all", 2) => Special::All,
        ("isempty", 1) => Special::IsEmpty,
        ("sort_by", 1) => Special::SortBy,
        ("group_by", 1) => Special::GroupBy,
        ("unique_by", 1) => Special::UniqueBy,
        ("min_by", 1) => Special::MinBy,
        ("max_by", 1) => Special::MaxBy,
        ("del", 1) => Special::Delete,
        ("getpath", 1) => Special::GetPath,
        ("pick", 1) => Special::Pick,
        ("walk", 1) => Special::Walk,
        ("error", 1) => Special::Error,
        ("sub", 2 | 3) => Special::Substitute { is_global: false },
        ("gsub", 2 | 3) => Special::Substitute { is_global: true },
        ("arrays", 0) => types([Type::Array]),
        ("objects", 0) => types([Type::Object]),
        ("iterables", 0) => types([Type::Array, Type::Object]),
        ("booleans", 0) => types([Type::False, Type::True]),
        ("numbers", 0) => types([Type::Number]),
        ("strings", 0) => types([Type::String]),
        ("nulls", 0) => types([Type::Null]),
        ("values", 0) => types([
            Type::False,
            Type::True,
            Type::Number,
            Type::String,
            Type::Array,
            Type::Object,
        ]),
        ("scalars", 0) => types([
            Type::Null,
            Type::False,
            Type::True,
            Type::Number,
            Type::String,
        ]),
        ("have_decnum" | "have_literal_numbers", 0) => return Some(Builtin::Boolean(true)),
        ("infinite", 0) => return Some(Builtin::Number(f64::INFINITY)),
        ("nan", 0) => return Some(Builtin::Number(f64::NAN)),
        ("builtins", 0) => return Some(Builtin::Names),
        _ => return None,
    };
    Some(Builtin::Special(special))
}

fn native(name: &str, arity: usize) -> Option<ValuesFilter> {
    Some(match (name, arity) {
        ("not", 0) => values::not,
        ("length", 0) => values::length,
        ("utf8bytelength", 0) => strings::byte_length,
        ("keys", 0) => values::keys,
        ("keys_unsorted", 0) => values::keys_unsorted,
        ("has", 1) => values::has,
        ("contains", 1) => values::contains,
        ("type", 0) => values::type_of,
        ("isinfinite", 0) => values::is_infinite,
        ("isnan", 0) => values::is_nan,
        ("isnormal", 0) => values::is_normal,
        ("isfinite", 0) => values::is_finite,
        ("abs", 0) => values::abs,
        ("error", 0) => values::error,
        ("setpath", 2) => values::set_path,
        ("delpaths", 1) => values::delete_paths,
        ("to_entries", 0) => values::to_entries,
        ("from_entries", 0) => values::from_entries,
        ("tostring", 0) => convert::to_string,
        ("tonumber", 0) => convert::to_number,
        ("toboolean", 0) => convert::to_boolean,
        ("tojson", 0) => convert::to_json,
        ("fromjson", 0) => convert::from_json,
        ("format", 1) => format::by_name,
        ("sort", 0) => arrays::sort,
        ("unique", 0) => arrays::unique,
        ("min", 0) => arrays::min,
        ("max", 0) => arrays::max,
        ("reverse", 0) => arrays::reverse,
        ("flatten", 0 | 1) => arrays::flatten,
        ("transpose", 0) => arrays::transpose,
        ("bsearch", 1) => arrays::binary_search,
        ("indices", 1) => arrays::indices,
        ("index", 1) => arrays::first_index,
        ("rindex", 1) => arrays::last_index,
        ("join", 1) => strings::join,
        ("startswith", 1) => strings::starts_with,
        ("endswith", 1) => strings::ends_with,
        ("ltrimstr", 1) => strings::trim_start_string,
        ("rtrimstr", 1) => strings::trim_end_string,
        ("trimstr", 1) => strings::trim_string,
        ("trim", 0) => strings::trim,
        ("ltrim", 0) => strings::trim_start,
        ("rtrim", 0) => strings::trim_end,
        ("explode", 0) => strings::explode,
        ("implode", 0) => strings::implode,
        ("ascii_downcase", 0) => strings::downcase,
        ("ascii_upcase", 0) => strings::upcase,
        ("test", 1 | 2) => matches::test,
        ("gmtime", 0) => dates::gmtime,
        ("mktime", 0) => dates::mktime,
        ("strftime", 1) => dates::strftime,
        ("strptime", 1) => dates::strptime,
        _ => return None,
    })
}

/// The names of all filters with the number of their arguments, except those of mathematics and of
/// the prelude.
pub(crate) const NAMES: &[&str] = &[
    "abs/0",
    "add/0",
    "add/1",
    "all/0",
    "all/1",
    "all/2",
    "any/0",
    "any/1",
    "any/2",
    "arrays/0",
    "ascii_downcase/0",
    "ascii_upcase/0",
    "booleans/0",
    "bsearch/1",
    "builtins/0",
    "capture/1",
    "capture/2",
    "contains/1",
    "del/1",
    "delpaths/1",
    "empty/0",
    "endswith/1",
    "error/0",
    "error/1",
    "explode/0",
    "first/0",
    "first/1",
    "flatten/0",
    "flatten/1",
    "format/1",
    "from_entries/0",
    "fromjson/0",
    "getpath/1",
    "gmtime/0",
    "group_by/1",
    "gsub/2",
    "gsub/3",
    "has/1",
    "have_decnum/0",
    "have_literal_numbers/0",
    "implode/0",
    "index/1",
    "indices/1",
    "infinite/0",
    "isempty/1",
    "isfinite/0",
    "isinfinite/0",
    "isnan/0",
    "isnormal/0",
    "iterables/0",
    "join/1",
    "keys/0",
    "keys_unsorted/0",
    "last/0",
    "last/1",
    "length/0",
    "limit/2",
    "ltrim/0",
    "ltrimstr/1",
    "map/1",
    "map_values/1",
    "match/1",
    "match/2",
    "max/0",
    "max_by/1",
    "min/0",
    "min_by/1",
    "mktime/0",
    "nan/0",
    "not/0",
    "nth/1",
    "nth/2",
    "nulls/0",
    "numbers/0",
    "objects/0",
    "path/1",
    "pick/1",
    "range/1",
    "range/2",
    "range/3",
    "recurse/0",
    "recurse/1",
    "recurse/2",
    "repeat/1",
    "reverse/0",
    "rindex/1",
    "rtrim/0",
    "rtrimstr/1",
    "scalars/0",
    "scan/1",
    "scan/2",
    "select/1",
    "setpath/2",
    "skip/2",
    "sort/0",
    "sort_by/1",
    "split/1",
    "split/2",
    "splits/1",
    "splits/2",
    "startswith/1",
    "strftime/1",
    "strings/0",
    "strptime/1",
    "sub/2",
    "sub/3",
    "test/1",
    "test/2",
    "toboolean/0",
    "tojson/0",
    "tonumber/0",
    "tostream/0",
    "tostring/0",
    "transpose/0",
    "trim/0",
    "trimstr/1",
    "type/0",
    "unique/0",
    "unique_by/1",
    "until/2",
    "utf8bytelength/0",
    "values/0",
    "walk/1",
    "while/2",
];
