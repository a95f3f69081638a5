//! The names of jq that use the machine, the time or other records. Each name has the reason why it
//! does not compile. This module contains only these names.

const FORBIDDEN: [(&str, &str); 20] = [
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
    ("stderr", OUTPUT),
    ("input", INPUT),
    ("inputs", INPUT),
    ("input_filename", INPUT),
    ("input_line_number", INPUT),
    ("import", MODULES),
    ("include", MODULES),
    ("modulemeta", MODULES),
    ("module", MODULES),
    ("get_search_list", MODULES),
    ("get_prog_origin", MODULES),
    ("get_jq_origin", MODULES),
];

const ENVIRONMENT: &str =
    "a result may depend on the record only, not on the environment of the machine";
const CLOCK: &str =
    "a result may depend on the record only, not on the time at which it is computed";
const ZONE: &str =
    "a result may not depend on the time zone of the machine; gmtime and strftime work in UTC";
const OUTPUT: &str = "an expression has no output besides its results";
const INPUT: &str = "an expression sees one record at a time";
const MODULES: &str = "there are no modules";

/// Returns the reason why `name` may not be used. `None` if it may be used.
pub(crate) fn reason(name: &str) -> Option<&'static str> {
    FORBIDDEN
        .iter()
        .find(|(forbidden, _)| *forbidden == name)
        .map(|(_, reason)| *reason)
}
