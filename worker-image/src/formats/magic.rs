//! What a file is by its first bytes, whatever its name says. Names only; nothing is read by it.

/// Bytes that tell every kind known here.
pub(crate) const MAGIC_BYTES: usize = 10;

/// First bytes of a member of gzip.
pub(crate) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// First bytes of a frame of zstd.
pub(crate) const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The upper 28 bits of a skippable frame's first bytes, little endian.
const ZSTD_SKIPPABLE: u32 = 0x184d_2a50;

/// The kind that `head`, the first bytes of something that should be text, surely is; `None` for what may be text. No
/// line of text begins like any of these: they hold control characters or are not UTF-8.
pub(crate) fn kind(head: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], &'static str); 12] = [
        (&GZIP, "gzip"),
        (&ZSTD, "zstd"),
        (b"PK\x03\x04", "a zip archive"),
        (b"PK\x05\x06", "an empty zip archive"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"PAR1\x15", "Parquet"),
        (b"Obj\x01", "Avro"),
        (b"\xff\x06\0\0sNaPpY", "snappy"),
        (b"\xff\xfe", "UTF-16 text"),
        (b"\xfe\xff", "UTF-16 text"),
        (b"SQLite for", "an SQLite database"),
    ];
    let found = kinds.iter().find(|(magic, _)| head.starts_with(magic));
    found
        .map(|(_, kind)| *kind)
        .or_else(|| is_bzip2(head).then_some("bzip2"))
        .or_else(|| is_skippable(head).then_some("zstd"))
}

/// `BZh`, the level, and the mark of a block or of the end.
fn is_bzip2(head: &[u8]) -> bool {
    head.starts_with(b"BZh")
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

/// What to do with a file of a kind that its place in the job does not allow.
pub(crate) fn advice(kind: &str) -> &'static str {
    match kind {
        "gzip" => "name it with .gz at the end",
        "zstd" => "name it with .zst at the end",
        "UTF-16 text" => "write it as UTF-8",
        _ => "only plain text, gzip (.gz) and zstd (.zst) can be read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_named_and_what_may_be_text_is_not() {
        for (head, expected) in [
            (&b"\x1f\x8b\x08"[..], Some("gzip")),
            (b"\x28\xb5\x2f\xfd\x04", Some("zstd")),
            (b"\x5f\x2a\x4d\x18\x04", Some("zstd")),
            (b"PK\x03\x04\x14\0", Some("a zip archive")),
            (b"\xfd7zXZ\0\0\x04", Some("xz")),
            (b"BZh91AY&SY", Some("bzip2")),
            (b"BZh9\x17\x72\x45\x38\x50\x90", Some("bzip2")),
            (b"PAR1\x15\x04\x15", Some("Parquet")),
            (b"\xff\xfe{\0", Some("UTF-16 text")),
            (b"BZh9 is a number", None),
            (b"PAR1 holds", None),
            (b"PK", None),
            (b"{\"a\":1}", None),
            (b"", None),
        ] {
            assert_eq!(kind(head), expected, "{head:?}");
        }
    }
}
