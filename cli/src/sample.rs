//! `run --limit N`: copies the first N records of a job's source into a temporary folder, and makes
//! an output folder beside them. So a job can be tried without reading all of its input and without
//! writing to its output. Does not run the job.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use tempfile::TempDir;
use tokio::runtime::Handle;
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::on_error::{OnErrorAction, OnErrorMessages};
use zephyr_crds::pipeline::{Compression, FilesSource, PipelineSpec, SOURCE_FILES, SinkMode};
use zephyr_crds::quantity::QuantityText;
use zephyr_engine::pipeline::Format;
use zephyr_engine::record::Record;
use zephyr_store::formats::{FileReader, ReadLimits, source_format};
use zephyr_store::storage::{InputFile, Location, ObjectReader, Stores};
use zephyr_worker::convert;

use crate::input;
use crate::terminal::skipped_text;

/// A job's sample and its output. Both are removed when this value is dropped.
pub(crate) struct Sample {
    folder: TempDir,
    /// The URI of each copy, and of the file that was copied.
    originals: Vec<(String, String)>,
    /// Bad lines that were passed over, and the first of them.
    skipped: Skipped,
}

/// Lines that are not records.
#[derive(Default)]
struct Skipped {
    lines: u64,
    first: String,
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
            skipped: Skipped::default(),
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
        without_dead_letters(pipeline);
        let sink = &mut pipeline.sink.files;
        sink.format = sink.effective_format();
        sink.compression = Some(Compression::None);
        sink.mode = SinkMode::Refuse;
        sink.path = format!("{}/{{shard:06}}-{{total}}", sample.uri("output")?);
        job.spec.storage.uri = sample.uri("storage")?;
        Ok(sample)
    }

    /// A message of the run, with the names of the job's own files in the place of the names of
    /// their copies.
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

    /// A line about the bad lines of the source that were passed over, if there are some.
    pub(crate) fn skipped_line(&self) -> Option<String> {
        let Skipped { lines, first } = &self.skipped;
        (*lines > 0).then(|| format!("skipped: {}", skipped_text(SOURCE_FILES, *lines, first)))
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
        let listed = input::list(&stores, SOURCE_FILES, files, "the input cannot be used").await?;
        if listed.is_empty() {
            return Ok(());
        }
        let into = self.folder.path().join("input");
        std::fs::create_dir(&into).context("make a temporary folder")?;
        let uri = self.uri("input")?;
        let on_error = files.on_error.as_ref();
        let skips = on_error.is_some_and(|given| given.action != OnErrorAction::Fail);
        let hides = on_error.is_some_and(|given| given.messages == OnErrorMessages::Hide);
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
                skips,
                copy: into.join(name),
            };
            let (copied, skipped) = tokio::task::spawn_blocking(move || copy.write(left)).await??;
            left -= copied;
            if self.skipped.lines == 0 && !hides {
                self.skipped.first = skipped.first;
            }
            self.skipped.lines += skipped.lines;
        }
        files.paths = vec![format!("{uri}/*")];
        // The copies have other sizes than the job's files, so they would be cut and combined at
        // other places, and errors would name bytes of the copies.
        files.split_bytes = Some(QuantityText::new("0"));
        files.combine_bytes = Some(QuantityText::new("0"));
        Ok(())
    }
}

/// A trial writes nothing to the job's folders, so it only counts bad records.
fn without_dead_letters(pipeline: &mut PipelineSpec) {
    let source = pipeline.source.files.iter_mut();
    let source = source.filter_map(|files| files.on_error.as_mut());
    let steps = pipeline.steps.iter_mut();
    let steps = steps.filter_map(|step| step.on_error.as_mut());
    for on_error in source.chain(steps) {
        if on_error.action == OnErrorAction::DeadLetter {
            on_error.action = OnErrorAction::Skip;
            on_error.path = None;
        }
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
    /// Whether bad lines are passed over.
    skips: bool,
    copy: PathBuf,
}

impl Beginning {
    /// Copies at most `records` records and returns the number of copied records. Each record keeps
    /// its line number, so that messages name the right line.
    fn write(self, records: u64) -> Result<(u64, Skipped)> {
        let uri = &self.file.uri;
        let location = Location::parse_local(uri)?;
        // Nobody uses the number of bytes that are read.
        let counter = Arc::new(|_: u64| {});
        let input = ObjectReader::open(&self.runtime, &self.stores, &self.file, &location, counter);
        let mut reader = FileReader::new(uri, self.file.size, self.format, &self.limits, input)?;
        let wrong = || format!("write {}", self.copy.display());
        let mut copy = BufWriter::new(File::create(&self.copy).with_context(wrong)?);
        let (mut copied, mut line, mut skipped) = (0, 0, Skipped::default());
        while copied < records {
            let (record, at) = match reader.next_record() {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(error) if self.skips && error.line().is_some() => {
                    if skipped.lines == 0 {
                        skipped.first = error.to_string();
                    }
                    skipped.lines += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            // The reader skips empty lines of JSON, but they count as lines.
            let passed_over = if self.format == Format::Jsonl {
                line + 1..at
            } else {
                0..0
            };
            for _ in passed_over {
                copy.write_all(b"\n").with_context(wrong)?;
            }
            self.put(&record, &mut copy).with_context(wrong)?;
            (copied, line) = (copied + 1, at);
        }
        copy.flush().with_context(wrong)?;
        Ok((copied, skipped))
    }

    fn put(&self, record: &Record, copy: &mut impl Write) -> io::Result<()> {
        match (self.format, record.as_string()) {
            (Format::Text, Some(text)) => copy.write_all(text.as_bytes())?,
            _ => copy.write_all(record.as_json())?,
        }
        copy.write_all(b"\n")
    }
}
