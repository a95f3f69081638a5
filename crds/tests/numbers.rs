//! Tests that the reader of JSON that the operator, the coordinator and the workers share keeps the
//! numbers of inline items.

use serde_json::Value;

#[test]
fn a_double_is_read_as_the_one_that_was_written() {
    for text in [
        "0.10000000000000055",
        "900.7199254740995",
        "901.07199254740993",
        "5e24",
        "1.0000000000000001e23",
    ] {
        let read: Value = serde_json::from_str(text).expect("it is JSON");
        assert_eq!(read.as_f64(), text.parse().ok(), "{text}");
    }
}
