//! Tests which places overlap, for all pairs of roles and positions. The expected result comes from
//! an oracle that tries names one by one.

#![expect(clippy::expect_used, reason = "only tests are in here")]

mod positions;

use positions::{INPUTS, SINKS, STORAGES};
use zephyr_crds::places::{Area, MARKER_NAMES, Role, overlaps};

const ROLES: [Role; 3] = [Role::Input(0), Role::Sink, Role::Storage];

/// Segments of the names that the oracle tries; at least one for each branch of each position.
const SEGMENTS: [&str; 15] = [
    "in",
    "in2",
    "out",
    "sub",
    "deep",
    "a",
    "b",
    "b.txt",
    "a.txt",
    "1",
    "1.txt",
    "00001.txt",
    "a-1.txt",
    "*.txt",
    "_SUCCESS.json",
];
/// The deepest name that the oracle tries: one level below the deepest position.
const MAX_DEPTH: u32 = 4;

fn positions_of(role: Role) -> &'static [&'static str] {
    match role {
        Role::Input(_) | Role::Table => &INPUTS,
        Role::Sink | Role::DeadLetter => &SINKS,
        Role::Storage => &STORAGES,
    }
}

fn names() -> Vec<String> {
    let mut names = vec![String::new()];
    let mut all = Vec::new();
    for _ in 0..MAX_DEPTH {
        names = names
            .iter()
            .flat_map(|folder| SEGMENTS.map(|segment| format!("{folder}/{segment}")))
            .collect();
        all.extend(names.iter().map(|name| name[1..].to_owned()));
    }
    all.push("out/_STARTED.json".to_owned());
    all
}

/// The names that a role reads, writes or owns at a position. For input, names that begin with `_`
/// are included, because patterns match them. Only the listing of files ignores them.
fn names_of(role: Role, position: &str, names: &[String]) -> Vec<usize> {
    let branches = expanded(position);
    let is_name = |name: &str| match role {
        Role::Input(_) | Role::Table => branches.iter().any(|branch| matches(branch, name)),
        Role::Sink => {
            let folder = position.split('{').next().unwrap_or_default();
            let folder = &folder[..folder.rfind('/').map_or(0, |slash| slash + 1)];
            let is_marker = name
                .strip_prefix(folder)
                .is_some_and(|rest| MARKER_NAMES.contains(&rest));
            is_marker || is_made(position, name)
        }
        Role::DeadLetter => is_made(position, name),
        Role::Storage => {
            let folder = position.trim_end_matches('/');
            folder.is_empty() || name.starts_with(&format!("{folder}/"))
        }
    };
    (0..names.len())
        .filter(|index| is_name(&names[*index]))
        .collect()
}

/// The pattern once for each choice in its braces.
fn expanded(pattern: &str) -> Vec<String> {
    let Some((before, rest)) = pattern.split_once('{') else {
        return vec![pattern.to_owned()];
    };
    let (branches, after) = rest.split_once('}').expect("it is closed");
    branches
        .split(',')
        .flat_map(|branch| expanded(&format!("{before}{branch}{after}")))
        .collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("**/") {
        let below = name
            .split_once('/')
            .is_some_and(|(_, below)| matches(pattern, below));
        return below || matches(rest, name);
    }
    if pattern == "**" {
        return !name.is_empty();
    }
    let mut characters = pattern.chars();
    match characters.next() {
        None => name.is_empty(),
        Some('*') => {
            let here = matches(&pattern[1..], name);
            let further = name.chars().next().filter(|next| *next != '/');
            here || further.is_some_and(|next| matches(pattern, &name[next.len_utf8()..]))
        }
        Some('?') => one(&pattern[1..], name, |next| next != '/'),
        Some('[') => {
            let (class, rest) = pattern[1..].split_once(']').expect("it is closed");
            one(rest, name, |next| next != '/' && !class[1..].contains(next))
        }
        Some('\\') => one(&pattern[2..], name, |next| pattern[1..].starts_with(next)),
        Some(this) => one(characters.as_str(), name, |next| next == this),
    }
}

fn one(rest: &str, name: &str, is_it: impl Fn(char) -> bool) -> bool {
    let next = name.chars().next();
    next.is_some_and(|next| is_it(next) && matches(rest, &name[next.len_utf8()..]))
}

/// Whether a template makes a name: each placeholder stands for some digits.
fn is_made(template: &str, name: &str) -> bool {
    let Some((before, rest)) = template.split_once('{') else {
        return template == name;
    };
    let (_, after) = rest.split_once('}').expect("it is closed");
    let Some(rest) = name.strip_prefix(before) else {
        return false;
    };
    let digits = rest.len()
        - rest
            .trim_start_matches(|next: char| next.is_ascii_digit())
            .len();
    (1..=digits).any(|count| is_made(after, &rest[count..]))
}

/// Whether one role reads one file and the other writes by a template. The planner compares these
/// names, because the names that the template makes depend on the number of shards.
fn is_for_the_planner(first: (Role, &str), second: (Role, &str)) -> bool {
    let is_file = |(role, position): (Role, &str)| {
        matches!(role, Role::Input(_)) && !position.contains(['*', '?', '[', '{', '\\'])
    };
    let is_template = |(role, position): (Role, &str)| role == Role::Sink && position.contains('{');
    (is_file(first) && is_template(second)) || (is_file(second) && is_template(first))
}

fn is_refused(first: (Role, &str), second: (Role, &str)) -> bool {
    let area = |(role, uri)| Area::of(role, uri).expect("it has a bucket");
    !overlaps(&[area(first), area(second)]).is_empty()
}

#[test]
fn no_two_places_that_share_a_name_are_accepted_for_any_pair_of_roles() {
    let names = names();
    let (mut shared, mut refused, mut accepted) = (0, 0, 0);
    for first_role in ROLES {
        for second_role in ROLES {
            let positions = positions_of(second_role).iter();
            let seconds: Vec<_> = positions
                .map(|position| (*position, names_of(second_role, position, &names)))
                .collect();
            for first in positions_of(first_role) {
                let firsts = names_of(first_role, first, &names);
                for (second, seconds) in &seconds {
                    let both_read =
                        matches!((first_role, second_role), (Role::Input(_), Role::Input(_)));
                    let needs_shards =
                        is_for_the_planner((first_role, first), (second_role, second));
                    let both = firsts.iter().find(|index| {
                        let is_marker = MARKER_NAMES
                            .iter()
                            .any(|marker| names[**index].ends_with(marker));
                        seconds.binary_search(index).is_ok() && (is_marker || !needs_shards)
                    });
                    for bucket in ["s3://bk/", "file:///", "file:////data//"] {
                        let (first, second) =
                            (format!("{bucket}{first}"), format!("{bucket}{second}"));
                        let is_refused = is_refused((first_role, &first), (second_role, &second));
                        let pair = format!("{first_role:?} {first} and {second_role:?} {second}");
                        if both_read {
                            assert!(!is_refused, "{pair}: two that read");
                        } else if let Some(index) = both {
                            assert!(is_refused, "{pair} share {}", names[*index]);
                            shared += 1;
                        } else if is_refused {
                            refused += 1;
                        } else {
                            accepted += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(
        shared > 1_000 && accepted > 1_000 && refused < shared,
        "{shared} share a name, {refused} are refused to be safe, {accepted} are accepted"
    );
}

#[test]
fn it_does_not_matter_which_of_two_places_comes_first() {
    for first_role in ROLES {
        for second_role in ROLES {
            for first in positions_of(first_role) {
                for second in positions_of(second_role) {
                    let (first, second) = (format!("gs://bk/{first}"), format!("gs://bk/{second}"));
                    assert_eq!(
                        is_refused((first_role, &first), (second_role, &second)),
                        is_refused((second_role, &second), (first_role, &first)),
                        "{first_role:?} {first} and {second_role:?} {second}"
                    );
                }
            }
        }
    }
}

#[test]
fn layouts_that_people_use_are_accepted() {
    let layouts = [
        (
            "s3://bk/in/*.jsonl",
            "s3://bk/out/part-{shard}.jsonl",
            "s3://bk/scratch",
        ),
        (
            "s3://bk/in/**",
            "s3://bk/part-{shard}.jsonl",
            "s3://bk/scratch/",
        ),
        (
            "s3://bk/*.jsonl",
            "s3://other/{shard}.jsonl",
            "s3://bk/scratch",
        ),
        (
            "s3://bk/2024-*/*.jsonl",
            "s3://other/{shard}.jsonl",
            "s3://bk/scratch",
        ),
        (
            "s3://bk/in/*.txt",
            "s3://bk/in2/{shard}.jsonl",
            "s3://bk/in/scratch",
        ),
        (
            "s3://bk/in/a.jsonl",
            "s3://bk/in/part-{shard}.jsonl",
            "s3://bk/in/scratch",
        ),
        ("s3://bk/**", "s3://bk2/{shard}.jsonl", "gs://bk/scratch"),
        (
            "file:///data/In/**",
            "file:///data/in/{shard}.jsonl",
            "file:///data/iN",
        ),
        (
            "s3://bk/{a,b}/**",
            "s3://other/{shard}.jsonl",
            "s3://scratch",
        ),
    ];
    for (input, sink, storage) in layouts {
        let areas = [
            (Role::Input(0), input),
            (Role::Sink, sink),
            (Role::Storage, storage),
        ];
        let areas = areas.map(|(role, uri)| Area::of(role, uri).expect("it has a bucket"));
        assert_eq!(overlaps(&areas), [], "{input}, {sink}, {storage}");
    }
}

#[test]
fn a_refusal_names_both_places_and_begins_with_the_field_to_change() {
    for (input, sink, storage, expected) in [
        (
            "s3://bk/in/**",
            "s3://out/{shard}.txt",
            "s3://bk/in/scratch",
            "spec.storage.uri: overlaps spec.pipeline.source.files.paths[0], s3://bk/in/** (got s3://bk/in/scratch); the storage prefix must not overlap input, use a folder that no input path reaches",
        ),
        (
            "s3://bk/in/*.txt",
            "s3://out/{shard}.txt",
            "s3://bk",
            "spec.pipeline.source.files.paths[0]: overlaps spec.storage.uri, s3://bk (got s3://bk/in/*.txt); input must not overlap the storage prefix, read from another folder",
        ),
        (
            "s3://bk/in/*.txt",
            "s3://bk/in/{shard}.txt",
            "s3://scratch",
            "spec.pipeline.sink.files.path: overlaps spec.pipeline.source.files.paths[0], s3://bk/in/*.txt (got s3://bk/in/{shard}.txt); output must not overlap input, write to another folder",
        ),
        (
            "s3://bk/in/*.txt",
            "s3://scratch/z/{shard}.txt",
            "s3://scratch/z/",
            "spec.pipeline.sink.files.path: overlaps spec.storage.uri, s3://scratch/z/ (got s3://scratch/z/{shard}.txt); output must not overlap the storage prefix, write to another folder",
        ),
    ] {
        let areas = [
            (Role::Storage, storage),
            (Role::Input(0), input),
            (Role::Sink, sink),
        ];
        let areas = areas.map(|(role, uri)| Area::of(role, uri).expect("it has a bucket"));
        let message: Vec<_> = overlaps(&areas).iter().map(ToString::to_string).collect();
        assert_eq!(message, [expected]);
    }
}

#[test]
fn a_real_path_takes_the_place_of_one_through_a_symbolic_link() {
    let real = |path: &str| {
        path.strip_prefix("/link")
            .map(|rest| format!("/real{rest}"))
    };
    let storage = Area::of(Role::Storage, "file:///link/scratch")
        .expect("a place")
        .resolved(real);
    let input = Area::of(Role::Input(3), "file:///real/**")
        .expect("a place")
        .resolved(real);
    let message: Vec<_> = overlaps(&[input, storage])
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        message,
        [
            "spec.storage.uri: overlaps spec.pipeline.source.files.paths[3], file:///real/**, through a symbolic link: its real path is file:///real/scratch (got file:///link/scratch); the storage prefix must not overlap input, use a folder that no input path reaches"
        ]
    );
    let sink = Area::of(Role::Sink, "file:///link/{shard}.txt")
        .expect("a place")
        .resolved(real);
    let elsewhere = Area::of(Role::Input(0), "file:///link2/*")
        .expect("a place")
        .resolved(real);
    assert_eq!(overlaps(&[elsewhere.clone(), sink.clone()]), []);
    let input = Area::of(Role::Input(0), "file:///real/*").expect("a place");
    assert_eq!(overlaps(&[input, sink]).len(), 1);
}
