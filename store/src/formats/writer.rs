//! Writes records into a file. The same records always give the same bytes.

use std::io::Write;

use zephyr_engine::pipeline::Format;
use zephyr_engine::record::Record;

use crate::formats::compression::Compressor;
use crate::formats::{Compression, WriteError};

/// How many bytes are collected before they are compressed or sent.
const BUFFER_BYTES: usize = 128 << 10;

/// Writes the records of one file.
pub struct FileWriter<W: Write> {
    file: String,
    format: Format,
    output: Compressor<W>,
    buffer: Vec<u8>,
    rows: u64,
}

impl<W: Write> FileWriter<W> {
    /// Makes a writer that writes to `output`. `file` is the name of the output in messages.
    pub fn new(
        file: &str,
        format: Format,
        compression: Compression,
        output: W,
    ) -> Result<Self, WriteError> {
        let output = Compressor::new(compression, output)
            .map_err(|error| WriteError::from_io(file, error))?;
        Ok(Self {
            file: file.to_owned(),
            format,
            output,
            buffer: Vec::with_capacity(BUFFER_BYTES * 2),
            rows: 0,
        })
    }

    /// Writes one more record. In `text`, a string is written as it is and everything else as
    /// compact JSON.
    pub fn write(&mut self, record: &Record) -> Result<(), WriteError> {
        // In a `jsonl` file, records are written as they are. Escapes are resolved only for `text`.
        let text = match self.format {
            Format::Text => record.as_string(),
            Format::Jsonl => None,
        };
        match text {
            // A carriage return at the end of a record would be read as part of the line end.
            Some(text) if text.contains('\n') || text.ends_with('\r') => {
                let shown = text.chars().take(64).collect();
                return Err(WriteError::LineBreak {
                    file: self.file.clone(),
                    record: self.rows + 1,
                    shown,
                });
            }
            Some(text) if self.rows == 0 && text.starts_with('\u{FEFF}') => {
                let file = self.file.clone();
                return Err(WriteError::ByteOrderMark { file });
            }
            Some(text) => self.put(text.as_bytes())?,
            None => self.put(record.as_json())?,
        }
        self.buffer.push(b'\n');
        self.rows += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.drain()?;
        }
        Ok(())
    }

    /// Writes one more line, which is given in pieces without a line break.
    pub fn write_line(&mut self, pieces: &[&[u8]]) -> Result<(), WriteError> {
        for piece in pieces {
            self.put(piece)?;
        }
        self.buffer.push(b'\n');
        self.rows += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.drain()?;
        }
        Ok(())
    }

    /// Returns how many records were written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Ends the file. Returns the output after all bytes were written to it.
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.drain()?;
        let Self { file, output, .. } = self;
        output
            .finish()
            .map_err(|error| WriteError::from_io(&file, error))
    }

    /// Returns the output without ending the file, so that it can be deleted.
    pub fn abandon(self) -> Option<W> {
        self.output.abandon()
    }

    /// Writes bytes through the buffer. Data that does not fit into the buffer is written directly,
    /// without a copy.
    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        if bytes.len() < BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.drain()?;
        self.output
            .write_all(bytes)
            .map_err(|error| WriteError::from_io(&self.file, error))
    }

    fn drain(&mut self) -> Result<(), WriteError> {
        self.output
            .write_all(&self.buffer)
            .map_err(|error| WriteError::from_io(&self.file, error))?;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{FileReader, ReadError, ReadLimits};

    const COMPRESSIONS: [(Compression, &str); 3] = [
        (Compression::None, ""),
        (Compression::Gz, ".gz"),
        (Compression::Zst, ".zst"),
    ];

    fn written(
        records: &[&str],
        format: Format,
        compression: Compression,
    ) -> Result<Vec<u8>, WriteError> {
        let mut writer = FileWriter::new("out", format, compression, Vec::new())?;
        for record in records {
            writer.write(&Record::parse(record.as_bytes()).unwrap())?;
        }
        writer.finish()
    }

    fn read(file: &str, format: Format, bytes: &[u8]) -> Result<Vec<String>, ReadError> {
        let mut reader = FileReader::new(
            file,
            bytes.len() as u64,
            format,
            &ReadLimits::default(),
            std::io::Cursor::new(bytes.to_vec()),
        )?;
        let mut records = Vec::new();
        while let Some((record, _)) = reader.next_record()? {
            records.push(record.as_json_str().to_owned());
        }
        Ok(records)
    }

    #[test]
    fn a_text_file_never_begins_with_bytes_that_readers_remove() {
        let (marked, plain) = ("\"\u{FEFF}a\"", "\"b\"");
        let error = written(&[marked], Format::Text, Compression::None).unwrap_err();
        let said = "out: record 1 begins with the character U+FEFF";
        assert!(error.to_string().starts_with(said), "{error}");
        for (records, format) in [
            ([plain, marked], Format::Text),
            ([marked, plain], Format::Jsonl),
        ] {
            let bytes = written(&records, format, Compression::None).unwrap();
            assert_eq!(read("out", format, &bytes).unwrap(), records);
        }
    }

    #[test]
    fn written_records_are_read_back_in_every_format_and_compression() {
        let records = [
            "{\"a\":1.0}",
            "\"text é\\u0000\"",
            "[1,2]",
            "null",
            "\"\"",
            "1e400",
        ];
        for (compression, extension) in COMPRESSIONS {
            let bytes = written(&records, Format::Jsonl, compression).unwrap();
            assert_eq!(
                read(&format!("x.jsonl{extension}"), Format::Jsonl, &bytes).unwrap(),
                records
            );
            assert_eq!(
                bytes,
                written(&records, Format::Jsonl, compression).unwrap(),
                "the same bytes again"
            );
            assert!(
                read(
                    &format!("x.jsonl{extension}"),
                    Format::Jsonl,
                    &written(&[], Format::Jsonl, compression).unwrap()
                )
                .unwrap()
                .is_empty()
            );
            assert!(
                read(&format!("x.jsonl{extension}"), Format::Jsonl, b"")
                    .unwrap()
                    .is_empty()
            );

            let texts = ["\"a b\"", "\"\"", "\"é\\r\\t!\""];
            let bytes = written(&texts, Format::Text, compression).unwrap();
            assert_eq!(
                read(&format!("x.txt{extension}"), Format::Text, &bytes).unwrap(),
                texts
            );
        }
        assert_eq!(
            written(
                &["{\"a\": [1, 2]}", "\"s\"", "7"],
                Format::Text,
                Compression::None
            )
            .unwrap(),
            b"{\"a\":[1,2]}\ns\n7\n"
        );
    }

    #[test]
    fn a_string_with_a_line_break_cannot_be_a_line_of_text() {
        for text in ["\"a\\nb\"", "\"a\\r\""] {
            let error = written(&["1", text], Format::Text, Compression::None).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("out: record 2 is a string with a line break"),
                "{error}"
            );
            assert!(written(&[text], Format::Jsonl, Compression::None).is_ok());
        }
    }

    #[test]
    fn a_bad_line_is_named_by_file_and_line() {
        let check = |format, bytes: &[u8], expected: &str| {
            let error = read("s3://b/x.jsonl", format, bytes)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        check(
            Format::Jsonl,
            b"1\n\n \r\nbad\n",
            "s3://b/x.jsonl: line 4: byte 0: ",
        );
        check(
            Format::Jsonl,
            b"1\n{\"a\":\"\xFF\"}\n",
            "s3://b/x.jsonl: line 2: byte 6: ",
        );
        check(Format::Jsonl, b"1\n2\0\n", "s3://b/x.jsonl: line 2: ");
        check(
            Format::Text,
            b"ok\na\xFFb",
            "s3://b/x.jsonl: line 2: byte 1: not UTF-8",
        );
        assert_eq!(
            read("x.jsonl", Format::Jsonl, b"\xEF\xBB\xBF1\r\n\n2").unwrap(),
            ["1", "2"]
        );
        assert_eq!(
            read("x.txt", Format::Text, b"a\n\nb").unwrap(),
            ["\"a\"", "\"\"", "\"b\""]
        );
    }

    #[test]
    fn all_members_and_frames_are_read_and_other_bytes_after_them_are_an_error() {
        for (compression, extension) in [(Compression::Gz, ".gz"), (Compression::Zst, ".zst")] {
            let file = format!("x.jsonl{extension}");
            let one = written(&["1"], Format::Jsonl, compression).unwrap();
            let two = written(&["2", "3"], Format::Jsonl, compression).unwrap();
            assert_eq!(
                read(&file, Format::Jsonl, &[one.clone(), two.clone()].concat()).unwrap(),
                ["1", "2", "3"]
            );
            for broken in [
                [&one[..], b"garbage!garbage!garbage!"].concat(),
                two[..two.len() - 3].to_vec(),
                b"plain text, not compressed".to_vec(),
            ] {
                let error = read(&file, Format::Jsonl, &broken).unwrap_err();
                assert!(matches!(error, ReadError::Decompress { .. }), "{error}");
                assert!(
                    error.to_string().starts_with(&format!("{file}: byte ")),
                    "{error}"
                );
            }
            let mut flipped = two.clone();
            let at = flipped.len() - 6;
            flipped[at] ^= 1;
            assert!(read(&file, Format::Jsonl, &flipped).is_err());
        }
    }

    #[test]
    fn the_extension_determines_the_format_or_it_is_unknown() {
        use crate::formats::source_format;
        for file in ["a.jsonl", "s3://b/a.jsonl.gz", "a.ndjson.zst"] {
            assert_eq!(source_format(file).unwrap(), Format::Jsonl);
        }
        assert_eq!(source_format("a.txt.zst").unwrap(), Format::Text);
        for file in ["a", "a.gz", "a.csv", "a.parquet"] {
            assert!(
                source_format(file)
                    .unwrap_err()
                    .to_string()
                    .starts_with(&format!("{file}: its extension does not imply a format"))
            );
        }
    }
}
