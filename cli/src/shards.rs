//! Says which files a job splits and which it combines. Plans nothing.

use zephyr_engine::plan::{FilePart, counted};

/// A sentence about the shards of the source. `None` if each shard is one whole file.
pub(crate) fn sentence(parts: &[Vec<FilePart>]) -> Option<String> {
    let mut said = Vec::new();
    // Neighbouring shards are pieces of one file if each of them has one part, and all these parts
    // are of that file.
    let files_of_one = parts.iter().filter_map(|shard| match shard[..] {
        [part] => Some(part.file),
        _ => None,
    });
    let files_of_one: Vec<u32> = files_of_one.collect();
    let pieces = files_of_one.chunk_by(|one, other| one == other);
    let pieces: Vec<usize> = pieces
        .map(<[u32]>::len)
        .filter(|count| *count > 1)
        .collect();
    if !pieces.is_empty() {
        let files = counted(pieces.len() as u64, "file");
        let verb = if pieces.len() == 1 { "is" } else { "are" };
        let shards: usize = pieces.iter().sum();
        said.push(format!(
            "{files} {verb} split into {}",
            counted(shards as u64, "shard")
        ));
    }
    let combined = parts.iter().filter(|shard| shard.len() > 1);
    let combined: Vec<usize> = combined.map(Vec::len).collect();
    if !combined.is_empty() {
        let files: usize = combined.iter().sum();
        said.push(format!(
            "{files} files are combined into {}",
            counted(combined.len() as u64, "shard")
        ));
    }
    (!said.is_empty()).then(|| format!("input: {}", said.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_and_combined_files_are_counted_and_whole_ones_are_not() {
        let part = |file, from, to| FilePart { file, from, to };
        for (parts, expected) in [
            (vec![], None),
            (
                vec![
                    vec![part(0, 0, 5)],
                    vec![part(0, 5, 9)],
                    vec![part(1, 0, 4)],
                ],
                Some("input: 1 file is split into 2 shards"),
            ),
            (
                vec![vec![part(0, 0, 5)], vec![part(1, 0, 1), part(2, 0, 2)]],
                Some("input: 2 files are combined into 1 shard"),
            ),
            (
                vec![
                    vec![part(0, 0, 5)],
                    vec![part(0, 5, 9)],
                    vec![part(1, 0, 1), part(2, 0, 2)],
                    vec![part(3, 0, 1), part(4, 0, 2), part(5, 0, 0)],
                    vec![part(6, 0, 3)],
                    vec![part(6, 3, 6)],
                    vec![part(6, 6, 9)],
                ],
                Some("input: 2 files are split into 5 shards, 5 files are combined into 2 shards"),
            ),
        ] {
            assert_eq!(sentence(&parts).as_deref(), expected);
        }
    }
}
