//! Tests parts of compressed files: every cut gives the records of the whole file, or an error.

use std::io::{Read, Write};
use std::ops::Range;

use zephyr_engine::pipeline::Format;

use super::blocks::END_MARK;
use super::{FileReader, ReadLimits};

const GZ: &str = "s3://in/a.txt.gz";
const ZST: &str = "s3://in/a.txt.zst";

/// Gives a few bytes at a time.
struct Trickle(Vec<u8>, usize, usize);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Self(bytes, at, step) = self;
        let count = buffer.len().min(*step).min(bytes.len() - *at);
        buffer[..count].copy_from_slice(&bytes[*at..*at + count]);
        *at += count;
        Ok(count)
    }
}

/// A block of bgzip. A level of 0 stores the bytes as they are.
fn block(plain: &[u8], level: u32) -> Vec<u8> {
    let builder = flate2::GzBuilder::new().extra(*b"BC\x02\x00\x00\x00");
    let mut encoder = builder.write(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(plain).unwrap();
    let mut bytes = encoder.finish().unwrap();
    let length = u16::try_from(bytes.len() - 1).unwrap();
    bytes[16..18].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// A file of blocks, with its end mark.
fn file_of(blocks: &[&[u8]]) -> Vec<u8> {
    let mut bytes: Vec<u8> = blocks.iter().flat_map(|plain| block(plain, 6)).collect();
    bytes.extend(END_MARK);
    bytes
}

fn part(name: &str, file: &[u8], part: Range<u64>, step: usize) -> Result<Vec<String>, String> {
    let size = file.len() as u64;
    let start = usize::try_from(FileReader::start_of(name, &part)).unwrap();
    let input = Trickle(file[start..].to_vec(), 0, step);
    let limits = ReadLimits::default();
    let reader = FileReader::of_part(name, size, part, Format::Text, &limits, input);
    let mut reader = reader.map_err(|error| error.to_string())?;
    let mut records = Vec::new();
    loop {
        match reader.next_record() {
            Ok(Some((record, _))) => records.push(record.as_json_str().to_owned()),
            Ok(None) => return Ok(records),
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn whole(name: &str, file: &[u8]) -> Result<Vec<String>, String> {
    part(name, file, 0..file.len() as u64, 1000)
}

/// The records of all parts between these cuts; the first error of any part.
fn parts(name: &str, file: &[u8], cuts: &[u64], step: usize) -> Result<Vec<String>, String> {
    let mut ends = vec![0];
    ends.extend(cuts);
    ends.push(file.len() as u64);
    let all = ends
        .windows(2)
        .map(|ends| part(name, file, ends[0]..ends[1], step));
    Ok(all.collect::<Result<Vec<_>, _>>()?.concat())
}

const LINES: &[&[u8]] = &[
    b"a\nbb\n",
    b"",
    b"ccc",
    b"",
    b"",
    b"\n\n",
    b"d",
    b"ddd",
    b"dddd\r",
    b"\ne\n",
    b"a line that is longer than many blocks",
    b", and goes on",
    b" and on\nf",
    b"\n",
    b"no line end",
];

#[test]
fn every_cut_of_a_file_of_blocks_gives_the_records_of_the_whole_file() {
    for blocks in [
        LINES.to_vec(),
        LINES[..9].to_vec(),
        vec![&b"x\n"[..]; 5],
        vec![&b"\n"[..]],
        vec![&b"\xEF\xBB\xBFa\n"[..], b"\xEF\xBB\xBFb\n", b"c"],
        vec![&b"no end"[..], b" at", b" all"],
        vec![],
        vec![b""],
    ] {
        let file = file_of(&blocks);
        let size = file.len() as u64;
        let expected = whole(GZ, &file).unwrap();
        for cut in 1..size {
            assert_eq!(parts(GZ, &file, &[cut], 7), Ok(expected.clone()), "{cut}");
        }
        for step in [1, 13, 30, 61] {
            let cuts: Vec<u64> = (1..size).step_by(step).collect();
            assert_eq!(
                parts(GZ, &file, &cuts, 1000),
                Ok(expected.clone()),
                "{step}"
            );
        }
    }
}

#[test]
fn blocks_of_the_usual_size_and_lines_longer_than_them_are_cut_too() {
    let lines: Vec<String> = (0..40_000_u32)
        .map(|n| format!("{n} {:x}", n.wrapping_mul(2_654_435_761)))
        .chain([(0..300_000_u32)
            .map(|n| char::from(b'a' + u8::try_from(n % 26 * (n / 7 % 26) % 26).unwrap()))
            .collect()])
        .chain(["last".to_owned()])
        .collect();
    let text = lines.join("\n");
    let blocks: Vec<&[u8]> = text.as_bytes().chunks(0xff00).collect();
    let file = file_of(&blocks);
    let expected = whole(GZ, &file).unwrap();
    assert_eq!(expected.len(), lines.len());
    for pieces in [2, 3, 7, 40] {
        let cuts: Vec<u64> = (1..pieces)
            .map(|n| file.len() as u64 * n / pieces)
            .collect();
        assert!(
            parts(GZ, &file, &cuts, 60_000) == Ok(expected.clone()),
            "{pieces}"
        );
    }
}

/// Cuts a file at each position. Checks that both parts together give the records of the whole
/// file, or an error. Returns the number of errors.
fn never_wrong(name: &str, file: &[u8]) -> usize {
    let expected = whole(name, file).ok();
    let size = file.len() as u64;
    let mut errors = 0;
    for cut in 1..size {
        match parts(name, file, &[cut], 1000) {
            Ok(records) => assert_eq!(Some(records), expected, "{cut}"),
            Err(_) => errors += 1,
        }
    }
    errors
}

#[test]
fn a_file_that_is_truncated_or_has_wrong_lengths_is_an_error_for_every_cut() {
    let file = file_of(LINES);
    let size = file.len();
    for end in 1..size {
        // A file that is truncated after an empty block looks complete.
        let is_readable = whole(GZ, &file[..end]).is_ok();
        let expected = if is_readable { 0 } else { end - 1 };
        assert_eq!(never_wrong(GZ, &file[..end]), expected, "{end}");
    }
    // The header of a block contains a wrong length. Only the reader of parts uses this length.
    for (offset, step) in [(16, 1), (16, 200), (17, 1)] {
        let second = block(LINES[0], 6).len();
        for at in [0, second] {
            let mut file = file.clone();
            file[at + offset] = file[at + offset].wrapping_add(step);
            assert_eq!(never_wrong(GZ, &file), size - 1, "{at} {offset} {step}");
        }
    }
    // These files contain a member that is not a block, a damaged block, or bytes after the last
    // block.
    let mut plain = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    plain.write_all(b"plain\n").unwrap();
    let plain = plain.finish().unwrap();
    let mixed = [
        block(b"1\n2\n", 6),
        plain,
        block(b"3\n", 6),
        END_MARK.to_vec(),
    ]
    .concat();
    assert_eq!(never_wrong(GZ, &mixed), mixed.len() - 1);
    let mut damaged = file.clone();
    damaged[25] ^= 1;
    assert_eq!(never_wrong(GZ, &damaged), size - 1);
    let padded = [file, vec![0; 9]].concat();
    assert_eq!(never_wrong(GZ, &padded), padded.len() - 1);
}

#[test]
fn blocks_inside_of_a_block_are_never_taken_for_blocks_of_the_file() {
    // The plain bytes of this block are other blocks, and the block stores them without
    // compression.
    let inner = [block(b"x\ny\n", 6), block(b"z\n", 6), block(b"w\n", 0)].concat();
    let outer = [
        block(b"1\n2\n", 6),
        block(&inner, 0),
        block(b"3\n", 6),
        END_MARK.to_vec(),
    ]
    .concat();
    // These bytes are not text, so the whole file has a bad line, and each pair of parts must fail
    // too.
    let fails = never_wrong(GZ, &outer);
    assert_eq!(fails, outer.len() - 1);
    let before = block(b"1\n2\n", 6).len() as u64;
    let inside = before + 30;
    let first = part(GZ, &outer, 0..inside, 1000);
    assert!(first.is_err(), "{first:?}");
}

fn seekable(frames: &[&[u8]]) -> (Vec<u8>, Vec<u64>) {
    let mut file = Vec::new();
    let mut entries = Vec::new();
    let mut borders = Vec::new();
    for plain in frames {
        borders.push(file.len() as u64);
        let frame = zstd::encode_all(*plain, 3).unwrap();
        entries.extend(u32::try_from(frame.len()).unwrap().to_le_bytes());
        entries.extend(u32::try_from(plain.len()).unwrap().to_le_bytes());
        file.extend(frame);
    }
    entries.extend(u32::try_from(frames.len()).unwrap().to_le_bytes());
    entries.push(0);
    entries.extend(0x8f92_eab1_u32.to_le_bytes());
    file.extend(0x184d_2a5e_u32.to_le_bytes());
    file.extend(u32::try_from(entries.len()).unwrap().to_le_bytes());
    file.extend(entries);
    (file, borders.split_off(1))
}

#[test]
fn every_border_of_a_seekable_file_gives_the_records_of_the_whole_file() {
    for frames in [
        LINES.to_vec(),
        LINES[..9].to_vec(),
        vec![&b"x\n"[..]; 4],
        vec![b"one"],
    ] {
        let (file, borders) = seekable(&frames);
        let expected = whole(ZST, &file).unwrap();
        for step in 1..=borders.len().max(1) {
            for skip in 0..step {
                let cuts: Vec<u64> = borders.iter().copied().skip(skip).step_by(step).collect();
                assert_eq!(
                    parts(ZST, &file, &cuts, 5),
                    Ok(expected.clone()),
                    "{cuts:?}"
                );
            }
        }
    }
}

#[test]
fn a_cut_that_is_no_border_of_a_frame_is_an_error() {
    let (file, borders) = seekable(LINES);
    let expected = whole(ZST, &file).unwrap();
    let table = *borders.last().unwrap() + zstd::encode_all(LINES[14], 3).unwrap().len() as u64;
    for cut in 1..file.len() as u64 {
        match parts(ZST, &file, &[cut], 1000) {
            Ok(records) => {
                assert_eq!(records, expected);
                assert!(borders.contains(&cut) || cut == table, "{cut}");
            }
            Err(error) => assert!(!borders.contains(&cut), "{cut}: {error}"),
        }
    }
}

#[test]
fn an_error_in_a_later_part_says_where_what_is_compressed_begins() {
    let json = "s3://in/a.jsonl.gz";
    let file = file_of(&[b"1\n2\n", b"3\noops\n", b"4\n"]);
    let first = block(b"1\n2\n", 6).len() as u64;
    let input = Trickle(file[5..].to_vec(), 0, 1000);
    let (size, limits) = (file.len() as u64, ReadLimits::default());
    let reader = FileReader::of_part(json, size, 5..size, Format::Jsonl, &limits, input);
    let mut reader = reader.unwrap();
    let error = reader.next_record().unwrap_err();
    let expected = format!(
        "s3://in/a.jsonl.gz: the line that begins at byte 2 of what is compressed from byte {first} on: "
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert_eq!(reader.next_record().unwrap().unwrap().0.as_json_str(), "4");
}
