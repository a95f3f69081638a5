//! The mathematical functions of jq by name. Knows no values.
