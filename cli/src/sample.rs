//! `run --limit N`: copies the first N records of a job's source into a temporary folder, and makes
//! an output folder beside them. So a job can be tried without reading all of its input and without
//! writing to its output. Runs nothing.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use tempfile::TempDir;
use tokio::runtime::Handle;
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::pipeline::{Compression, FilesSource, SOURCE_FILES, SinkMode};
use zephyr_engine::pipeline::Format;
use zephyr_engine::record::Record;
use zephyr_store::formats::{FileReader, ReadLimits, source_format};
use zephyr_store::storage::{InputFile, Location, ObjectReader, Stores};
use zephyr_worker::convert;

use crate::input;

/// A job's sample and its output. Both are removed with this value.
pub(crate) struct Sample {
    folder: TempDir,
    /// The URI of each copy, and of the file that was copied.
    originals: Vec<(String, String)>,
}

impl Sample {
    /// Replaces the source of the job by its first `records` records, and its sink and storage by
    /// temporary folders that this value owns.
    ///
    /// Files are copied in the order in which the job reads them, until the sample has this number
    /// of records.
    ///
    /// # Errors
    /// A file cannot be listed or read, one of these records is not valid, or the copy cannot be
    /// written.
    pub(crate) async fn take(job: &mut ZephyrJob, records: u64) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("zephyr-sample-")
            .tempdir()
            .context("make a temporary folder")?;
        let mut sample = Self {
            folder,
            originals: Vec::new(),
        };
        let pipeline = &mut job.spec.pipeline;
        let limits = convert::pipeline::limits(pipeline)?;
        if let Some(items) = &mut pipeline.source.items {
            let most = usize::try_from(records).unwrap_or(usize::MAX);
            items.values.truncate(most);
            let left = u32::try_from(items.values.len()).unwrap_or(u32::MAX);
            items.shards = items.shards.map(|shards| shards.min(left.max(1)));
        }
        if let Some(files) = &mut pipeline.source.files {
            sample.copy(files, records, limits).await?;
        }
        let sink = &mut pipeline.sink.files;
        sink.format = sink.effective_format();
        sink.compression = Some(Compression::None);
        sink.mode = SinkMode::Refuse;
        sink.path = format!("{}/{{shard:06}}-{{total}}", sample.uri("output")?);
        job.spec.storage.uri = sample.uri("storage")?;
        Ok(sample)
    }

    /// A message of the run, in which the names of copies are replaced by those of the job's own
    /// files.
    pub(crate) fn with_original_names(&self, text: &str) -> String {
        self.originals
            .iter()
            .fold(text.to_owned(), |text, (copy, original)| {
                text.replace(copy, original)
            })
    }

    /// Writes the records of the output, in the order of the shards.
    ///
    /// # Errors
    /// A file cannot be read, or the output is closed.
    pub(crate) fn write_output(&self, to: &mut impl Write) -> Result<()> {
        let folder = self.folder.path().join("output");
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&folder).context("read the sample's output")? {
            let path = entry.context("read the sample's output")?.path();
            if path.extension().is_none() {
                files.push(path);
            }
        }
        files.sort();
        for path in files {
            let mut file = File::open(&path).context("read the sample's output")?;
            io::copy(&mut file, to)?;
        }
        to.flush()?;
        Ok(())
    }

    fn uri(&self, name: &str) -> Result<String> {
        let path = self.folder.path().join(name);
        let text = path.to_str();
        let text = text.ok_or_else(|| anyhow!("TMPDIR: {} is not UTF-8", path.display()))?;
        Ok(format!("file://{text}"))
    }

    async fn copy(
        &mut self,
        files: &mut FilesSource,
        records: u64,
        limits: ReadLimits,
    ) -> Result<()> {
        let stores = input::stores();
        let listed = input::list(&stores, SOURCE_FILES, files, "list the input").await?;
        if listed.is_empty() {
            return Ok(());
        }
        let into = self.folder.path().join("input");
        std::fs::create_dir(&into).context("make a temporary folder")?;
        let uri = self.uri("input")?;
        let mut left = records;
        for (number, file) in listed.into_iter().enumerate() {
            if left == 0 {
                break;
            }
            let format = match files.format {
                Some(format) => convert::pipeline::format(format),
                None => source_format(&file.uri)?,
            };
            let name = format!("{number:08}.{}", extension(format));
            self.originals
                .push((format!("{uri}/{name}"), file.uri.clone()));
            let copy = Beginning {
                runtime: Handle::current(),
                stores: stores.clone(),
                file,
                format,
                limits,
                copy: into.join(name),
            };
            left -= tokio::task::spawn_blocking(move || copy.write(left)).await??;
        }
        files.paths = vec![format!("{uri}/*")];
        Ok(())
    }
}

fn extension(format: Format) -> &'static str {
    match format {
        Format::Jsonl => "jsonl",
        Format::Text => "txt",
    }
}

/// One file whose first records are copied.
struct Beginning {
    runtime: Handle,
    stores: Stores,
    file: InputFile,
    format: Format,
    limits: ReadLimits,
    copy: PathBuf,
}

impl Beginning {
    /// Copies at most `records` records and returns the number of copied records. Each record keeps
    /// its line number, so that messages name the right line.
    fn write(self, records: u64) -> Result<u64> {
        let uri = &self.file.uri;
        let location = Location::parse_local(uri)?;
        // The number of bytes read is not used.
        let counter = Arc::new(|_: u64| {});
        let input = ObjectReader::open(&self.runtime, &self.stores, &self.file, &location, counter);
        let mut reader = FileReader::new(uri, self.file.size, self.format, &self.limits, input)?;
        let wrong = || format!("write {}", self.copy.display());
        let mut copy = BufWriter::new(File::create(&self.copy).with_context(wrong)?);
        let (mut copied, mut line) = (0, 0);
        while copied < records
            && let Some((record, at)) = reader.next_record()?
        {
            // The reader skips empty lines, but they count as lines.
            for _ in line + 1..at {
                copy.write_all(b"\n").with_context(wrong)?;
            }
            self.put(&record, &mut copy).with_context(wrong)?;
            (copied, line) = (copied + 1, at);
        }
        copy.flush().with_context(wrong)?;
        Ok(copied)
    }

    fn put(&self, record: &Record, copy: &mut impl Write) -> io::Result<()> {
        match (self.format, record.as_string()) {
            (Format::Text, Some(text)) => copy.write_all(text.as_bytes())?,
            _ => copy.write_all(record.as_json())?,
        }
        copy.write_all(b"\n")
    }
}
