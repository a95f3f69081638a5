//! One running command: its pipes, which never block this process, and how it ended. Knows no
//! record: it moves bytes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Permissions;
use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags};
use rustix::io::{ioctl_fionbio, ioctl_fionread};
use rustix::pipe::fcntl_setpipe_size;

use super::guardian::{Order, Report, send_order};
use super::stderr::StderrLog;

/// The size of a pipe, if the system allows it. With a large pipe, the processes wait for each
/// other less often.
const PIPE_BYTES: usize = 1 << 20;
/// How many bytes are read at a time.
pub(super) const READ_BYTES: usize = 256 << 10;
/// The most bytes that all reports of a guardian have together.
const MAX_REPORT_BYTES: usize = 256;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The system refused to start it, with this error number.
    NotStarted(i32),
    /// It ended by itself with this code.
    Exit(i32),
    /// This signal ended it.
    Signal(i32),
    /// Its guardian was killed.
    Unknown,
}

/// A running command. Dropping it kills it and all processes that it started.
pub(super) struct Process {
    guardian: Child,
    control: Option<UnixStream>,
    reported: Vec<u8>,
    input: Option<PipeWriter>,
    /// The end of the pipe that the command reads from. Nothing is read from it here. It shows how
    /// many bytes the command has not read. While it is open, a write does not fail, even if the
    /// command has closed its own copy.
    unread: PipeReader,
    output: Option<PipeReader>,
    stderr: Option<PipeReader>,
    end: Option<End>,
    sent_bytes: u64,
    received_bytes: u64,
    directory: PathBuf,
    is_stopped: bool,
}

/// The streams to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    /// There are bytes for its standard input.
    pub(super) input: bool,
    /// There is room for bytes of its standard output.
    pub(super) output: bool,
}

/// Bytes of a nonblocking stream.
pub(super) enum Received {
    /// This many.
    Bytes(usize),
    /// None at the moment.
    Nothing,
    /// None from now on.
    End,
}

impl Process {
    /// Starts a command in a new folder of its own.
    pub(super) fn start(
        program: (&Path, &[OsString]),
        command: &[String],
        env: BTreeMap<String, String>,
        directory: PathBuf,
    ) -> io::Result<Self> {
        let (executable, arguments) = program;
        std::fs::create_dir_all(&directory)?;
        let (unread, input) = pipe()?;
        let (output, command_output) = pipe()?;
        let (stderr, command_stderr) = pipe()?;
        for end in [input.as_fd(), output.as_fd(), stderr.as_fd()] {
            ioctl_fionbio(end, true)?;
        }
        for end in [input.as_fd(), output.as_fd()] {
            // A pipe of the usual size works too.
            let _refused = fcntl_setpipe_size(end, PIPE_BYTES);
        }
        let (control, other) = UnixStream::pair()?;
        let guardian = Command::new(executable)
            .args(arguments)
            .env_clear()
            .current_dir(&directory)
            .stdin(Stdio::from(OwnedFd::from(other)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let process = Self {
            guardian,
            control: Some(control),
            reported: Vec::new(),
            input: Some(input),
            unread,
            output: Some(output),
            stderr: Some(stderr),
            end: None,
            sent_bytes: 0,
            received_bytes: 0,
            directory,
            is_stopped: false,
        };
        let order = Order {
            command: command.to_vec(),
            env,
            directory: process.directory.display().to_string(),
        };
        if let Some(control) = &process.control {
            let streams = [
                process.unread.as_fd(),
                command_output.as_fd(),
                command_stderr.as_fd(),
            ];
            send_order(control, &order, streams)?;
            control.set_nonblocking(true)?;
        }
        Ok(process)
    }

    /// How it ended; `None` until its end is reported.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// Whether nothing more comes from its standard output.
    pub(super) fn output_has_ended(&self) -> bool {
        self.output.is_none()
    }

    /// Whether it has read or written at least one byte.
    pub(super) fn has_begun(&self) -> bool {
        self.received_bytes > 0 || self.unread_bytes() < self.sent_bytes
    }

    /// The bytes that were sent and that it has not read.
    pub(super) fn unread_bytes(&self) -> u64 {
        ioctl_fionread(&self.unread).unwrap_or(0)
    }

    /// The bytes of its standard input that it has read since its start.
    pub(super) fn read_bytes(&self) -> u64 {
        self.sent_bytes.saturating_sub(self.unread_bytes())
    }

    /// The bytes of its standard output that have not been received.
    pub(super) fn output_bytes(&self) -> u64 {
        let output = self.output.as_ref();
        output.map_or(0, |output| ioctl_fionread(output).unwrap_or(0))
    }

    /// Closes its standard input.
    pub(super) fn close_input(&mut self) {
        self.input = None;
    }

    /// What a wait must include.
    pub(super) fn wanted(&self, interest: Interest) -> Vec<(Stream, PollFd<'_>)> {
        let mut wanted = Vec::new();
        if let Some(input) = self.input.as_ref().filter(|_| interest.input) {
            wanted.push((Stream::Input, PollFd::new(input, PollFlags::OUT)));
        }
        if let Some(output) = self.output.as_ref().filter(|_| interest.output) {
            wanted.push((Stream::Output, PollFd::new(output, PollFlags::IN)));
        }
        if let Some(stderr) = &self.stderr {
            wanted.push((Stream::Stderr, PollFd::new(stderr, PollFlags::IN)));
        }
        if let Some(control) = self.control.as_ref().filter(|_| self.end.is_none()) {
            wanted.push((Stream::Control, PollFd::new(control, PollFlags::IN)));
        }
        wanted
    }

    /// Writes bytes to its standard input. Returns how many were written.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(input) = &mut self.input else {
            return Ok(bytes.len());
        };
        let sent = loop {
            match input.write(bytes) {
                Ok(sent) => break sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) => return Err(error),
            }
        };
        self.sent_bytes += sent as u64;
        Ok(sent)
    }

    /// Reads from its standard output.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let received = receive(self.output.as_mut(), buffer)?;
        match received {
            Received::Bytes(bytes) => self.received_bytes += bytes as u64,
            Received::End => self.output = None,
            Received::Nothing => {}
        }
        Ok(received)
    }

    /// Reads all bytes that its standard error contains now.
    pub(super) fn read_stderr(&mut self, log: &mut StderrLog) -> io::Result<u64> {
        let mut buffer = [0; 4096];
        let mut moved = 0;
        loop {
            match receive(self.stderr.as_mut(), &mut buffer)? {
                Received::Bytes(bytes) => {
                    moved += bytes as u64;
                    log.push(&buffer[..bytes]);
                }
                Received::Nothing => return Ok(moved),
                Received::End => {
                    self.stderr = None;
                    return Ok(moved);
                }
            }
        }
    }

    /// Reads what its guardian reports.
    pub(super) fn read_reports(&mut self) {
        let mut buffer = [0; MAX_REPORT_BYTES];
        let Some(control) = &mut self.control else {
            return;
        };
        match control.read(&mut buffer) {
            Ok(0) => self.end = self.end.or(Some(End::Unknown)),
            Ok(bytes) => self.reported.extend_from_slice(&buffer[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.end = self.end.or(Some(End::Unknown)),
        }
        while let Some(end) = self.reported.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.reported.drain(..=end).collect();
            match Report::parse(&String::from_utf8_lossy(&line)) {
                Some(Report::Started) => {}
                Some(Report::Failed(error)) => self.end = Some(End::NotStarted(error)),
                Some(Report::Exit(code)) => self.end = Some(End::Exit(code)),
                Some(Report::Signal(signal)) => self.end = Some(End::Signal(signal)),
                None => self.end = Some(End::Unknown),
            }
        }
    }

    /// Its working directory, until it is stopped.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Kills it and all processes that it started, and waits until they are gone.
    pub(super) fn end_all(&mut self) {
        self.input = None;
        if self.control.take().is_none() {
            return;
        }
        if let Err(error) = self.guardian.wait() {
            tracing::debug!(%error, "the process that watches over a command cannot be waited for");
        }
    }

    /// Kills it as `end_all` does, and removes its folder.
    pub(super) fn stop(&mut self) {
        self.end_all();
        if std::mem::replace(&mut self.is_stopped, true) {
            return;
        }
        if let Err(error) = remove_folder(&self.directory) {
            tracing::warn!(%error, "the folder of a command stays");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Removes a folder. A command may have made folders in it that nobody may write to.
fn remove_folder(folder: &Path) -> io::Result<()> {
    let Err(error) = std::fs::remove_dir_all(folder) else {
        return Ok(());
    };
    if error.kind() != io::ErrorKind::PermissionDenied {
        return Err(error);
    }
    make_writable(folder)?;
    std::fs::remove_dir_all(folder)
}

/// Gives this user all rights on a folder and the folders in it. Symbolic links are not followed.
fn make_writable(folder: &Path) -> io::Result<()> {
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

/// A stream of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Input,
    Output,
    Stderr,
    Control,
}

fn receive(stream: Option<&mut PipeReader>, buffer: &mut [u8]) -> io::Result<Received> {
    let Some(stream) = stream else {
        return Ok(Received::End);
    };
    loop {
        return match stream.read(buffer) {
            Ok(0) => Ok(Received::End),
            Ok(bytes) => Ok(Received::Bytes(bytes)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(error) => Err(error),
        };
    }
}
