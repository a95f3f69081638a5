//! Dates of jq: broken-down times, `strptime` and `strftime`. Knows no values.
