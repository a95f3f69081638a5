//! Tests of files that are damaged, cut, extended, wrongly named or unusually large. Each file must
//! give exactly its records, or an error of one sentence.

use std::io::{Cursor, Write};

use proptest::prelude::*;
use zephyr_engine::pipeline::Format;
use zephyr_engine::record::Limits;

use super::*;

const GZ: &str = "x.jsonl.gz";
const ZST: &str = "x.jsonl.zst";

fn read_within(file: &str, bytes: &[u8], limits: &ReadLimits) -> Result<Vec<String>, String> {
    let input = Cursor::new(bytes.to_vec());
    let size = bytes.len() as u64;
    let mut reader = FileReader::new(file, size, Format::Jsonl, limits, input)
        .map_err(|error| error.to_string())?;
    let mut records = Vec::new();
    while let Some((record, _)) = reader.next_record().map_err(|error| error.to_string())? {
        records.push(record.as_json_str().to_owned());
    }
    Ok(records)
}

fn read(file: &str, bytes: &[u8]) -> Result<Vec<String>, String> {
    read_within(file, bytes, &ReadLimits::default())
}

fn gz(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zst(text: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Makes a block with the mark of bgzip. Its length is 0 in the mark, because it is not needed to
/// read a whole file. A block without text is the end mark.
fn block(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new()
        .extra(*b"BC\x02\0\0\0")
        .write(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn skippable(length: u8) -> Vec<u8> {
    let mut frame = vec![0x53, 0x2a, 0x4d, 0x18, length, 0, 0, 0];
    frame.resize(frame.len() + usize::from(length), b'!');
    frame
}

#[test]
fn members_frames_padding_and_empty_files_are_read_to_the_end() {
    let empty_gz = gz(b"");
    let cases: [(&str, Vec<u8>, &[&str]); 12] = [
        (GZ, vec![], &[]),
        (ZST, vec![], &[]),
        (GZ, empty_gz.clone(), &[]),
        (ZST, zst(b""), &[]),
        (GZ, [gz(b"1\n"), empty_gz, gz(b"2")].concat(), &["1", "2"]),
        (GZ, [gz(b"1\n2"), vec![0; 512]].concat(), &["1", "2"]),
        (GZ, [gz(b"1\n"), vec![0; 300_000]].concat(), &["1"]),
        (
            GZ,
            [gz(b"1\n"), vec![0; 512], gz(b"2")].concat(),
            &["1", "2"],
        ),
        (
            GZ,
            [block(b"1\n"), block(b"2\n"), block(b"")].concat(),
            &["1", "2"],
        ),
        (
            ZST,
            [zst(b"1\n"), skippable(9), zst(b"2")].concat(),
            &["1", "2"],
        ),
        (
            ZST,
            [skippable(0), zst(b""), zst(b"1"), skippable(200)].concat(),
            &["1"],
        ),
        (ZST, skippable(3), &[]),
    ];
    for (file, bytes, expected) in cases {
        assert_eq!(read(file, &bytes).unwrap(), expected, "{file} {bytes:?}");
    }
}

#[test]
fn bytes_after_the_end_are_reported_with_number_and_position() {
    let member = gz(b"1\n");
    let frame = zst(b"1\n");
    for (file, first, behind, count) in [
        (
            GZ,
            &member,
            &b"x"[..],
            "1 byte after the end of the gzip data",
        ),
        (
            GZ,
            &member,
            b"\x1f",
            "1 byte after the end of the gzip data",
        ),
        (
            GZ,
            &member,
            b"garbage",
            "7 bytes after the end of the gzip data",
        ),
        (
            GZ,
            &member,
            b"\0\0\0x",
            "1 byte after the end of the gzip data",
        ),
        (ZST, &frame, b"x", "1 byte after the end of the zstd data"),
        (
            ZST,
            &frame,
            b"\0\0\0\0",
            "4 bytes after the end of the zstd data",
        ),
        (
            ZST,
            &frame,
            b"\x28\xb5",
            "2 bytes after the end of the zstd data",
        ),
    ] {
        let error = read(file, &[&first[..], behind].concat()).unwrap_err();
        let at = first.len()
            + behind
                .iter()
                .take_while(|&&byte| file == GZ && byte == 0)
                .count();
        let expected = format!("{file}: byte {at} of the compressed file: {count}; only further ");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn a_truncated_file_and_a_file_with_other_content_are_reported_as_such() {
    let truncated = |file: &str, bytes: &[u8]| {
        let error = read(file, bytes).unwrap_err();
        assert!(error.ends_with("it is truncated"), "{error}");
        assert!(
            error.starts_with(&format!(
                "{file}: byte {} of the compressed file: ",
                bytes.len()
            )),
            "{error}"
        );
    };
    let member = gz(b"1\n2\n3\n");
    let frame = zst(b"1\n2\n3\n");
    for cut in 1..member.len() {
        truncated(GZ, &member[..cut]);
        if cut > 1 {
            truncated(GZ, &[&member[..], &member[..cut]].concat());
        }
    }
    for cut in 1..frame.len() {
        // While the header is incomplete, no byte of the frame counts as consumed. So the position
        // in the error is not checked.
        let error = read(ZST, &frame[..cut]).unwrap_err();
        assert!(error.ends_with("it is truncated"), "{error}");
    }
    truncated(ZST, &skippable(9)[..12]);
    let no_mark = read(GZ, &[block(b"1\n"), block(b"2\n")].concat()).unwrap_err();
    assert!(
        no_mark.contains("without the end mark of bgzip"),
        "{no_mark}"
    );

    for (file, bytes, expected) in [
        (
            GZ,
            &b"plain"[..],
            "the file is not gzip, though its name says so; ",
        ),
        (GZ, b"p", "the file is not gzip, though its name says so; "),
        (
            ZST,
            b"{\"a\":1}\n",
            "the file is not zstd, though its name says so; ",
        ),
        (
            GZ,
            &frame,
            "the file is zstd, though its name says gzip; name it with .zst at the end",
        ),
        (
            ZST,
            &member,
            "the file is gzip, though its name says zstd; name it with .gz at the end",
        ),
        (
            GZ,
            b"PK\x03\x04\x14\0\0\0\x08\0\x21\x53\x21\x53abcd\x05\0\0\0\x03\0\0\0\x01\0\0\0a",
            "the file is a zip archive, though its name says gzip; only plain text, ",
        ),
        (
            "x.jsonl",
            &member,
            "the file is gzip, not lines of text; name it with .gz at the end",
        ),
        (
            "x.jsonl",
            &frame,
            "the file is zstd, not lines of text; name it with .zst at the end",
        ),
        (
            "x.jsonl",
            b"PAR1\x15\x04\x15",
            "the file is Parquet, not lines of text; only plain text, ",
        ),
        (
            GZ,
            &gz(&member),
            "what is compressed in the file is gzip, not lines of text; ",
        ),
    ] {
        let error = read(file, bytes).unwrap_err();
        assert!(error.starts_with(&format!("{file}: ")), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_wrong_checksum_or_length_is_damage() {
    let member = gz(b"1\n2\n3\n");
    for from_end in 1..=8 {
        let mut wrong = member.clone();
        let at = wrong.len() - from_end;
        wrong[at] ^= 0x40;
        let error = read(GZ, &wrong).unwrap_err();
        assert!(error.contains("the gzip data is damaged ("), "{error}");
    }
    let mut wrong = zst(b"1\n2\n3\n");
    *wrong.last_mut().unwrap() ^= 1;
    let error = read(ZST, &wrong).unwrap_err();
    assert!(error.contains("the zstd data is damaged ("), "{error}");
}

#[test]
fn fault_8434_a_small_file_of_very_many_equal_lines_is_read() {
    const LINES: u64 = 2_100_000;
    let line = b"{\"level\":\"info\",\"message\":\"nothing to do, and nothing to say of it\"}\n";
    let some = line.repeat(1000);
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    for _ in 0..LINES / 1000 {
        encoder.write_all(&some).unwrap();
    }
    let compressed = encoder.finish().unwrap();
    let (plain, size) = (LINES * line.len() as u64, compressed.len() as u64);
    assert!(plain > 136 << 20 && plain / size > 1000, "{plain} {size}");
    let limits = ReadLimits::default();
    let input = Cursor::new(compressed);
    let mut reader = FileReader::new(ZST, size, Format::Jsonl, &limits, input).unwrap();
    let mut rows = 0;
    while reader.next_record().unwrap().is_some() {
        rows += 1;
    }
    assert_eq!(rows, LINES);
}

/// Makes a frame with a window of 2^`window_log` bytes and without a length in its header.
fn with_window(text: &[u8], window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_window_of_two_gibibytes_is_read_and_charged_as_far_as_it_is_filled() {
    let mut head = with_window(b"1\n2\n", 27);
    assert_eq!(head[4] & 0x20, 0, "the frame says its window");
    // This is the header that `zstd --long=31` writes. So the test needs no 2 GiB of data.
    head[5] = (31 - 10) << 3;
    let limits = |memory_bytes, zstd_window_bytes| ReadLimits {
        record: Limits {
            memory_bytes,
            ..Limits::default()
        },
        zstd_window_bytes,
    };
    let little = limits(1 << 20, 2 << 30);
    assert_eq!(read_within(ZST, &head, &little).unwrap(), ["1", "2"]);

    let error = read_within(ZST, &head, &limits(1 << 20, 128 << 20)).unwrap_err();
    assert_eq!(
        error,
        "x.jsonl.zst: byte 0 of the compressed file: a zstd window of 2147483648 bytes is needed; at most 134217728 are allowed (spec.pipeline.limits.zstdWindow, at most 2Gi): raise it, or compress the file again with zstd --long=27 or less"
    );
    for (allowed, long) in [
        (1 << 20, "20 or less"),
        ((1 << 21) - 1, "20 or less"),
        (1 << 30, "27 or less"),
        (1 << 10, "10"),
        (1, "10"),
    ] {
        let error = read_within(ZST, &head, &limits(1 << 20, allowed)).unwrap_err();
        assert!(
            error.ends_with(&format!("compress the file again with zstd --long={long}")),
            "{error}"
        );
    }
    let error = read_within(
        ZST,
        &[0x28, 0xb5, 0x2f, 0xfd, 0x23, 7, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        &ReadLimits::default(),
    )
    .unwrap_err();
    assert!(
        error.contains("the zstd data was compressed with a dictionary (its number is 263)"),
        "{error}"
    );
    head[5] = ((32 - 10) << 3) + 1;
    let error = read(ZST, &head).unwrap_err();
    assert!(
        error.contains("a zstd window of 4831838208 bytes is needed"),
        "{error}"
    );

    let text = b"12345678901234567890\n".repeat(200_000);
    let filled = with_window(&text, 27);
    assert_eq!(
        read_within(ZST, &filled, &limits(32 << 20, 2 << 30))
            .unwrap()
            .len(),
        200_000
    );
    let error = read_within(ZST, &filled, &limits(3 << 20, 2 << 30)).unwrap_err();
    assert!(
        error.contains("a zstd window of 128 MiB is needed, and a task of this worker has 3 MiB for it; raise spec.workers.resources.limits.memory"),
        "{error}"
    );
}

#[test]
fn a_line_too_large_for_the_memory_is_refused_with_the_memory_that_it_needs() {
    let limits = |memory_bytes| ReadLimits {
        record: Limits {
            memory_bytes,
            ..Limits::default()
        },
        ..ReadLimits::default()
    };
    let string = format!("\"{}\"\n", "x".repeat(8 << 20));
    let numbers = format!("[{}1]\n", "1,".repeat(4 << 20));
    assert!(read_within("x.jsonl", string.as_bytes(), &limits(25 << 20)).is_ok());
    assert!(read_within("x.jsonl", numbers.as_bytes(), &limits(100 << 20)).is_ok());
    let error = read_within("x.jsonl", numbers.as_bytes(), &limits(80 << 20)).unwrap_err();
    assert_eq!(
        error,
        "x.jsonl: line 1: the record is too large for this worker: it needs about 89 MiB of memory, and a task has 80 MiB for a record; raise spec.workers.resources.limits.memory or set fewer spec.workers.slots"
    );
    let error = read_within("x.jsonl", string.as_bytes(), &limits(10 << 20)).unwrap_err();
    assert_eq!(
        error,
        "x.jsonl: line 1: the line is too long for this worker: it needs more than 12 MiB of memory, and a task has 10 MiB for a record; raise spec.workers.resources.limits.memory or set fewer spec.workers.slots"
    );
}

#[test]
fn limits_of_the_job_hold_for_lines_and_nesting() {
    let limits = |bytes, nesting| ReadLimits {
        record: Limits {
            bytes,
            nesting,
            ..Limits::default()
        },
        ..ReadLimits::default()
    };
    let deep = "[".repeat(300) + &"]".repeat(300);
    let error = read("x.jsonl", deep.as_bytes()).unwrap_err();
    assert_eq!(
        error,
        "x.jsonl: line 1: byte 256: arrays and objects nest too deep; at most 256 levels are allowed (spec.pipeline.limits.nesting)"
    );
    let records = read_within("x.jsonl", deep.as_bytes(), &limits(1024, 300)).unwrap();
    assert_eq!(records, [deep.as_str()]);
    let error = read_within("x.jsonl", deep.as_bytes(), &limits(599, 300)).unwrap_err();
    assert_eq!(
        error,
        "x.jsonl: line 1: the line is too long; at most 599 bytes are allowed (spec.pipeline.limits.lineBytes)"
    );
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    "([0-9]{1,9}\n){0,40}".prop_map(String::into_bytes)
}

fn lines(text: &[u8]) -> Vec<String> {
    String::from_utf8(text.to_vec())
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

proptest! {
    /// Changes each byte of a file in turn. Also cuts the file at each position, and appends bytes
    /// to it.
    #[test]
    fn a_file_changed_at_any_place_gives_its_records_or_an_error(
        (one, two) in (texts(), texts()),
        flip in 1..=255_u8,
        behind in proptest::collection::vec(any::<u8>(), 1..6),
    ) {
        let expected = [lines(&one), lines(&two)].concat();
        for (file, parts) in [(GZ, [gz(&one), gz(&two)]), (ZST, [zst(&one), zst(&two)])] {
            let whole = parts.concat();
            let exact = |bytes: &[u8], what: &str| {
                if let Ok(records) = read(file, bytes) {
                    prop_assert_eq!(&records, &expected, "{} {}", file, what);
                }
                Ok(())
            };
            for at in 0..whole.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= flip;
                exact(&flipped, "flipped")?;
                let cut = &whole[..at];
                // At the beginning of a member, a reader cannot know that more bytes should follow.
                if at > 0 && at != parts[0].len() {
                    prop_assert!(read(file, cut).is_err(), "{} cut at {}", file, at);
                }
            }
            let extended = [&whole[..], &behind].concat();
            if file == GZ && behind.iter().all(|&byte| byte == 0) {
                exact(&extended, "padded")?;
            } else {
                prop_assert!(read(file, &extended).is_err());
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, gzip: bool) {
        let magic: &[u8] = if gzip { &magic::GZIP } else { &magic::ZSTD };
        for file in ["x.jsonl", GZ, ZST] {
            let _ = read(file, &bytes);
            let _ = read(file, &[magic, &bytes].concat());
        }
    }
}

/// Every record and every bad line of a file, or the error that ends it.
fn read_past_bad_lines(
    file: &str,
    bytes: &[u8],
    limits: &ReadLimits,
) -> Result<Vec<String>, String> {
    let format = source_format(file).unwrap();
    let input = std::io::Cursor::new(bytes.to_vec());
    let mut reader = FileReader::new(file, bytes.len() as u64, format, limits, input).unwrap();
    let mut found = Vec::new();
    loop {
        match reader.next_record() {
            Ok(None) => return Ok(found),
            Ok(Some((record, line))) => found.push(format!("{line} {}", record.as_json_str())),
            Err(error) => match error.line() {
                Some(line) => found.push(format!("{line} bad: {}", error.problem())),
                None => return Err(error.to_string()),
            },
        }
    }
}

#[test]
fn reading_goes_on_behind_a_bad_line_whatever_is_wrong_with_it() {
    let long = format!("\"{}\"", "x".repeat(600 << 10));
    let limits = ReadLimits {
        record: Limits {
            bytes: 1 << 10,
            nesting: 3,
            ..Limits::default()
        },
        ..ReadLimits::default()
    };
    let lines: [&[u8]; 9] = [
        b"\xEF\xBB\xBF{\"a\":",
        b"1",
        b"\"\xff\"",
        b"[[[[1]]]]",
        long.as_bytes(),
        b"",
        b"2\r",
        b"1 2",
        long.as_bytes(),
    ];
    for end in ["", "\n", "\r\n"] {
        let mut plain = lines.join(&b'\n');
        plain.extend_from_slice(end.as_bytes());
        for (name, bytes) in [
            ("a.jsonl", plain.clone()),
            ("a.jsonl.gz", gz(&plain)),
            ("a.jsonl.zst", zst(&plain)),
        ] {
            let found = read_past_bad_lines(name, &bytes, &limits).unwrap();
            let begins: Vec<String> = found
                .iter()
                .map(|text| text.chars().take(10).collect())
                .collect();
            let expected = [
                "1 bad: byt",
                "2 1",
                "3 bad: byt",
                "4 bad: byt",
                "5 bad: the",
                "7 2",
                "8 bad: byt",
                "9 bad: the",
            ];
            assert_eq!(begins, expected, "{name} {end:?}: {found:?}");
        }
    }
}

#[test]
fn a_bad_file_is_not_passed_over_line_by_line() {
    let plain = "1\nx\n3\n".repeat(20_000);
    let mut cut = gz(plain.as_bytes());
    cut.truncate(cut.len() - 9);
    let mut damaged = zst(plain.as_bytes());
    let middle = damaged.len() - 3;
    damaged[middle] ^= 0xff;
    let utf16: Vec<u8> = "{\"a\":1}\n{\"a\":2}\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (name, bytes) in [
        ("a.jsonl.gz", cut),
        ("a.jsonl.zst", damaged),
        ("a.jsonl", gz(plain.as_bytes())),
        ("a.jsonl", utf16),
    ] {
        let outcome = read_past_bad_lines(name, &bytes, &ReadLimits::default());
        assert!(outcome.is_err(), "{name}: {outcome:?}");
    }
}
