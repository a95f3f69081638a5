//! A 64-bit floating point number as jq writes it. Knows no values.
