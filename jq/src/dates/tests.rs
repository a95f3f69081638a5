//! Tests of dates. The expected values are those of jq 1.8.1 on Linux.

use super::*;

#[track_caller]
fn reads(text: &str, format: &str, expected: [i64; 8], rest: &str) {
    let (time, left) = strptime(text, format).unwrap();
    assert_eq!(
        (time.to_numbers(), left),
        (expected, rest),
        "{text:?} by {format:?}"
    );
}

#[track_caller]
fn refuses(text: &str, format: &str) {
    let error = strptime(text, format).unwrap_err();
    assert_eq!(
        error,
        format!("date \"{text}\" does not match format \"{format}\"")
    );
}

#[track_caller]
fn writes(time: [f64; 8], format: &str, expected: &str) {
    assert_eq!(
        strftime(&BrokenDown::from_numbers(&time), format).as_deref(),
        Ok(expected),
        "{time:?} by {format:?}"
    );
}

#[test]
fn gmtime_is_exact_and_keeps_the_fraction() {
    #[track_caller]
    fn check(seconds: f64, expected: [i64; 8], second: f64) {
        let (time, exact) = gmtime(seconds).unwrap();
        assert_eq!((time.to_numbers(), exact), (expected, second), "{seconds}");
    }
    check(0.0, [1970, 0, 1, 0, 0, 0, 4, 0], 0.0);
    check(1.5, [1970, 0, 1, 0, 0, 1, 4, 0], 1.5);
    check(-1.5, [1969, 11, 31, 23, 59, 59, 3, 364], 59.5);
    check(-0.25, [1970, 0, 1, 0, 0, 0, 4, 0], 0.75);
    check(1e12, [33658, 8, 27, 1, 46, 40, 5, 269], 40.0);
    check(
        1_700_000_000.123_456,
        [2023, 10, 14, 22, 13, 20, 2, 317],
        20.123_456_001_281_74,
    );
    check(951_782_400.0, [2000, 1, 29, 0, 0, 0, 2, 59], 0.0);
    for seconds in [
        1e18,
        f64::NAN,
        f64::INFINITY,
        -1e300,
        67_768_036_191_676_800.0,
    ] {
        assert_eq!(
            gmtime(seconds).unwrap_err(),
            "error converting number of seconds since epoch to datetime"
        );
    }
}

#[test]
fn mktime_brings_fields_into_their_ranges() {
    assert_eq!(mktime(&[2024.0, 1.0, 29.0]), Ok(1_709_164_800));
    assert_eq!(
        mktime(&[2024.0, 13.0, 1.0, 0.0, 0.0, 0.0]),
        Ok(1_738_368_000)
    );
    assert_eq!(
        mktime(&[2024.0, 1.9, 1.0, 0.0, 0.0, 61.9]),
        Ok(1_706_745_661)
    );
    assert_eq!(
        mktime(&[2024.0, 1.0, 1.0, 0.0, 0.0, -5.0]),
        Ok(1_706_745_595)
    );
    assert_eq!(mktime(&[]), Ok(-2_209_075_200));
    assert_eq!(mktime(&[2024.0]), Ok(1_703_980_800));
    assert_eq!(mktime(&[1e10, 0.0, 1.0]), Ok(67_768_036_160_140_800));
    assert_eq!(
        mktime(&[1969.0, 11.0, 31.0, 23.0, 59.0, 59.0]).unwrap_err(),
        "invalid gmtime representation"
    );
    assert_eq!(
        mktime(&[1969.0, 11.0, 31.0, 23.0, 59.0, 58.0]).unwrap_err(),
        "mktime not supported on this platform"
    );
    assert_eq!(
        mktime(&[1e10, 12.0, 1.0]).unwrap_err(),
        "invalid gmtime representation"
    );
}

#[test]
fn strptime_reads_all_directives() {
    reads("2024-05-06", "%F", [2024, 4, 6, 0, 0, 0, 1, 126], "");
    reads("10:11:12", "%T", [1900, 0, 0, 10, 11, 12, 8, 367], "");
    reads(
        "Mon, 06 May 2024",
        "%a, %d %b %Y",
        [2024, 4, 6, 0, 0, 0, 1, 126],
        "",
    );
    reads("69", "%y", [1969, 0, 0, 0, 0, 0, 2, -1], "");
    reads("68", "%y", [2068, 0, 0, 0, 0, 0, 6, -1], "");
    reads("1700000000", "%s", [2023, 10, 14, 22, 13, 20, 2, 317], "");
    reads("2024 130", "%Y %j", [2024, 4, 9, 0, 0, 0, 4, 129], "");
    reads("5pm", "%I%p", [1900, 0, 0, 17, 0, 0, 8, 367], "");
    reads("20", "%C", [2000, 0, 0, 0, 0, 0, 5, -1], "");
    reads("1999 10 2", "%Y %U %w", [1999, 2, 9, 0, 0, 0, 2, 67], "");
    reads("2024-W10-1", "%G-W%V-%u", [1900, 0, 0, 0, 0, 0, 1, 367], "");
    reads(
        "Tue Nov 14 22:13:20 2023",
        "%c",
        [2023, 10, 14, 22, 13, 20, 2, 317],
        "",
    );
    reads("31 2", "%d %m", [1900, 1, 31, 0, 0, 0, 6, 61], "");
    reads("+05:30 x", "%z x", [1900, 0, 0, 0, 0, 0, 8, 367], "");
    reads(
        "2024-05-06 extra",
        "%F",
        [2024, 4, 6, 0, 0, 0, 1, 126],
        " extra",
    );
    reads("2023 00 0", "%Y %U %w", [2023, -1, -6, 0, 0, 0, 0, -7], "");
    reads(
        "2020 00 1",
        "%Y %W %w",
        [2020, -1, -366, 0, 0, 0, 1, -2],
        "",
    );
    reads("2023 53 6", "%Y %W %w", [2023, 25, 5, 0, 0, 0, 6, 370], "");
    reads("2024 53 6", "%Y %W %w", [2024, 12, 4, 0, 0, 0, 6, 369], "");
    reads("0", "%Y", [0, 0, 0, 0, 0, 0, 6, -1], "");
    reads("JANUARY", "%b", [1900, 0, 0, 0, 0, 0, 0, -1], "");
    for (text, format) in [
        ("x", "%q"),
        ("2024-05-06T07:08:09.5Z", "%Y-%m-%dT%H:%M:%SZ"),
        ("62", "%S"),
        ("0", "%j"),
        ("367", "%j"),
        ("13", "%m"),
        ("abc", "abd"),
        ("Sept", "%b"),
        ("2024-05-06extra", "%F"),
        ("-5", "%Y"),
        ("1e3", "%s"),
        ("12345-01-01", "%Y-%m-%d"),
        ("54", "%U"),
    ] {
        refuses(text, format);
    }
}

#[test]
fn strftime_writes_all_directives() {
    let time = gmtime(1_700_000_000.5)
        .unwrap()
        .0
        .to_numbers()
        .map(|number| f64::from(i32::try_from(number).unwrap()));
    writes(
        time,
        "%c|%x|%X|%p|%r|%Z|%z|%s",
        "Tue Nov 14 22:13:20 2023|11/14/23|22:13:20|PM|10:13:20 PM|GMT|+0000|1700000000",
    );
    writes(
        time,
        "%e|%k|%l|%j|%U|%W|%V|%G|%g|%u|%w|%C",
        "14|22|10|318|46|46|46|2023|23|2|2|20",
    );
    writes(
        time,
        "%D|%F|%T|%R|%h|%n|%t|%%",
        "11/14/23|2023-11-14|22:13:20|22:13|Nov|\n|\t|%",
    );
    writes(
        time,
        "%E|%Ey|%P|%+|%N|%Q|%_d|%-d|%^a|%10Y|%#Z",
        "%E|23|pm|%+|%N|%Q|14|14|TUE|0000002023|gmt",
    );
    writes(
        [2021.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        "%G-W%V-%u %a",
        "2020-W53-6 Sat",
    );
    writes(
        [2_147_483_647.0, 12.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        "%F %C %y",
        "-2147483648-01-01 -21474837 48",
    );
    writes(
        [2024.0, 13.0, 35.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        "%F",
        "2025-03-07",
    );
    let time = BrokenDown::from_numbers(&time);
    assert_eq!(strftime(&time, ""), Ok(String::new()));
    assert_eq!(
        strftime(&time, "%200d").unwrap_err(),
        "strftime/1: unknown system failure"
    );
}
