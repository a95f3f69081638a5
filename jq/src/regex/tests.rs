//! Tests of regular expressions. The expected values are those of jq 1.8.1.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

fn shown(pattern: &str, flags: &str, text: &str) -> String {
    let regex = match Regex::compile(pattern, flags) {
        Ok(regex) => regex,
        Err(error) => return error,
    };
    match regex.find_all(text, regex.is_global()) {
        Err(error) => error,
        Ok(found) => found
            .iter()
            .map(|found| shown_match(&regex, found))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

fn shown_match(regex: &Regex, found: &Match<'_>) -> String {
    let mut shown = format!("{}+{}:{:?}", found.offset, found.length, found.text);
    for (capture, name) in found.captures.iter().zip(regex.names()) {
        let text = capture
            .text
            .as_ref()
            .map_or("null".to_owned(), |text| format!("{text:?}"));
        let name = name.map_or(String::new(), |name| format!("{name}="));
        write!(
            shown,
            "({name}{}+{}:{text})",
            capture.offset, capture.length
        )
        .unwrap();
    }
    shown
}

#[track_caller]
fn check(pattern: &str, flags: &str, text: &str, expected: &str) {
    assert_eq!(
        shown(pattern, flags, text),
        expected,
        "{pattern:?} with {flags:?} in {text:?}"
    );
}

#[test]
fn matches_have_offsets_in_code_points_and_all_groups() {
    check(
        "(x)|(b)",
        "g",
        "aXbxc",
        r#"2+1:"b"(-1+0:null)(2+1:"b") 3+1:"x"(3+1:"x")(-1+0:null)"#,
    );
    check(
        "(?<year>\\d+)-(?<month>\\d+)",
        "",
        "é 2024-05",
        r#"2+7:"2024-05"(year=2+4:"2024")(month=7+2:"05")"#,
    );
    check(
        "(?<a>x)?(?<a>b)",
        "g",
        "ab",
        r#"1+1:"b"(a=-1+0:null)(a=1+1:"b")"#,
    );
    check("c(?<=(b)c)", "g", "😀bcc", r#"2+1:"c"(1+1:"b")"#);
    check("(b*)c", "", "éc", r#"1+1:"c"(1+0:"")"#);
    check("z", "g", "abc", "");
}

#[test]
fn an_empty_match_moves_on_by_one_byte_as_in_jq() {
    check("", "g", "ab", r#"0+0:"" 1+0:"" 2+0:"""#);
    check("", "g", "é", r#"0+0:"" 1+0:"" 1+0:"""#);
    check("b*", "g", "éb", r#"0+0:"" 1+0:"" 1+1:"b" 2+0:"""#);
    check(
        "(?=é)|.",
        "g",
        "é€b",
        "0+0:\"\" 0+1:\"\u{fffd}\" 1+1:\"€\" 2+1:\"b\"",
    );
    check(
        "(?=é)|(.)",
        "g",
        "aéb",
        "0+1:\"a\"(0+1:\"a\") 1+0:\"\"(-1+0:null) 0+2:\"\u{fffd}\"(0+2:\"\u{fffd}\") 2+1:\"b\"(2+1:\"b\")",
    );
    check(
        "(?<=(b))|c",
        "g",
        "abcc",
        r#"2+0:""(2+0:"") 3+1:"c"(-1+0:null)"#,
    );
}

#[test]
fn a_group_that_ends_before_it_begins_is_empty() {
    check("(.|a?){2}_", "g", "_", r#"0+1:"_"(1+0:"")"#);
}

#[test]
fn flags_mean_what_they_mean_in_jq() {
    check("B", "i", "ab", r#"1+1:"b""#);
    check("straße", "i", "STRASSE", r#"0+7:"STRASSE""#);
    check("a b # c", "x", "ab", r#"0+2:"ab""#);
    check(".", "", "\n", "");
    check(".", "p", "\n", "0+1:\"\\n\"");
    check("a*?", "gn", "aab", r#"0+1:"a" 1+1:"a""#);
    check("a|ab", "gl", "aab", r#"1+2:"ab""#);
    check("a$", "", "a\n", r#"0+1:"a""#);
    check("^b", "", "a\nb", "");
    check("a", "gq", "a", "gq is not a valid modifier string");
}

#[test]
fn a_pattern_that_is_refused_says_why() {
    check(
        "(",
        "",
        "a",
        "Regex failure: end pattern with unmatched parenthesis",
    );
    check("a**", "", "a", r#"0+1:"a""#);
    check("[b-a]", "", "a", "Regex failure: empty range in char class");
    check(
        "(?<n>a)\\k<m>",
        "",
        "a",
        "Regex failure: undefined name <m> reference",
    );
    check(
        &"(".repeat(300),
        "",
        "a",
        "Regex failure: groups are nested 300 levels deep; at most 250 are allowed",
    );
    check(
        &"a".repeat(70_000),
        "",
        "a",
        "Regex failure: the pattern has 70000 bytes; at most 65536 are allowed",
    );
}

#[test]
fn a_search_without_end_is_an_error() {
    check(
        "(a|aa)+\\1$",
        "",
        &format!("{}b", "a".repeat(50)),
        "Regex failure: retry-limit-in-match over",
    );
    let long = "a".repeat(9_000_000);
    assert_eq!(
        Regex::compile("(?:a|b)*\\z", "").unwrap().is_match(&long),
        Err("Regex failure: match-stack limit over".into())
    );
}

#[test]
fn the_sets_of_both_engines_have_the_same_characters() {
    let all = (0..=0x10_FFFF)
        .filter_map(char::from_u32)
        .collect::<String>();
    for set in [
        "\\w", "\\W", "\\d", "\\D", "\\s", "\\S", ".", "[^\\w]", "[\\w-]", "[\\W]", "[^a-z]",
        "[\\D\\s]",
    ] {
        let regex = Regex::compile(set, "g").unwrap();
        let plain = regex.plain.as_ref().expect(set);
        let theirs = plain.matches(&all);
        let mut start = 0;
        let mut region = Region::new();
        for (from, to) in theirs {
            assert!(
                regex
                    .search(&all, start, Some(&mut region))
                    .unwrap()
                    .is_some(),
                "{set} at byte {from}"
            );
            assert_eq!(
                region.pos(0),
                Some((from, to)),
                "{set}: {:?}",
                &all[from..to]
            );
            start = to;
        }
        assert_eq!(regex.search(&all, start, None).unwrap(), None, "{set}");
    }
}

#[test]
fn common_patterns_are_plain_but_hard_patterns_are_not() {
    for pattern in [
        "a",
        "^GET /",
        "\\d{4}-\\d{2}",
        "[^ ]+$",
        "(?<user>[\\w.]+)@(?:a|b)",
        "\\bfox\\b",
        "x{2,}?|y",
        "a.*?b",
    ] {
        assert_eq!(
            Regex::compile(pattern, "").unwrap().plain.is_some(),
            !pattern.contains("}?"),
            "{pattern}"
        );
    }
    for pattern in [
        "",
        "a*",
        "(a*)+",
        "(?=a)b",
        "(.)\\1",
        "[[:alpha:]]",
        "[a&&b]",
        "\\h",
        "a{,2}",
        "a++",
        "\\Aa",
        "(?i)a",
    ] {
        assert!(
            Regex::compile(pattern, "").unwrap().plain.is_none(),
            "{pattern}"
        );
    }
}

/// Patterns of and around the plain subset.
fn patterns() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        8 => "[abcß1 _-]",
        2 => prop::sample::select(vec![".", "\\d", "\\w", "\\W", "\\s", "\\.", "\\n", "é", "ſ", "K"]).prop_map(str::to_owned),
        2 => "\\[\\^?[-abß1_]{1,3}\\]",
        1 => prop::sample::select(vec!["[a-c]", "[^\\w]", "[\\d_]", "[^\\n]", "\\b", "^", "$"]).prop_map(str::to_owned),
    ];
    let sign = prop::sample::select(vec![
        "", "", "", "*", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{2,}",
    ]);
    atom.prop_recursive(4, 24, 4, move |inner| {
        let sequence = prop::collection::vec((inner, sign.clone()), 1..4).prop_map(|pieces| {
            pieces
                .iter()
                .flat_map(|(atom, sign)| [atom.as_str(), sign])
                .collect::<String>()
        });
        prop_oneof![
            3 => sequence.clone(),
            2 => sequence.clone().prop_map(|inner| format!("({inner})")),
            1 => sequence.clone().prop_map(|inner| format!("(?:{inner})")),
            2 => (sequence.clone(), sequence).prop_map(|(left, right)| format!("({left}|{right})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plain_pattern_finds_what_oniguruma_finds(
        pattern in patterns(),
        flags in prop::sample::select(vec!["g", "gi", "gp", "gn", "gs"]),
        text in "[abcABß1sSſK _\\n.é😀-]{0,12}",
    ) {
        let Ok(mut regex) = Regex::compile(&pattern, flags) else { return Ok(()) };
        let fast = regex.find_all(&text, true);
        let is_match = regex.is_match(&text);
        regex.plain = None;
        prop_assert_eq!(is_match, regex.is_match(&text));
        prop_assert_eq!(fast, regex.find_all(&text, true));
    }

    #[test]
    fn any_pattern_over_any_text_ends_in_matches_or_an_error(
        pattern in "[ab()\\[\\]{}?*+|^$.\\\\<>=!:&,12-Zdwsbké]{0,16}",
        flags in "[gimnpslx]{0,3}",
        text in "\\PC{0,12}",
    ) {
        if let Ok(regex) = Regex::compile(&pattern, &flags)
            && let Ok(found) = regex.find_all(&text, regex.is_global()) {
            prop_assert_eq!(regex.is_match(&text), Ok(!found.is_empty()));
        }
    }
}
