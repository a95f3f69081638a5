//! Tests what a record accepts and keeps. Tables contain the common mistakes. For everything else,
//! an independent parser must agree.

use proptest::prelude::*;
use serde_json::value::RawValue;
use zephyr_jq::json::{Kind, View};

use super::*;

fn text_of(json: &str) -> String {
    Record::parse(json.as_bytes()).unwrap().to_string()
}

fn selection(paths: &[&str]) -> Selection {
    let paths: Vec<FieldPath> = paths.iter().map(|path| path.parse().unwrap()).collect();
    Selection::new(&paths).unwrap()
}

#[test]
fn text_is_kept_but_for_white_space_outside_strings() {
    for (read, kept) in [
        ("null", "null"),
        (" true\r\n", "true"),
        ("0.10", "0.10"),
        ("1e400", "1e400"),
        ("-0", "-0"),
        ("1E+2", "1E+2"),
        ("12345678901234567890", "12345678901234567890"),
        (r#" "a b\u0041\/" "#, r#""a b\u0041\/""#),
        ("{ }", "{}"),
        ("[\t]", "[]"),
        (
            r#"{ "a b" : [ 1 , "x \" y\\" , { } ] , "c" : null }"#,
            r#"{"a b":[1,"x \" y\\",{}],"c":null}"#,
        ),
        (r#"{"a":1,"a":2}"#, r#"{"a":1,"a":2}"#),
        ("\"\u{2028}é😀\u{7f}\"", "\"\u{2028}é😀\u{7f}\""),
    ] {
        assert_eq!(text_of(read), kept);
        assert_eq!(text_of(kept), kept);
    }
}

/// Bytes that are not a record, with the expected error.
const REFUSED: &[(&[u8], &str)] = &[
    (
        b"",
        "byte 0: the record is empty; one JSON value is expected",
    ),
    (
        b" \r",
        "byte 2: the record is empty; one JSON value is expected",
    ),
    (
        b"\xef\xbb\xbf{}",
        "byte 0: the text starts with a byte order mark; UTF-8 without it is expected",
    ),
    (b"\"a\xffb\"", "byte 2: the text is not valid UTF-8"),
    (b"\"a\xed\xa0\x80\"", "byte 2: the text is not valid UTF-8"),
    (b"{\"a\":1", "byte 6: the JSON value is cut off"),
    (b"\"abc", "byte 4: the JSON value is cut off"),
    (b"\"abc\\", "byte 5: the JSON value is cut off"),
    (b"\"\\u12", "byte 5: the JSON value is cut off"),
    (b"tru", "byte 0: the JSON value is cut off"),
    (b"hello", "byte 0: a JSON value is expected (got 'h')"),
    (b"\x00", "byte 0: a JSON value is expected (got byte 0x00)"),
    (
        b"{\"a\":NaN}",
        "byte 5: NaN and Infinity are not JSON; a number, null or a string is expected",
    ),
    (
        b"-Infinity",
        "byte 0: NaN and Infinity are not JSON; a number, null or a string is expected",
    ),
    (
        b"nan",
        "byte 0: NaN and Infinity are not JSON; a number, null or a string is expected",
    ),
    (b"01", "byte 0: a number may not begin with a superfluous 0"),
    (
        b"[-00]",
        "byte 1: a number may not begin with a superfluous 0",
    ),
    (b"+1", "byte 0: a number may not begin with +"),
    (b"1.", "byte 2: a digit is expected in this number"),
    (b"1.e5", "byte 2: a digit is expected in this number"),
    (b"1e", "byte 2: a digit is expected in this number"),
    (b"-", "byte 1: a digit is expected in this number"),
    (b".5", "byte 0: a JSON value is expected (got '.')"),
    (
        b"[1 2]",
        "byte 3: ',' or ']' is expected after an element (got '2')",
    ),
    (
        b"{\"a\":1;}",
        "byte 6: ',' or '}' is expected after a member (got ';')",
    ),
    (
        b"{\"a\" 1}",
        "byte 5: ':' is expected after a key (got '1')",
    ),
    (
        b"{a:1}",
        "byte 1: a key in double quotes is expected (got 'a')",
    ),
    (
        b"[1,]",
        "byte 3: a value or a key is expected after the comma",
    ),
    (
        b"{\"a\":1,}",
        "byte 7: a value or a key is expected after the comma",
    ),
    (
        b"\"a\nb\"",
        "byte 2: control character U+000A in a string must be written as an escape",
    ),
    (
        b"\"\0\"",
        "byte 1: control character U+0000 in a string must be written as an escape",
    ),
    (
        b"\"\\x41\"",
        "byte 1: unknown escape in a string; \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX are allowed",
    ),
    (
        b"\"\\u00g0\"",
        "byte 1: \\u must be followed by four hexadecimal digits",
    ),
    (
        b"\"\\ud800\"",
        "byte 1: half of a \\u surrogate pair is not a character",
    ),
    (
        b"\"\\ud800x\\udc00\"",
        "byte 1: half of a \\u surrogate pair is not a character",
    ),
    (
        b"\"ab\\udc00\"",
        "byte 3: half of a \\u surrogate pair is not a character",
    ),
    (
        b"{} {}",
        "byte 3: only one JSON value is allowed (got '{' after it)",
    ),
    (
        b"1]",
        "byte 1: only one JSON value is allowed (got ']' after it)",
    ),
];

#[test]
fn the_error_and_its_position_are_reported() {
    for (bytes, expected) in REFUSED {
        let error = Record::parse(bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            *expected,
            "{}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn as_many_levels_as_the_limit_are_a_record_and_one_more_is_not() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    for limit in [1, 2, 64, DEFAULT_NESTING, MAX_NESTING] {
        let mut parser = RecordParser::within(Limits {
            nesting: limit,
            ..Limits::default()
        });
        let objects = r#"{"a":"#.repeat(limit) + "1" + &"}".repeat(limit);
        for text in [nested(limit), objects] {
            assert_eq!(parser.parse(text.as_bytes()).unwrap().to_string(), text);
        }
        for levels in [limit + 1, 100_000] {
            let error = parser.parse(nested(levels).as_bytes()).unwrap_err();
            assert_eq!(
                error,
                RecordError {
                    offset: limit,
                    problem: RecordProblem::TooDeep { limit }
                }
            );
        }
    }
    assert!(Record::parse(nested(DEFAULT_NESTING).as_bytes()).is_ok());
    assert!(Record::parse(nested(DEFAULT_NESTING + 1).as_bytes()).is_err());
}

#[test]
fn a_record_longer_than_the_limit_is_refused_before_it_is_read() {
    let limit = 1000;
    let limits = Limits {
        bytes: limit,
        ..Limits::default()
    };
    let mut parser = RecordParser::within(limits);
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    assert!(parser.parse(text(limit).as_bytes()).is_ok());
    let problem = RecordProblem::TooLong { limit };
    assert_eq!(
        parser
            .parse(text(limit + 1).as_bytes())
            .unwrap_err()
            .problem,
        problem
    );
    assert!(Record::from_text_line(&"x".repeat(limit), &limits).is_ok());
    for line in ["x".repeat(limit + 1), "\u{1}".repeat(limit / 6 + 1)] {
        assert_eq!(
            Record::from_text_line(&line, &limits).unwrap_err().problem,
            problem
        );
    }
}

#[test]
fn special_characters_are_found_at_every_position_in_a_string() {
    for length in 0..40 {
        for position in 0..length {
            for byte in 0..0x80_u8 {
                let mut inner = "x".repeat(length).into_bytes();
                inner[position] = byte;
                let quoted = [b"\"", inner.as_slice(), b"\""].concat();
                let plain = byte >= 0x20 && byte != b'"' && byte != b'\\';
                if plain {
                    assert!(
                        Record::parse(&quoted).is_ok(),
                        "{byte:#x} at {position} of {length}"
                    );
                } else if byte < 0x20 {
                    let expected = RecordError {
                        offset: position + 1,
                        problem: RecordProblem::Json(JsonProblem::ControlCharacter(byte)),
                    };
                    assert_eq!(Record::parse(&quoted), Err(expected));
                } else {
                    assert!(
                        Record::parse(&quoted).is_err(),
                        "{byte:#x} at {position} of {length}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_line_of_text_becomes_a_string_and_back() {
    for (line, json) in [
        ("", r#""""#),
        ("plain", r#""plain""#),
        ("tab\tquote\"back\\slash/", r#""tab\tquote\"back\\slash/""#),
        (
            "\u{0}\u{1f}\u{7f}\u{8}\u{c}\r\n",
            "\"\\u0000\\u001f\u{7f}\\b\\f\\r\\n\"",
        ),
        ("é😀\u{2028}", "\"é😀\u{2028}\""),
    ] {
        let record = Record::from_text_line(line, &Limits::default()).unwrap();
        assert_eq!(record.to_string(), json);
        assert_eq!(record.as_string().as_deref(), Some(line));
    }
    assert_eq!(
        Record::parse(br#""\ud83d\ude00\u00e9\/""#)
            .unwrap()
            .as_string()
            .as_deref(),
        Some("😀é/")
    );
    assert_eq!(Record::from_integer(1).as_string(), None);
}

#[test]
fn a_parser_keeps_nothing_from_one_record_to_the_next() {
    let mut parser = RecordParser::new();
    let first = parser.parse(br#"{"a":[1,2,{"b":3}]}"#).unwrap();
    assert!(parser.parse(b"[1,[2,").is_err());
    let second = parser.parse(b" 7 ").unwrap();
    let third = parser.parse(br#"{"b":"x"}"#).unwrap();
    assert_eq!(
        first.source().root().member("a").map(View::text),
        Some(r#"[1,2,{"b":3}]"#)
    );
    assert_eq!(second.to_string(), "7");
    assert_eq!(
        third.source().root().member("b").map(View::text),
        Some(r#""x""#)
    );
}

#[test]
fn selected_fields_keep_text_order_and_nesting() {
    let record = r#"{"a":1.0,"b":{"c":"\u0041","d":[1]},"e":null,"x.y":1}"#;
    for (paths, expected) in [
        (&["a"][..], r#"{"a":1.0}"#),
        (&["e", "a"], r#"{"e":null,"a":1.0}"#),
        (&["a", "b.c"], r#"{"a":1.0,"b":{"c":"\u0041"}}"#),
        (
            &["b.d", "a", "b.c"],
            r#"{"b":{"d":[1],"c":"\u0041"},"a":1.0}"#,
        ),
        (&["b"], r#"{"b":{"c":"\u0041","d":[1]}}"#),
        (&["missing", "e"], r#"{"e":null}"#),
        (&["b.missing", "a"], r#"{"a":1.0}"#),
        (&["a.c", "b.d.e", "e.f"], "{}"),
    ] {
        let selected = Record::parse(record.as_bytes())
            .unwrap()
            .select(&selection(paths))
            .unwrap();
        assert_eq!(selected.to_string(), expected, "{paths:?}");
    }
}

#[test]
fn the_last_of_a_repeated_key_is_selected() {
    let record = Record::parse(br#"{"a":1,"\u0061":2,"a":{"b":3},"a":{"b":4}}"#).unwrap();
    assert_eq!(
        record.select(&selection(&["a.b"])).unwrap().to_string(),
        r#"{"a":{"b":4}}"#
    );
}

#[test]
fn only_objects_can_be_projected() {
    for (json, got) in [
        ("null", "null"),
        ("[{}]", "array"),
        ("\"a\"", "string"),
        ("1", "number"),
        ("true", "boolean"),
    ] {
        let error = Record::parse(json.as_bytes())
            .unwrap()
            .select(&selection(&["a"]))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("select needs an object (got {got})")
        );
    }
}

#[test]
fn paths_that_cannot_be_combined_are_refused() {
    let error = |paths: &[&str]| {
        let paths: Vec<FieldPath> = paths.iter().map(|path| path.parse().unwrap()).collect();
        Selection::new(&paths).unwrap_err().to_string()
    };
    assert_eq!(
        error(&["a", "b", "a"]),
        "the path a is listed twice; each field is allowed once"
    );
    assert_eq!(
        error(&["a", "a.b"]),
        "a already contains a.b; only one of the two is allowed"
    );
    assert_eq!(
        error(&["a.b.c", "a.b"]),
        "a.b already contains a.b.c; only one of the two is allowed"
    );
    for path in ["", ".", "a.", ".a", "a..b"] {
        assert!(
            matches!(
                path.parse::<FieldPath>(),
                Err(FieldPathError::EmptyName { .. })
            ),
            "{path:?}"
        );
    }
}

#[test]
fn records_compose_and_keep_the_text_of_their_parts() {
    let key = Record::parse(br#"{"k":1.0}"#).unwrap();
    let count = Record::from_integer(u64::MAX);
    let object = Record::object(&Limits::default(), [("key", &key), ("n\"", &count)]).unwrap();
    assert_eq!(
        object.to_string(),
        r#"{"key":{"k":1.0},"n\"":18446744073709551615}"#
    );
    assert_eq!(
        Record::array(&Limits::default(), [&count, &key])
            .unwrap()
            .to_string(),
        r#"[18446744073709551615,{"k":1.0}]"#
    );
    assert_eq!(
        Record::object(&Limits::default(), []).unwrap().to_string(),
        "{}"
    );
    assert_eq!(
        Record::array(&Limits::default(), []).unwrap().to_string(),
        "[]"
    );
}

#[test]
fn a_composed_record_does_not_nest_deeper_than_a_record_may() {
    let nested = |levels: usize| {
        Record::parse(("[".repeat(levels) + &"]".repeat(levels)).as_bytes()).unwrap()
    };
    assert!(Record::array(&Limits::default(), [&nested(DEFAULT_NESTING - 1)]).is_ok());
    assert_eq!(
        Record::array(&Limits::default(), [&nested(DEFAULT_NESTING)])
            .unwrap_err()
            .problem,
        RecordProblem::TooDeep {
            limit: DEFAULT_NESTING
        }
    );
    assert_eq!(
        Record::object(&Limits::default(), [("a", &nested(DEFAULT_NESTING))])
            .unwrap_err()
            .problem,
        RecordProblem::TooDeep {
            limit: DEFAULT_NESTING
        }
    );
    // Many brackets beside each other, or in strings, do not count as depth.
    let flat = Record::parse(format!(r#"[{}"{}"]"#, "[],".repeat(100), "[".repeat(100)).as_bytes())
        .unwrap();
    assert!(Record::array(&Limits::default(), [&flat]).is_ok());
}

/// The record in the form in which expressions write it.
fn canonical(record: &Record) -> Record {
    let mut text = String::new();
    let written = record.with_value(|value| value.write_json(&mut text, Limits::WIDEST.of_scan()));
    written.unwrap();
    Record::trusted(text)
}

#[test]
fn the_canonical_form_has_each_key_once_and_the_fewest_escapes() {
    for (json, expected) in [
        (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
        (
            r#"[{"\u0061":"\u00e9\/\u000a\u007f","x":0.10}]"#,
            r#"[{"a":"é/\n\u007f","x":0.10}]"#,
        ),
        ("\"\u{7f}\"", r#""\u007f""#),
        (
            "[{\"\u{7f}\":\"a\u{7f}\"},[]]",
            r#"[{"\u007f":"a\u007f"},[]]"#,
        ),
        ("[\"\u{7f}\"]", r#"["\u007f"]"#),
        (r#"{"a":{"b":1,"b":2}}"#, r#"{"a":{"b":2}}"#),
        (r#"[{"x":{"b":[1,{}],"\u0062":2}}]"#, r#"[{"x":{"b":2}}]"#),
    ] {
        let record = canonical(&Record::parse(json.as_bytes()).unwrap());
        assert_eq!(record.to_string(), expected);
        assert_eq!(canonical(&record), record);
    }
}

/// The assumptions of [`Limits::surely_have_room`].
#[test]
fn no_text_needs_more_memory_than_the_greatest_factor() {
    let count = 1000;
    for element in [
        "1",
        "[]",
        "{}",
        r#"{"":0}"#,
        r#"[""]"#,
        r#""\n""#,
        "[[]]",
        "[1,2,3,4,5]",
        r#"{"":{}}"#,
        r#"{"a":0,"b":0,"c":0,"d":0,"e":0}"#,
    ] {
        let array = format!("[{}]", vec![element; count].join(","));
        let members: Vec<String> = (0..count).map(|at| format!("\"{at}\":{element}")).collect();
        for text in [array, format!("{{{}}}", members.join(","))] {
            let census = Census::of(&text);
            let bytes = 4 * text.len()
                + census.tape_bytes()
                + census.value_bytes
                + census.sorting_bytes
                + 2 * census.key_bytes;
            assert!(
                bytes <= limits::MAX_MEMORY_FACTOR * text.len(),
                "{} for {element}",
                bytes / text.len()
            );
        }
    }
}

/// Makes bytes that resemble JSON: its tokens in any order.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(":"),
        Just(","),
        Just("\""),
        Just("\"a\""),
        Just("\"\\u0041\""),
        Just("\\"),
        Just("\\ud83d\\ude00"),
        Just("\\ud800"),
        Just("null"),
        Just("true"),
        Just("false"),
        Just("nul"),
        Just("0"),
        Just("-"),
        Just("1"),
        Just("12"),
        Just("."),
        Just("e"),
        Just("E+"),
        Just(" "),
        Just("\n"),
        Just("é"),
        Just("\u{1}"),
    ];
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        proptest::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat().into_bytes()),
        (json(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(json, at, byte)| {
            let mut bytes = json.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
        (json(), any::<prop::sample::Index>())
            .prop_map(|(json, at)| json.as_bytes()[..at.index(json.len())].to_vec()),
    ]
}

/// Texts of JSON values, in all possible spellings.
pub(crate) fn json() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        any::<char>()
            .prop_filter("raw", |character| *character >= ' '
                && !matches!(character, '"' | '\\'))
            .prop_map(String::from),
        any::<u16>()
            .prop_filter("no surrogates", |unit| !(0xd800..0xe000).contains(unit))
            .prop_map(|unit| format!("\\u{unit:04x}")),
        Just("\\n".to_owned()),
        Just("\\\"".to_owned()),
        Just("\\ud83d\\ude00".to_owned()),
        "[a-c]{1,3}",
    ];
    let string = proptest::collection::vec(character, 0..8)
        .prop_map(|characters| format!("\"{}\"", characters.concat()));
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|boolean| boolean.to_string()),
        any::<i64>().prop_map(|integer| integer.to_string()),
        (-20_i64..20).prop_map(|integer| integer.to_string()),
        (-99_i64..99, -3..3).prop_map(|(mantissa, exponent)| format!("{mantissa}e{exponent}")),
        (-9_i64..9, 0..100).prop_map(|(whole, fraction)| format!("{whole}.{fraction}")),
        string.clone(),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        let space = "[ \n]{0,1}";
        let key = prop_oneof!["\"[a-c]\"", string.clone()];
        prop_oneof![
            (proptest::collection::vec(inner.clone(), 0..5), space).prop_map(
                |(elements, space)| format!("[{space}{}]", elements.join(&format!("{space},")))
            ),
            (proptest::collection::vec((key, inner), 0..5), space).prop_map(|(members, space)| {
                let members: Vec<String> = members
                    .into_iter()
                    .map(|(key, value)| format!("{key}{space}:{value}"))
                    .collect();
                format!("{{{}{space}}}", members.join(&format!(",{space}")))
            }),
        ]
    })
}

/// Uses every node and every string, as a user of a record may.
fn walk(view: View<'_>) -> usize {
    let inside: usize = view.elements().map(walk).sum::<usize>()
        + view
            .members()
            .map(|(key, value)| walk(key) + walk(value))
            .sum::<usize>();
    if matches!(view.kind(), Kind::PlainString | Kind::EscapedString) {
        assert!(!view.string().contains('\u{0}') || view.text().contains("\\u0000"));
    }
    inside + view.text().len()
}

/// The same checks as the fuzz target `record`.
fn agrees_with_serde_json(bytes: &[u8]) {
    match Record::parse(bytes) {
        Ok(record) => {
            assert!(
                serde_json::from_slice::<Box<RawValue>>(bytes).is_ok(),
                "accepted {:?}",
                String::from_utf8_lossy(bytes)
            );
            walk(record.source().root());
            let again = Record::parse(record.as_json()).unwrap();
            assert_eq!(again, record);
            let canonical = canonical(&record);
            if let Ok(expected) = serde_json::from_slice::<serde_json::Value>(bytes) {
                assert_eq!(
                    serde_json::from_slice::<serde_json::Value>(record.as_json()).unwrap(),
                    expected
                );
                assert_eq!(
                    serde_json::from_slice::<serde_json::Value>(canonical.as_json()).unwrap(),
                    expected
                );
            }
            if let (Ok(key), Ok(canonical_key)) = (record.key(), canonical.key()) {
                assert_eq!(key, canonical_key);
            }
        }
        Err(error) => {
            assert!(error.offset <= bytes.len());
            let too_deep = matches!(error.problem, RecordProblem::TooDeep { .. });
            assert!(
                too_deep || serde_json::from_slice::<serde_json::Value>(bytes).is_err(),
                "refused {:?}: {error}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_accepted_exactly_when_they_are_json(bytes in nearly_json()) {
        agrees_with_serde_json(&bytes);
    }

    #[test]
    fn json_is_accepted_and_means_the_same_without_its_white_space(json in json()) {
        prop_assert!(Record::parse(json.as_bytes()).is_ok(), "{}", json);
        agrees_with_serde_json(json.as_bytes());
        let record = Record::parse(json.as_bytes()).unwrap();
        prop_assert_eq!(record.as_json_str(), without_space(&json));
        let mut nodes = Vec::new();
        scan(record.as_json_str(), Limits::WIDEST.of_scan(), &mut nodes).unwrap();
        prop_assert_eq!(record.tape.get().map(|tape| tape.to_vec()), Some(nodes));
    }

    #[test]
    fn any_line_of_text_survives_as_a_string(line in any::<String>()) {
        let record = Record::from_text_line(&line, &Limits::default()).unwrap();
        prop_assert!(record.as_string().is_some_and(|value| value == line));
        prop_assert_eq!(serde_json::from_slice::<String>(record.as_json()).unwrap(), line);
        prop_assert_eq!(Record::parse(record.as_json()).unwrap(), record);
    }
}
