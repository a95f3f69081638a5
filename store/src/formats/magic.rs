//! Recognizes the kind of a file by its first bytes, whatever its name. The result is used only in
//! error messages. No file is read as that kind.

/// How many bytes are enough to recognize every kind of this module.
pub(crate) const MAGIC_BYTES: usize = 30;

/// The first bytes of a member of gzip.
pub(crate) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The first bytes of a frame of zstd.
pub(crate) const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The upper 28 bits of a skippable frame's first bytes, little endian.
const ZSTD_SKIPPABLE: u32 = 0x184d_2a50;

/// Returns the kind of file to which `head` certainly belongs. `None` if the data may be text.
/// `head` has the first bytes of data that should be text. Each magic is compared as a whole and
/// contains bytes that are not UTF-8, or a NUL. If text could also contain a magic, the fields
/// after the magic must be plausible too.
pub(crate) fn kind(head: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], &'static str); 9] = [
        (&GZIP, "gzip"),
        (&ZSTD, "zstd"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\xff\x06\0\0sNaPpY", "snappy"),
        // This comes before UTF-16, because the byte order mark begins in the same way.
        (b"\xff\xfe\0\0", "UTF-32 text"),
        (b"\0\0\xfe\xff", "UTF-32 text"),
        (b"\xff\xfe", "UTF-16 text"),
        (b"\xfe\xff", "UTF-16 text"),
        (b"SQLite format 3\0", "an SQLite database"),
    ];
    let found = kinds.iter().find(|(magic, _)| head.starts_with(magic));
    found
        .map(|(_, kind)| *kind)
        .or_else(|| is_zip(head).then_some("a zip archive"))
        .or_else(|| is_empty_zip(head).then_some("an empty zip archive"))
        .or_else(|| is_bzip2(head).then_some("bzip2"))
        .or_else(|| is_lz4(head).then_some("lz4"))
        .or_else(|| is_parquet(head).then_some("Parquet"))
        .or_else(|| is_avro(head).then_some("Avro"))
        .or_else(|| is_skippable(head).then_some("zstd"))
        .or_else(|| is_utf16_without_a_mark(head).then_some("UTF-16 text"))
}

/// Returns the two bytes at an offset as a little-endian number.
fn word(head: &[u8], at: usize) -> Option<u16> {
    let bytes = head.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

/// Whether a local file header of zip begins here. Its version must be at most 63, its compression
/// method known, and its fixed part of 30 bytes must contain a NUL.
fn is_zip(head: &[u8]) -> bool {
    let has_version = word(head, 4).is_some_and(|version| (10..=63).contains(&(version & 0xff)));
    let has_method =
        word(head, 8).is_some_and(|method| method <= 20 || (93..=99).contains(&method));
    let has_name = word(head, 26).is_some_and(|length| length > 0);
    let has_nul = head.get(4..30).is_some_and(|fields| fields.contains(&0));
    head.starts_with(b"PK\x03\x04") && has_version && has_method && has_name && has_nul
}

/// Whether the end record of a zip file without files begins here. All numbers before the length of
/// the comment must be 0.
fn is_empty_zip(head: &[u8]) -> bool {
    let numbers = head.get(4..20);
    head.starts_with(b"PK\x05\x06") && numbers.is_some_and(|it| it.iter().all(|byte| *byte == 0))
}

/// Whether the data contains a NUL, or bytes that cannot be part of UTF-8.
fn is_no_text(head: &[u8]) -> bool {
    let is_cut_off = |error: &std::str::Utf8Error| error.error_len().is_none();
    head.contains(&0) || std::str::from_utf8(head).is_err_and(|error| !is_cut_off(&error))
}

/// Whether a frame of lz4 begins here. The magic and the flags are ASCII, so the flags must be
/// valid for version 1.
fn is_lz4(head: &[u8]) -> bool {
    let is_version_1 = head.get(4).is_some_and(|flags| flags >> 6 == 1);
    let is_block_size = head
        .get(5)
        .is_some_and(|block| matches!(block, 0x40 | 0x50 | 0x60 | 0x70));
    head.starts_with(b"\x04\x22\x4d\x18") && is_version_1 && is_block_size && is_no_text(head)
}

/// Whether a Parquet file begins here. After the magic, there must be a page header in Thrift, with
/// the type and the two sizes of the page.
fn is_parquet(head: &[u8]) -> bool {
    let is_page = head
        .get(5)
        .is_some_and(|kind| matches!(kind, 0 | 2 | 4 | 6));
    head.starts_with(b"PAR1\x15") && is_page && head.get(6) == Some(&0x15)
}

/// Whether an Avro file begins here. After the magic, there must be a block of metadata that begins
/// with a key of Avro.
fn is_avro(head: &[u8]) -> bool {
    let rest = head.strip_prefix(b"Obj\x01").unwrap_or_default();
    rest.windows(5).any(|key| key == b"avro.")
}

/// Whether the data is UTF-16 text: at least eight ASCII characters, each of them with a NUL beside
/// it.
fn is_utf16_without_a_mark(head: &[u8]) -> bool {
    let is_ascii = |byte: u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    let (pairs, _) = head.as_chunks::<2>();
    let is_little = pairs.iter().all(|[low, high]| is_ascii(*low) && *high == 0);
    let is_big = pairs.iter().all(|[high, low]| is_ascii(*low) && *high == 0);
    pairs.len() >= 8 && (is_little || is_big)
}

/// Whether a bzip2 file begins here. `BZh` and the level are ASCII, so the mark of a block or of
/// the end must follow.
fn is_bzip2(head: &[u8]) -> bool {
    head.starts_with(b"BZh")
        && is_no_text(head)
        && head
            .get(3)
            .is_some_and(|level| matches!(level, b'1'..=b'9'))
        && matches!(
            head.get(4..10),
            Some(b"1AY&SY" | b"\x17\x72\x45\x38\x50\x90")
        )
}

/// Whether a skippable frame of zstd begins here.
pub(crate) fn is_skippable(head: &[u8]) -> bool {
    let word = head.first_chunk::<4>().copied().map(u32::from_le_bytes);
    word.is_some_and(|word| word & !0xf == ZSTD_SKIPPABLE)
}

/// Returns the advice to the user for a file of a kind that a job cannot read.
pub(crate) fn advice(kind: &str) -> &'static str {
    match kind {
        "gzip" => "name it with .gz at the end",
        "zstd" => "name it with .zst at the end",
        "UTF-16 text" | "UTF-32 text" => "write it as UTF-8",
        _ => "only plain text, gzip (.gz) and zstd (.zst) can be read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A local file header: version 2.0, deflated, a name of one byte.
    const ZIP: &[u8] =
        b"PK\x03\x04\x14\0\0\0\x08\0\x21\x53\x21\x53abcd\x05\0\0\0\x03\0\0\0\x01\0\0\0a";

    #[test]
    fn other_kinds_of_files_are_named_but_not_those_that_may_be_text() {
        for (head, expected) in [
            (&b"\x1f\x8b\x08"[..], Some("gzip")),
            (b"\x28\xb5\x2f\xfd\x04", Some("zstd")),
            (b"\x5f\x2a\x4d\x18\x04", Some("zstd")),
            (ZIP, Some("a zip archive")),
            (
                b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                Some("an empty zip archive"),
            ),
            (b"SQLite format 3\0\x10", Some("an SQLite database")),
            (b"\x04\x22\x4d\x18\x64\x40\xa7", Some("lz4")),
            (b"Obj\x01\x04\x16avro.schema\x02", Some("Avro")),
            (b"\xff\xfe\0\0{\0\0\0", Some("UTF-32 text")),
            (b"\0\0\xfe\xff\0\0\0{", Some("UTF-32 text")),
            (b"{\0\"\0a\0\"\0:\0 \x001\0}\0\n\0", Some("UTF-16 text")),
            (b"\0{\0\"\0a\0\"\0:\x001\0 \0}\0\n", Some("UTF-16 text")),
            (b"\xfd7zXZ\0\0\x04", Some("xz")),
            (b"BZh91AY&SY\x98\xab", Some("bzip2")),
            (b"BZh91AY&SY is how bzip2 begins", None),
            (b"\x04\x22\x4d\x18d@ is text", None),
            (b"BZh9\x17\x72\x45\x38\x50\x90", Some("bzip2")),
            (b"PAR1\x15\x04\x15", Some("Parquet")),
            (b"\xff\xfe{\0", Some("UTF-16 text")),
            (b"BZh9 is a number", None),
            (b"PAR1 holds", None),
            (b"PAR1\x15 holds something", None),
            (b"SQLite format 3 is great", None),
            (b"SQLite format 3", None),
            (b"SQLite format 3\nnext line", None),
            (
                b"PK\x03\x04 is how a zip archive begins, and this is text",
                None,
            ),
            (b"PK\x03\x04", None),
            (
                b"PK\x03\x04\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n",
                None,
            ),
            (b"PK\x05\x06 is text", None),
            (b"Obj\x01 is text", None),
            (b"\x04\x22M\x18 is no text", None),
            (b"a\0b\0", None),
            (b"a\0b and so on, with one NUL", None),
            (b"PK", None),
            (b"{\"a\":1}", None),
            (b"", None),
        ] {
            assert_eq!(kind(head), expected, "{head:?}");
        }
    }
}
