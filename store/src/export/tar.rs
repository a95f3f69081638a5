//! Writes and reads the members of a tar archive (the format ustar of POSIX), so that users can
//! open an export with `tar`. Members are plain files with short names. This module compresses
//! nothing.

use std::io::{self, Read, Write};

/// The size of a header, and the unit to which a member's content is padded.
const BLOCK: usize = 512;

/// Writes one member.
pub(super) fn write_member(archive: &mut impl Write, name: &str, content: &[u8]) -> io::Result<()> {
    archive.write_all(&header(name, content.len()))?;
    archive.write_all(content)?;
    let padding = content.len().next_multiple_of(BLOCK) - content.len();
    archive.write_all(&[0; BLOCK][..padding])
}

/// Writes the end of the archive.
pub(super) fn write_end(archive: &mut impl Write) -> io::Result<()> {
    archive.write_all(&[0; 2 * BLOCK])
}

/// Reads the next member, which must have this name and at most this many bytes. The error says
/// what is wrong.
pub(super) fn read_member(
    archive: &mut impl Read,
    name: &str,
    most_bytes: usize,
) -> Result<Vec<u8>, String> {
    let broken = |error: io::Error| format!("{name}: {error}");
    let mut head = [0; BLOCK];
    archive.read_exact(&mut head).map_err(broken)?;
    let length = field(&head, 124, 12).and_then(|text| usize::from_str_radix(&text, 8).ok());
    let length = length.ok_or_else(|| format!("{name}: there is no member of this name"))?;
    if header(name, length) != head {
        return Err(format!("{name}: there is no member of this name"));
    }
    if length > most_bytes {
        return Err(format!("{name}: has {length} bytes; at most {most_bytes}"));
    }
    let mut content = vec![0; length.next_multiple_of(BLOCK)];
    archive.read_exact(&mut content).map_err(broken)?;
    content.truncate(length);
    Ok(content)
}

/// The header of a member. All members have the same owner, mode and time, so that the same
/// contents give the same archive.
fn header(name: &str, length: usize) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let fields: [(usize, &str); 10] = [
        (0, name),
        (100, "0000644\0"),
        (108, "0000000\0"),
        (116, "0000000\0"),
        (124, &format!("{length:011o}\0")),
        (136, "00000000000\0"),
        (148, "        "),
        (156, "0"),
        (257, "ustar\0"),
        (263, "00"),
    ];
    for (at, text) in fields {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// The text of a field up to its first zero byte.
fn field(header: &[u8; BLOCK], at: usize, length: usize) -> Option<String> {
    let bytes = header.get(at..at + length)?;
    let text = bytes.split(|byte| *byte == 0).next()?;
    Some(std::str::from_utf8(text).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_in_order_and_others_are_refused() {
        let mut archive = Vec::new();
        let long = vec![b'x'; BLOCK];
        write_member(&mut archive, "a.json", b"{}").unwrap();
        write_member(&mut archive, "b", &long).unwrap();
        write_end(&mut archive).unwrap();
        assert_eq!(archive.len(), 6 * BLOCK);
        let mut reader = archive.as_slice();
        assert_eq!(read_member(&mut reader, "a.json", 2).unwrap(), b"{}");
        assert_eq!(read_member(&mut reader, "b", BLOCK).unwrap(), long);
        let end = read_member(&mut reader, "c", BLOCK).unwrap_err();
        assert_eq!(end, "c: there is no member of this name");
        let other = read_member(&mut archive.as_slice(), "b", BLOCK).unwrap_err();
        assert_eq!(other, "b: there is no member of this name");
        let large = read_member(&mut archive.as_slice(), "a.json", 1).unwrap_err();
        assert_eq!(large, "a.json: has 2 bytes; at most 1");
        let short = read_member(&mut &archive[..=BLOCK], "a.json", 2).unwrap_err();
        assert!(short.starts_with("a.json: "), "{short}");
    }
}
