//! One session of a worker, message by message in both directions. Sends nothing by itself, not
//! even heartbeats.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};
use zephyr_engine::coordinator::record::{FilePlace, OutputFile, TaskOutput};
use zephyr_engine::id::{Epoch, TaskAttempt};
use zephyr_proto::worker::{
    self as wire, CoordinatorMessage, Hello, TaskDone, WorkerMessage, coordinator_message,
    worker_message,
};
use zephyr_worker::convert::identity::{RunIdentity, task_attempt};
use zephyr_worker::convert::wire::to_task_done;
use zephyr_worker::transport::client::{Connection, connect};
use zephyr_worker::transport::token::Token;

/// The largest number of outgoing messages in the queue, as in a worker.
const OUTBOUND_QUEUED: usize = 64;

/// The settings for reaching a coordinator.
#[derive(Clone)]
pub(crate) struct Link {
    /// Its address.
    pub(crate) address: String,
    /// The token that opens sessions.
    pub(crate) token: Token,
    /// The run.
    pub(crate) identity: RunIdentity,
}

/// A session was not opened: the coordinator does not answer, or refuses it.
#[derive(Debug)]
pub(crate) struct Refusal;

/// An open session.
pub(crate) struct Dialogue {
    identity: RunIdentity,
    /// Messages to the coordinator.
    pub(crate) outbound: mpsc::Sender<WorkerMessage>,
    /// Messages from the coordinator.
    pub(crate) inbound: Streaming<CoordinatorMessage>,
}

impl Dialogue {
    /// Connects and sends `Hello`, as a worker that has seen this epoch.
    pub(crate) async fn open(link: &Link, seen: Epoch, hello: Hello) -> Result<Self, Refusal> {
        let Connection {
            mut client,
            authorization,
        } = connect(&link.address, &link.token)
            .await
            .map_err(|_| Refusal)?;
        let (outbound, stream) = mpsc::channel(OUTBOUND_QUEUED);
        let hello = worker_message::Message::Hello(hello);
        outbound
            .send(wrap(&link.identity, seen, hello))
            .await
            .unwrap();
        let mut request = Request::new(ReceiverStream::new(stream));
        request
            .metadata_mut()
            .insert("authorization", authorization);
        let opened = client.session(request).await;
        let inbound = opened.map_err(|_| Refusal)?;
        Ok(Self {
            identity: link.identity.clone(),
            outbound,
            inbound: inbound.into_inner(),
        })
    }

    /// Sends a message as a worker of this epoch does.
    pub(crate) async fn say(&self, epoch: Epoch, message: worker_message::Message) {
        let message = wrap(&self.identity, epoch, message);
        self.outbound.send(message).await.unwrap();
    }

    /// Reports these attempts as done.
    pub(crate) async fn say_done(&self, epoch: Epoch, tasks: &[TaskAttempt]) {
        let tasks = tasks.iter().copied().map(done).collect();
        let message = worker_message::Message::Done(wire::Done { tasks });
        self.say(epoch, message).await;
    }

    /// The next message; `None` when the coordinator has ended the session.
    pub(crate) async fn receive(&mut self) -> Option<(Epoch, coordinator_message::Message)> {
        let message = self.inbound.message().await.ok()??;
        Some((Epoch(message.epoch), message.message?))
    }
}

/// A message of a worker of this epoch.
pub(crate) fn wrap(
    identity: &RunIdentity,
    epoch: Epoch,
    message: worker_message::Message,
) -> WorkerMessage {
    WorkerMessage {
        job_uid: identity.job.to_string(),
        generation: identity.generation.0,
        epoch: epoch.0,
        message: Some(message),
    }
}

/// A report of an attempt of the first stage as a worker makes it; its file was never written.
pub(crate) fn done(task: TaskAttempt) -> TaskDone {
    let file = OutputFile {
        rows: 1,
        bytes: 1,
        crc32c: 1,
        place: FilePlace::Shuffle,
    };
    let output = TaskOutput {
        file,
        records_in: 1,
        bytes_in: 1,
        more: None,
    };
    to_task_done(task, output)
}

/// The attempt that a message names.
pub(crate) fn task_attempt_of(task: Option<&wire::TaskAttempt>) -> TaskAttempt {
    task_attempt("message", task).unwrap()
}
