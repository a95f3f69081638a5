//! Tests tasks that read parts of files, and tasks that read several files.

use super::*;

/// Lines with both kinds of ends, empty lines, a byte order mark, characters of several bytes, and
/// no line end at the end.
const TEXT: &str = "\u{FEFF}{\"a\":\"é\"}\r\n\n\"\u{20AC}\u{1F600}\"\n  \n[1,2]\r\n\r\n7\n\"long long long line\"\n8";

fn map(expression: &str) -> Vec<Step> {
    vec![Step::Map(expression.to_owned())]
}

impl Job {
    /// Divides the only file into shards that end at these bytes.
    fn cut(&mut self, cuts: &[u64]) {
        let file = self.inputs[0].clone();
        let part = |cut: &[u64]| {
            vec![InputPart {
                file: file.clone(),
                from: cut[0],
                to: cut[1],
            }]
        };
        self.parts = cuts.windows(2).map(part).collect();
    }

    /// Makes one shard of all files.
    fn combine(&mut self) {
        let files = self.inputs.iter().cloned();
        self.parts = vec![files.map(InputPart::whole).collect()];
    }

    /// The records of all final files in the order of the shards.
    fn records(&self) -> Vec<String> {
        let files = self.files();
        let lines = files.iter().flat_map(|(_, text)| text.lines());
        lines.map(str::to_owned).collect()
    }

    fn failure(&self, shard: u32) -> String {
        let assignment = Assignment {
            task: first_attempt(0, shard),
            input: self.input(shard),
            trace_records: false,
        };
        let outcome = run(&self.context(), &assignment, &Arc::default(), None);
        outcome.unwrap_err().error
    }
}

fn job_of(name: &str, text: &str, steps: Vec<Step>) -> Job {
    Job::new(
        steps,
        &[(name, text.as_bytes())],
        "s3://out/{shard:03}.jsonl",
    )
}

#[test]
fn cuts_at_every_byte_give_the_records_of_the_whole_file() {
    for name in ["a.jsonl", "a.txt"] {
        let mut job = job_of(name, TEXT, vec![]);
        let whole = job.records();
        let size = TEXT.len() as u64;
        for cut in 0..=size {
            job.cut(&[0, cut, size]);
            assert_eq!(job.records(), whole, "{name}: {cut}");
        }
        let all: Vec<u64> = (0..=size).collect();
        job.cut(&all);
        assert_eq!(job.records(), whole, "{name}: everywhere");
    }
}

#[test]
fn groups_and_first_records_are_the_same_for_any_cuts() {
    let lines = (0..40).map(|n| format!("{{\"k\":{},\"v\":{n}}}\n", n % 3));
    let text: String = lines.collect();
    let steps = vec![Step::GroupBy(GroupBy {
        key: ".k".to_owned(),
        aggregates: vec![
            ("all".to_owned(), Aggregate::Collect(".v".to_owned())),
            ("sum".to_owned(), Aggregate::Sum(".v".to_owned())),
        ],
        shards: Some(2),
        order: None,
    })];
    let mut job = job_of("a.jsonl", &text, steps);
    let whole = job.records();
    assert_eq!(whole.len(), 3);
    for cuts in [[0, 1, 2, 3], [0, 100, 200, 300], [0, 13, 300, 301]] {
        job.cut(&[&cuts[..], &[text.len() as u64]].concat());
        assert_eq!(job.records(), whole, "{cuts:?}");
    }
}

#[test]
fn an_error_names_the_line_of_a_first_part_and_the_byte_of_another() {
    let text = "1\n2\nbad\n4\n{]\n6\n";
    let mut job = job_of("a.jsonl", text, vec![]);
    job.cut(&[0, 5, text.len() as u64]);
    let (first, second) = (job.failure(0), job.failure(1));
    assert!(first.starts_with("s3://in/a.jsonl: line 3: "), "{first}");
    assert!(
        second.starts_with("s3://in/a.jsonl: the line that begins at byte 10: "),
        "{second}"
    );
    let mut job = job_of("a.jsonl", "1\n2\n\"x\"\n", map(". + 1"));
    job.cut(&[0, 3, 8]);
    let error = job.failure(1);
    assert!(
        error.contains("s3://in/a.jsonl: the line that begins at byte 4: "),
        "{error}"
    );
}

#[test]
fn only_the_first_part_looks_at_the_kind_of_the_file() {
    let text = "\u{FEFF}1\n\u{FEFF}2\n";
    let mut job = job_of("a.txt", text, vec![]);
    assert_eq!(job.records(), ["\"1\"", "\"\u{FEFF}2\""]);
    job.cut(&[0, 5, 10]);
    assert_eq!(job.records(), ["\"1\"", "\"\u{FEFF}2\""]);
    let mut job = Job::new(
        vec![],
        &[("a.jsonl", b"\x1f\x8b\x08\0\n1\n")],
        "s3://out/{shard}.jsonl",
    );
    job.cut(&[0, 5, 7]);
    assert!(
        job.failure(0).contains("the file is gzip"),
        "{}",
        job.failure(0)
    );
}

#[test]
fn a_compressed_file_without_blocks_is_never_read_in_parts() {
    let mut job = job_of("a.jsonl.gz", "not gzip, but nobody gets so far", vec![]);
    job.cut(&[0, 5, 32]);
    let error = job.failure(0);
    assert!(error.contains("no block of bgzip begins here"), "{error}");
}

#[test]
fn combined_files_are_read_in_their_order_and_errors_name_the_file() {
    let mut files: Vec<(String, String)> = (0..30)
        .map(|n| (format!("{n:02}.jsonl"), format!("{n}\n\u{20}\n{}", n + 100)))
        .collect();
    files.push(("05-empty.jsonl".to_owned(), String::new()));
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_bytes()))
        .collect();
    let mut job = Job::new(vec![], &files, "s3://out/{shard:03}.jsonl");
    let whole = job.records();
    assert_eq!(whole.len(), 60);
    job.combine();
    assert_eq!(job.records(), whole);

    let bad: [(&str, &[u8]); 3] = [
        ("a.jsonl", b"1\n"),
        ("b.jsonl", b"1\n\nx\n"),
        ("c.jsonl", b""),
    ];
    let mut job = Job::new(vec![], &bad, "s3://out/{shard}.jsonl");
    job.combine();
    let error = job.failure(0);
    assert!(error.starts_with("s3://in/b.jsonl: line 3: "), "{error}");
}

#[test]
fn records_kept_of_a_combined_shard_are_its_first_and_later_files_are_not_read() {
    let files: [(&str, &[u8]); 3] = [
        ("a.jsonl", b"1\n2\n"),
        ("b.jsonl", b"3\n4\n"),
        ("c.jsonl", b"x\n"),
    ];
    let mut job = Job::new(
        vec![Step::TakePerShard(3)],
        &files,
        "s3://out/{shard}.jsonl",
    );
    job.combine();
    assert_eq!(job.records(), ["1", "2", "3"]);
}

#[test]
fn the_error_of_a_later_file_counts_after_the_records_before_it() {
    let files: [(&str, &[u8]); 2] = [("a.jsonl", b"1\nx\n"), ("b.jsonl", b"2\n")];
    let mut job = Job::new(vec![], &files, "s3://out/{shard}.jsonl");
    // The second file does not exist, which is noticed when it is opened before its turn.
    let location = Location::parse("s3://in/b.jsonl").unwrap();
    let store = job.storage.stores().open(&location).unwrap().objects;
    job.runtime.block_on(store.delete(location.path())).unwrap();
    job.combine();
    let error = job.failure(0);
    assert!(error.starts_with("s3://in/a.jsonl: line 2: "), "{error}");
}

/// A block of bgzip.
fn block(plain: &str) -> Vec<u8> {
    use std::io::Write as _;
    let builder = flate2::GzBuilder::new().extra(*b"BC\x02\x00\x00\x00");
    let mut encoder = builder.write(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain.as_bytes()).unwrap();
    let mut bytes = encoder.finish().unwrap();
    let length = u16::try_from(bytes.len() - 1).unwrap();
    bytes[16..18].copy_from_slice(&length.to_le_bytes());
    bytes
}

fn blocks(texts: &[&str]) -> Vec<u8> {
    texts
        .iter()
        .chain([&""])
        .flat_map(|text| block(text))
        .collect()
}

#[test]
fn cuts_of_a_file_of_blocks_give_the_records_of_the_whole_file() {
    let parts: Vec<String> = TEXT.chars().map(String::from).collect();
    let texts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let file = blocks(&texts);
    let mut job = Job::new(
        vec![],
        &[("a.jsonl.gz", &file)],
        "s3://out/{shard:03}.jsonl",
    );
    let whole = job.records();
    assert_eq!(whole.len(), 6);
    let size = file.len() as u64;
    for step in [17, 31, 90, 1000] {
        let mut cuts: Vec<u64> = (0..size).step_by(step).collect();
        cuts.push(size);
        job.cut(&cuts);
        assert_eq!(job.records(), whole, "{step}");
    }
}

#[test]
fn an_error_in_a_part_of_a_compressed_file_says_from_where_on_it_is_found() {
    let file = blocks(&["1\n2\n", "3\n\"x\"\n", "4\n"]);
    let first = block("1\n2\n").len() as u64;
    let mut job = Job::new(
        map(". + 1"),
        &[("a.jsonl.gz", &file)],
        "s3://out/{shard}.jsonl",
    );
    job.cut(&[0, 3, file.len() as u64]);
    let error = job.failure(1);
    let expected = format!(
        "s3://in/a.jsonl.gz: the line that begins at byte 2 of what is compressed from byte {first} on: spec.pipeline.steps[0].map: "
    );
    assert!(error.starts_with(&expected), "{error}");
    // The block that the message names begins at this byte.
    let rest = &file[usize::try_from(first).unwrap()..];
    let mut plain = String::new();
    std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(rest), &mut plain)
        .unwrap();
    assert!(plain[2..].starts_with("\"x\"\n"));
}
