//! The names of jq that a pipeline may not use, each with the reason that its error gives. Names only.

/// Filters that jaq's library has and that are taken out of it, or that only the jq program has.
const FORBIDDEN: [(&str, &str); 19] = [
    ("env", ENVIRONMENT),
    ("$ENV", ENVIRONMENT),
    ("halt", "an expression may not end its process"),
    (
        "halt_error",
        "an expression may not end its process; use error",
    ),
    ("now", CLOCK),
    ("localtime", ZONE),
    ("strflocaltime", ZONE),
    ("debug", OUTPUT),
    ("debug_empty", OUTPUT),
    ("stderr", OUTPUT),
    ("stderr_empty", OUTPUT),
    ("input", INPUT),
    ("inputs", INPUT),
    ("input_filename", INPUT),
    ("input_line_number", INPUT),
    ("import", MODULES),
    ("include", MODULES),
    ("modulemeta", MODULES),
    ("get_search_list", MODULES),
];

const ENVIRONMENT: &str =
    "a result may depend on the record only, not on the environment of the worker";
const CLOCK: &str =
    "a result may depend on the record only, not on the time at which it is computed";
const ZONE: &str =
    "a result may not depend on the time zone of the worker; gmtime and strftime work in UTC";
const OUTPUT: &str = "an expression has no output besides its results";
const INPUT: &str = "an expression sees one record at a time";
const MODULES: &str = "there are no modules";

/// Why `name` may not be used; `None` for every other name.
pub(super) fn reason(name: &str) -> Option<&'static str> {
    FORBIDDEN
        .iter()
        .find(|(forbidden, _)| *forbidden == name)
        .map(|(_, reason)| *reason)
}
