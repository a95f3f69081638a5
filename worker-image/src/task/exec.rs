//! Own code: sends the records of a shard through the commands of its stage. One thread moves all
//! bytes and waits for all pipes together. So it never blocks, in whatever order a command reads
//! and writes. Knows no source and no sink.
//!
//! A command gets each record as a line on its standard input and returns records as lines on its
//! standard output. The steps between two commands and after the last one run here as well.

mod counters;
mod environment;
mod error;
pub(crate) mod guardian;
mod kept;
mod lines;
mod process;
mod stderr;

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zephyr_engine::id::{StageId, TaskAttempt};
use zephyr_engine::ops::{Flow, OperatorError, Receiver, Rejected, StageProgram, StepRun};
use zephyr_engine::pipeline::Origin;
use zephyr_engine::plan::Stage;
use zephyr_engine::record::{LINE_LIMIT_FIELD, Record, RecordParser, Row, is_blank};

use self::counters::add_file;
use self::error::Fault;
use self::kept::{Frame, ReuseFault};
use self::lines::{OutputLines, TooLong};
use self::process::{End, Interest, Process, READ_BYTES, Received, Stream};
use self::stderr::StderrLog;
use crate::task::context::TaskContext;
use crate::task::error::TaskError;
use crate::task::input::Place;
use crate::task::run::{ProgressCounters, placed};

pub(super) use self::counters::Counts;
pub(super) use self::error::ExecError;
pub(super) use self::kept::KeptCommands;

/// How many bytes are collected before they are written, so that one call writes many records.
const WRITE_BYTES: usize = 256 << 10;
/// The longest wait for a pipe. After a wait in which no byte moved, the commands' time limits are
/// checked.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
/// The longest wait while a command has to read the rest of its input before it gets more. No pipe
/// signals that the rest was read.
const DRAIN_TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 2_000_000,
};
/// How long a process that a command started may keep the output open after the command has ended.
const LEFT_OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes that a pipe holds: `fs.pipe-max-size` of Linux. More than this cannot be left in
/// it after its command has ended.
const MAX_PIPE_BYTES: u64 = 1 << 20;
/// A command may load a model before it reads its first record. So the limit for its first byte is
/// this many times the limit for later ones.
const START_UP_FACTOR: u32 = 10;

/// The commands of a stage, for one attempt of one task. Without commands, records pass unchanged.
/// Dropping the chain ends all its processes.
pub(super) struct Chain<'p> {
    stage: StageId,
    links: Vec<Link<'p>>,
    shared: Shared,
}

/// What all commands of an attempt share.
struct Shared {
    progress: Arc<ProgressCounters>,
    /// What the commands that have ended well have counted.
    counts: RefCell<Counts>,
    stall_timeout: Duration,
}

/// A command and the steps after it.
struct Link<'p> {
    step: String,
    program: String,
    task: String,
    may_ignore_input: bool,
    process: Process,
    /// The state of this shard, if the process serves many shards.
    frame: Option<Frame>,
    stderr: StderrLog,
    lines: OutputLines,
    parser: RecordParser,
    after: StepRun<'p>,
    buffer: Vec<u8>,
    /// Bytes for its standard input. The first `sent` of them are already written.
    pending: Vec<u8>,
    sent: usize,
    records: Records,
    /// Nothing more is read from it.
    is_done: bool,
    /// When its end was noticed.
    ended: Option<Instant>,
    /// After its end: when everything that it had written was received, although its output is
    /// still open.
    left_open: Option<Instant>,
    /// Bytes of output that were received after its end.
    received_late: u64,
}

/// Whether a command gets more records.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Records {
    /// More of them may come.
    Come,
    /// No more come.
    AllCame,
    /// One came after the command had ended.
    WereRefused,
}

/// Why a record is not passed on.
enum Pass {
    /// The attempt has failed.
    Failed(TaskError),
    /// No later record can change the output.
    Enough,
    /// A step failed.
    Step(OperatorError),
    /// A line of a command's output is not a record.
    Line(u64, Vec<u8>, String),
    /// A line is too long.
    TooLong(Vec<u8>),
    /// A command broke the rules of `reuse`.
    Answer(ReuseFault),
}

impl From<OperatorError> for Pass {
    fn from(error: OperatorError) -> Self {
        Self::Step(error)
    }
}

impl From<TooLong> for Pass {
    fn from(TooLong { begins }: TooLong) -> Self {
        Self::TooLong(begins)
    }
}

/// Receives the records at the end of the stage, and the bad records that a step skips. The place
/// is where the record was read: in the input, or in the output of the last command.
pub(super) trait Sink {
    /// A record that has passed all steps.
    fn pass(&mut self, row: Row<'_>, place: Place<'_>) -> Result<(), TaskError>;

    /// A record on which a step failed, if that step skips bad records.
    fn reject(&mut self, rejected: Rejected, place: Place<'_>) -> Result<(), TaskError>;
}

/// Receives the results of the steps before or after a command.
struct Onward<'a, 'p> {
    links: &'a mut [Link<'p>],
    shared: &'a Shared,
    sink: &'a mut dyn Sink,
    place: Place<'a>,
    /// Whether the record comes from the source or from a shuffle, and not from a command.
    is_input: bool,
}

impl Receiver<Pass> for Onward<'_, '_> {
    fn pass(&mut self, row: Row<'_>) -> Result<(), Pass> {
        let delivered = deliver(self.links, self.shared, self.sink, row, self.place);
        match delivered {
            // The moment at which a command stops reading depends on timing. So all of the input is
            // read in any case. Then a record on which a step fails is found in every run.
            Err(Pass::Enough) if self.is_input => Ok(()),
            other => other,
        }
    }

    fn reject(&mut self, rejected: Rejected) -> Result<(), Pass> {
        let rejected = self.sink.reject(rejected, self.place);
        rejected.map_err(Pass::Failed)
    }
}

/// When to stop moving bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The first command has taken everything.
    Written,
    /// All commands have ended.
    Ended,
}

impl<'p> Chain<'p> {
    /// Starts the commands of the stage, even if the shard has no records.
    pub(super) fn start(
        context: &TaskContext,
        stage: &Stage,
        program: &'p StageProgram,
        task: TaskAttempt,
        progress: &Arc<ProgressCounters>,
    ) -> Result<Self, TaskError> {
        let mut links = Vec::new();
        let limits = context.record_limits(stage);
        for (index, ((step, exec), after)) in (0..).zip(
            stage
                .commands()
                .zip(program.steps_after_commands(task.task.shard.0)),
        ) {
            let name = exec.command.first().cloned().unwrap_or_default();
            let text = task.task.to_string();
            let failed = |fault: Fault| {
                TaskError::Exec(Box::new(ExecError {
                    step: step.to_owned(),
                    program: name.clone(),
                    task: text.clone(),
                    fault,
                    stderr: String::new(),
                }))
            };
            let kept = if exec.reuse {
                context
                    .kept
                    .take(stage.id, index)
                    .map_err(|fault| failed(Fault::Reuse(fault)))?
            } else {
                None
            };
            let process = match kept {
                Some(process) => process,
                None => environment::start(context, stage, exec, task, index)
                    .map_err(|error| failed(Fault::System(error.to_string())))?,
            };
            links.push(Link {
                frame: exec.reuse.then(|| Frame::begin(&process)),
                process,
                stderr: StderrLog::new(format!("{step}: {text}")),
                step: step.to_owned(),
                program: name,
                task: text,
                may_ignore_input: exec.may_ignore_input,
                lines: OutputLines::new(limits.bytes.min(limits.memory_bytes)),
                parser: RecordParser::within(limits),
                after,
                buffer: vec![0; READ_BYTES],
                pending: Vec::new(),
                sent: 0,
                records: Records::Come,
                is_done: false,
                ended: None,
                left_open: None,
                received_late: 0,
            });
        }
        let shared = Shared {
            progress: Arc::clone(progress),
            counts: RefCell::default(),
            stall_timeout: context.setup.commands.stall_timeout,
        };
        Ok(Self {
            stage: stage.id,
            links,
            shared,
        })
    }

    /// Sends a record through the steps before the first command, and their results to this
    /// command.
    pub(super) fn push(
        &mut self,
        steps: &mut StepRun<'_>,
        record: Record,
        sink: &mut dyn Sink,
        place: Place<'_>,
    ) -> Result<Flow, TaskError> {
        let Self { links, shared, .. } = self;
        let mut onward = Onward {
            links,
            shared,
            sink,
            place,
            is_input: true,
        };
        let pushed = steps.push(record, &mut onward);
        match pushed {
            Ok(flow) => Ok(flow),
            Err(fault) => of_input(Err(fault)).map(|()| Flow::Stop),
        }
    }

    /// Passes on the windows that are still open in the steps before the first command. `place` is
    /// that of the last record of the input.
    pub(super) fn finish_steps(
        &mut self,
        steps: &mut StepRun<'_>,
        sink: &mut dyn Sink,
        place: Place<'_>,
    ) -> Result<(), TaskError> {
        let Self { links, shared, .. } = self;
        let mut onward = Onward {
            links,
            shared,
            sink,
            place,
            is_input: true,
        };
        let finished = steps.finish(&mut onward);
        of_input(finished)
    }

    /// Each step that skips bad records and follows a command, with the number of records that
    /// arrived at it.
    pub(super) fn arrived(&self) -> impl Iterator<Item = (Origin, u64)> {
        self.links.iter().flat_map(|link| link.after.arrived())
    }

    /// What the commands have counted, once all of them have finished the shard. The processes that
    /// serve many shards are kept for the next one.
    pub(super) fn end(self, context: &TaskContext) -> Counts {
        for (index, link) in (0..).zip(self.links) {
            if link.has_answered() {
                context.kept.put(self.stage, index, link.process);
            }
        }
        self.shared.counts.into_inner()
    }

    /// Ends the input of the commands and passes on the rest of their output.
    pub(super) fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), TaskError> {
        if let Some(first) = self.links.first_mut() {
            first.end_records();
        }
        of_input(pump(&mut self.links, &self.shared, sink, Until::Ended))
    }
}

/// Makes an error of the attempt from one that is not about a line of a command's output.
fn of_input(passed: Result<(), Pass>) -> Result<(), TaskError> {
    match passed {
        Ok(()) | Err(Pass::Enough) => Ok(()),
        Err(Pass::Failed(error)) => Err(error),
        Err(Pass::Step(error)) => Err(TaskError::Operate(error)),
        Err(Pass::Line(..) | Pass::TooLong(_) | Pass::Answer(_)) => {
            Err(TaskError::Bug("a line without its command".to_owned()))
        }
    }
}

/// Passes a record to the first of these commands, or to the sink if there is none. Collects
/// records and writes only when there are enough bytes.
fn deliver(
    links: &mut [Link<'_>],
    shared: &Shared,
    sink: &mut dyn Sink,
    row: Row<'_>,
    place: Place<'_>,
) -> Result<(), Pass> {
    let Some(first) = links.first_mut() else {
        return sink.pass(row, place).map_err(Pass::Failed);
    };
    if !first.takes_input() {
        first.records = Records::WereRefused;
        return Err(Pass::Enough);
    }
    first.pending.extend_from_slice(row.into_record().as_json());
    first.pending.push(b'\n');
    if first.pending.len() - first.sent >= WRITE_BYTES {
        pump(links, shared, sink, Until::Written)?;
    }
    Ok(())
}

/// Moves bytes into and out of these commands.
fn pump(
    links: &mut [Link<'_>],
    shared: &Shared,
    sink: &mut dyn Sink,
    until: Until,
) -> Result<(), Pass> {
    let mut idle_since = Instant::now();
    loop {
        for index in 0..links.len() {
            conclude(links, shared, sink, index)?;
        }
        let is_reached = match until {
            Until::Written => links.first().is_none_or(Link::has_sent_all),
            Until::Ended => links.iter().all(|link| link.is_done),
        };
        if is_reached {
            return Ok(());
        }
        let ready = wait(links).map_err(|error| of_system(links, &error))?;
        let mut moved = 0;
        for (index, ready) in ready.into_iter().enumerate() {
            moved += serve(links, index, &ready, shared, sink)?;
        }
        if moved > 0 {
            idle_since = Instant::now();
            shared.progress.written.fetch_add(moved, Ordering::Relaxed);
        } else {
            judge(links, shared, idle_since.elapsed())?;
        }
    }
}

/// Waits until a pipe of the commands is ready, at most for [`TICK`].
fn wait(links: &[Link<'_>]) -> io::Result<Vec<Vec<Stream>>> {
    let mut owners = Vec::new();
    let mut polled: Vec<PollFd<'_>> = Vec::new();
    let running = links.iter().enumerate().filter(|(_, link)| !link.is_done);
    for (index, link) in running {
        let interest = Interest {
            input: !link.has_sent_all(),
            output: links.get(index + 1).is_none_or(Link::has_room),
        };
        for (stream, waiting) in link.process.wanted(interest) {
            owners.push((index, stream));
            polled.push(waiting);
        }
    }
    let mut ready = vec![Vec::new(); links.len()];
    let tick = if links.iter().any(Link::waits_to_end_the_shard) {
        DRAIN_TICK
    } else {
        TICK
    };
    match poll(&mut polled, Some(&tick)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    for ((index, stream), waited) in owners.into_iter().zip(polled) {
        let is_ready = !(waited.revents() & !PollFlags::NVAL).is_empty();
        if is_ready && let Some(ready) = ready.get_mut(index) {
            ready.push(stream);
        }
    }
    Ok(ready)
}

/// Moves the bytes of one command that can be moved without waiting. Returns their number.
fn serve(
    links: &mut [Link<'_>],
    index: usize,
    ready: &[Stream],
    shared: &Shared,
    sink: &mut dyn Sink,
) -> Result<u64, Pass> {
    let (before, rest) = links.split_at_mut(index);
    let Some((link, next)) = rest.split_first_mut() else {
        return Ok(0);
    };
    if link.is_done {
        return Ok(0);
    }
    let mut moved = 0;
    if ready.contains(&Stream::Stderr) {
        let Link {
            process, stderr, ..
        } = link;
        if let Err(error) = process.read_stderr(stderr) {
            return Err(link.failed(Fault::System(error.to_string())));
        }
    }
    if ready.contains(&Stream::Input) {
        moved += link.send()?;
    }
    if ready.contains(&Stream::Output) {
        let received = link.receive(next, shared, sink);
        match received {
            Ok(bytes) => moved += bytes,
            // The output is complete, so this command and the commands before it are stopped.
            Err(Pass::Enough) => {
                for link in before.iter_mut().chain([&mut *link]) {
                    link.stop();
                }
                link.end_output(next, shared, sink)?;
            }
            Err(other) => return Err(other),
        }
    }
    if ready.contains(&Stream::Control) {
        link.process.read_reports();
    }
    Ok(moved)
}

/// Closes the input of a command if all records were sent. If the command has ended, checks whether
/// it succeeded.
fn conclude(
    links: &mut [Link<'_>],
    shared: &Shared,
    sink: &mut dyn Sink,
    index: usize,
) -> Result<(), Pass> {
    let (_, rest) = links.split_at_mut(index);
    let Some((link, next)) = rest.split_first_mut() else {
        return Ok(());
    };
    if link.is_done {
        return Ok(());
    }
    link.end_input();
    if link.frame.as_ref().is_some_and(|frame| frame.is_answered) {
        return conclude_shard(link, next, shared, sink);
    }
    let Some(end) = link.process.end() else {
        return Ok(());
    };
    match end {
        End::NotStarted(error) => return Err(link.failed(Fault::Start(error))),
        End::Exit(0) => {}
        End::Exit(_) | End::Signal(_) | End::Unknown => {
            return Err(link.failed(Fault::Ended(end)));
        }
    }
    if !link.process.output_has_ended() {
        if link.is_left_open() {
            return Err(link.failed(Fault::LeftOpen(LEFT_OPEN_TIMEOUT)));
        }
        return Ok(());
    }
    if !link.lines.rest().is_empty() {
        let number = link.lines.number() + 1;
        let text = link.lines.rest().to_vec();
        return Err(link.failed(Fault::HalfLine(number, text)));
    }
    if link.frame.is_some() {
        return Err(link.failed(Fault::Reuse(ReuseFault::EndedInShard)));
    }
    if !link.may_ignore_input {
        let unread = link.process.unread_bytes() + link.unsent();
        if unread > 0 {
            return Err(link.failed(Fault::UnreadInput(unread)));
        }
        match link.records {
            Records::WereRefused => return Err(link.failed(Fault::IgnoredInput)),
            Records::Come => return Ok(()),
            Records::AllCame => {}
        }
    }
    link.take_counts(shared)?;
    link.stop();
    link.end_output(next, shared, sink)
}

/// Checks that a command which serves many shards has added nothing to its answer.
fn conclude_shard<'p>(
    link: &mut Link<'p>,
    next: &mut [Link<'p>],
    shared: &Shared,
    sink: &mut dyn Sink,
) -> Result<(), Pass> {
    if let Some(end) = link.process.end()
        && end != End::Exit(0)
    {
        return Err(link.failed(Fault::Ended(end)));
    }
    // Output after the answer is received before the shard ends, and is a fault.
    if link.process.output_bytes() == 0 {
        link.is_done = true;
        link.end_output(next, shared, sink)?;
    }
    Ok(())
}

/// Fails if no byte has moved for too long. `idle` is the time since the last byte moved.
fn judge(links: &mut [Link<'_>], shared: &Shared, idle: Duration) -> Result<(), Pass> {
    let Some(link) = links.iter_mut().find(|link| !link.is_done) else {
        return Ok(());
    };
    let limit = shared.stall_timeout;
    let first = limit.saturating_mul(START_UP_FACTOR);
    if link.process.has_begun() {
        if idle > limit {
            let is_asked = link.frame.as_ref().is_some_and(|frame| frame.end_is_sent);
            let fault = if is_asked {
                Fault::Reuse(ReuseFault::NoAnswer(limit))
            } else {
                Fault::Stalled(limit)
            };
            return Err(link.failed(fault));
        }
    } else if idle > first {
        return Err(link.failed(Fault::NeverBegan(first)));
    }
    // This process itself checks whether its commands hang. So it reports progress, and the
    // supervisor does not end it.
    shared.progress.written.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn of_system(links: &mut [Link<'_>], error: &io::Error) -> Pass {
    match links.first_mut() {
        Some(link) => link.failed(Fault::System(error.to_string())),
        None => Pass::Failed(TaskError::Bug(error.to_string())),
    }
}

impl Link<'_> {
    /// Whether it can still read a record.
    fn takes_input(&self) -> bool {
        !self.is_done && self.process.end().is_none()
    }

    fn unsent(&self) -> u64 {
        (self.pending.len() - self.sent) as u64
    }

    /// Whether everything was sent, or nothing more can be sent.
    fn has_sent_all(&self) -> bool {
        self.unsent() == 0 || !self.takes_input()
    }

    /// Whether there is room for more output of the command before it.
    fn has_room(&self) -> bool {
        self.pending.len() - self.sent < WRITE_BYTES || !self.takes_input()
    }

    fn end_records(&mut self) {
        if self.records == Records::Come {
            self.records = Records::AllCame;
        }
    }

    /// Passes on the windows that are still open in the steps after it, and ends the records of the
    /// next command.
    fn end_output(
        &mut self,
        next: &mut [Link<'_>],
        shared: &Shared,
        sink: &mut dyn Sink,
    ) -> Result<(), Pass> {
        let output = format!("{}: {}", self.step, self.task);
        let place = Place::of_output(&output, self.lines.number());
        let finished = self.after.finish(&mut Onward {
            links: &mut *next,
            shared,
            sink,
            place,
            is_input: false,
        });
        match finished {
            Ok(()) | Err(Pass::Enough) => {}
            Err(error) => return Err(in_place(error, place)),
        }
        if let Some(next) = next.first_mut() {
            next.end_records();
        }
        Ok(())
    }

    /// Whether it has finished the shard and can serve another one.
    fn has_answered(&self) -> bool {
        let is_answered = self.frame.as_ref().is_some_and(|frame| frame.is_answered);
        is_answered && self.is_done && self.process.end().is_none()
    }

    /// Whether all records were sent, and the empty line after them was not.
    fn waits_to_end_the_shard(&self) -> bool {
        let is_open = self.frame.as_ref().is_some_and(|frame| !frame.end_is_sent);
        is_open && self.records != Records::Come && self.unsent() == 0 && self.takes_input()
    }

    /// Signals to the command that its records end, after all of them were sent to it.
    fn end_input(&mut self) {
        if self.frame.is_none() {
            if self.records != Records::Come && self.has_sent_all() {
                self.process.close_input();
            }
        } else if self.waits_to_end_the_shard() && self.process.unread_bytes() == 0 {
            self.pending.push(b'\n');
            if let Some(frame) = &mut self.frame {
                frame.end_is_sent = true;
            }
        }
    }

    /// Whether another process has kept the output of the ended command open for longer than
    /// [`LEFT_OPEN_TIMEOUT`]. What that process writes does not extend the time. Called while the
    /// output is open.
    fn is_left_open(&mut self) -> bool {
        if self.process.output_bytes() == 0 {
            self.left_open.get_or_insert_with(Instant::now);
        }
        let ended = *self.ended.get_or_insert_with(Instant::now);
        let is_late = |since: Instant| since.elapsed() > LEFT_OPEN_TIMEOUT;
        let is_from_another = self.received_late > MAX_PIPE_BYTES;
        self.left_open.is_some_and(is_late) || is_from_another && is_late(ended)
    }

    /// Adds what the command has counted. Called when no process is left that could still count.
    fn take_counts(&mut self, shared: &Shared) -> Result<(), Pass> {
        self.process.end_all();
        let file = environment::counters_file(self.process.directory());
        let added = add_file(&mut shared.counts.borrow_mut(), &file);
        added.map_err(|problem| self.failed(Fault::Counters(problem)))
    }

    /// Ends it, unless it waits for another shard.
    fn stop(&mut self) {
        if self.has_answered() {
            return;
        }
        self.is_done = true;
        self.process.stop();
    }

    fn send(&mut self) -> Result<u64, Pass> {
        let sent = match self.process.send(&self.pending[self.sent..]) {
            Ok(sent) => sent,
            Err(error) => return Err(self.failed(Fault::System(error.to_string()))),
        };
        self.sent += sent;
        if self.sent == self.pending.len() {
            self.pending.clear();
            self.sent = 0;
        }
        Ok(sent as u64)
    }

    /// Reads some of its output and passes the records on.
    fn receive(
        &mut self,
        next: &mut [Link<'_>],
        shared: &Shared,
        sink: &mut dyn Sink,
    ) -> Result<u64, Pass> {
        let bytes = match self.process.receive(&mut self.buffer) {
            Ok(Received::Bytes(bytes)) => bytes,
            Ok(Received::Nothing | Received::End) => return Ok(0),
            Err(error) => return Err(self.failed(Fault::System(error.to_string()))),
        };
        if self.process.end().is_some() {
            self.received_late += bytes as u64;
        }
        let Self {
            lines,
            parser,
            after,
            buffer,
            process,
            frame,
            ..
        } = self;
        let output = format!("{}: {}", self.step, self.task);
        let judged = frame
            .as_ref()
            .map_or(Ok(()), |frame| frame.on_output(process.read_bytes()));
        let passed = judged.map_err(Pass::Answer).and_then(|()| {
            lines.push(&buffer[..bytes], |number, line| {
                let is_empty = is_blank(line);
                if let Some(frame) = frame {
                    let judged = if is_empty {
                        frame.on_empty_line(number, process.unread_bytes())
                    } else {
                        frame.on_text(number, line)
                    };
                    judged.map_err(Pass::Answer)?;
                }
                if is_empty {
                    return Ok(());
                }
                let record = parser
                    .parse(line)
                    .map_err(|error| Pass::Line(number, line.to_vec(), error.to_string()))?;
                let place = Place::of_output(&output, number);
                let mut onward = Onward {
                    links: &mut *next,
                    shared,
                    sink: &mut *sink,
                    place,
                    is_input: false,
                };
                match after.push(record, &mut onward) {
                    Ok(Flow::Continue) => Ok(()),
                    Ok(Flow::Stop) => Err(Pass::Enough),
                    Err(error) => Err(in_place(error, place)),
                }
            })
        });
        match passed {
            Ok(()) => {
                self.ends_with_its_answer()?;
                Ok(bytes as u64)
            }
            Err(Pass::Line(line, text, problem)) => {
                Err(self.failed(Fault::Line(line, text, problem)))
            }
            Err(Pass::Answer(fault)) => Err(self.failed(Fault::Reuse(fault))),
            Err(Pass::TooLong(begins)) => {
                let problem = format!("the line is too long ({LINE_LIMIT_FIELD})");
                let line = self.lines.number();
                Err(self.failed(Fault::Line(line, begins, problem)))
            }
            Err(other) => Err(other),
        }
    }

    /// Fails if the beginning of a line comes after the answer to the shard.
    fn ends_with_its_answer(&mut self) -> Result<(), Pass> {
        let rest = self.lines.rest();
        let judged = match &self.frame {
            Some(frame) if !rest.is_empty() => frame.on_text(self.lines.number() + 1, rest),
            Some(_) | None => Ok(()),
        };
        judged.map_err(|fault| self.failed(Fault::Reuse(fault)))
    }

    /// The failure of the attempt, with the end of this command's standard error.
    fn failed(&mut self, fault: Fault) -> Pass {
        let Self {
            process, stderr, ..
        } = self;
        if let Err(error) = process.read_stderr(stderr) {
            tracing::debug!(%error, "the rest of standard error cannot be read");
        }
        Pass::Failed(TaskError::Exec(Box::new(ExecError {
            step: self.step.clone(),
            program: self.program.clone(),
            task: self.task.clone(),
            fault,
            stderr: self.stderr.tail(),
        })))
    }
}

/// Puts the line of the output in front of a step's message.
fn in_place(error: Pass, place: Place<'_>) -> Pass {
    let error = match error {
        Pass::Step(error) => TaskError::Operate(error),
        Pass::Failed(error) => error,
        Pass::Enough | Pass::Line(..) | Pass::TooLong(_) | Pass::Answer(_) => return error,
    };
    Pass::Failed(placed(error, &place))
}
