//! Implements the service that the operator calls: sends snapshots, and receives the operator's
//! messages. This module decides nothing about the run.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status as CallStatus, Streaming};
use zephyr_engine::coordinator::{Event, FailureReason, PodEndCause};
use zephyr_proto::run::run_server::Run;
use zephyr_proto::run::{
    self as wire, CoordinatorReport, Drain, EndRun, OperatorMessage, PodEnded, WorkersKept,
    operator_message,
};

use super::sessions::{Input, LoopHandle, refusal};
use super::status::Status;
use crate::convert::identity::{RunIdentity, WireError};

/// How long the operator may take to send `Hello` on a new stream.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How much time passes at least between two snapshots on one stream.
const REPORT_SPACING: Duration = Duration::from_secs(1);
/// How many snapshots the queue holds. Each snapshot contains the whole state, so an older one is
/// not needed.
const REPORTS_QUEUED: usize = 1;

/// The service.
pub(super) struct OperatorStreams {
    /// The run.
    pub identity: RunIdentity,
    /// The status to send.
    pub status: watch::Receiver<Status>,
    /// The channels to the loop. `None` while the job is being planned.
    pub handle: watch::Receiver<Option<LoopHandle>>,
}

#[tonic::async_trait]
impl Run for OperatorStreams {
    type OperateStream = ReceiverStream<Result<CoordinatorReport, CallStatus>>;

    async fn operate(
        &self,
        request: Request<Streaming<OperatorMessage>>,
    ) -> Result<Response<Self::OperateStream>, CallStatus> {
        let mut inbound = request.into_inner();
        let first = timeout(HELLO_TIMEOUT, inbound.message()).await;
        let first = first
            .map_err(|_| CallStatus::deadline_exceeded("OperatorHello: not received in time"))??;
        let Some(OperatorMessage {
            message: Some(operator_message::Message::Hello(hello)),
        }) = first
        else {
            return Err(CallStatus::invalid_argument(
                "OperatorHello: another message came first; a stream begins with it",
            ));
        };
        self.identity
            .check("OperatorHello", &hello.job_uid, hello.generation)
            .map_err(|error| refusal(&error))?;
        tracing::info!("the operator is here");
        let (reports, outbound) = mpsc::channel(REPORTS_QUEUED);
        tokio::spawn(report(self.identity.clone(), self.status.clone(), reports));
        tokio::spawn(listen(inbound, self.handle.clone()));
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

/// Sends the first snapshot at once, then one after each change, until the operator disconnects or
/// the coordinator ends.
async fn report(
    identity: RunIdentity,
    mut status: watch::Receiver<Status>,
    reports: mpsc::Sender<Result<CoordinatorReport, CallStatus>>,
) {
    loop {
        let Status {
            epoch,
            snapshot,
            result: _,
        } = status.borrow_and_update().clone();
        let report = CoordinatorReport {
            job_uid: identity.job.to_string(),
            generation: identity.generation.0,
            epoch: epoch.0,
            snapshot: Some(snapshot),
        };
        if reports.send(Ok(report)).await.is_err() {
            return;
        }
        sleep(REPORT_SPACING).await;
        tokio::select! {
            changed = status.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = reports.closed() => return,
        }
    }
}

/// Receives the operator's messages. During the take-over there is no loop yet. The operator sends
/// each message only once, so messages wait for the loop, here and in the stream.
async fn listen(
    mut inbound: Streaming<OperatorMessage>,
    mut handle: watch::Receiver<Option<LoopHandle>>,
) {
    loop {
        let message = match inbound.message().await {
            Ok(Some(OperatorMessage {
                message: Some(message),
            })) => message,
            Ok(Some(OperatorMessage { message: None })) => {
                tracing::warn!("a message of the operator is empty");
                continue;
            }
            Ok(None) => return,
            Err(error) => {
                tracing::info!(code = ?error.code(), "the operator's stream broke");
                return;
            }
        };
        let removes_output =
            matches!(&message, operator_message::Message::EndRun(end) if end.remove_output);
        let event = match event_of(message) {
            Ok(Some(event)) => event,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(%error, "a message of the operator cannot be accepted");
                continue;
            }
        };
        let Some(handle) = loop_of(&mut handle).await else {
            return;
        };
        if removes_output && handle.inputs.send(Input::RemoveOutput).await.is_err() {
            return;
        }
        if let Event::Drain { drains } = event {
            // The loop gets this event after the storage shows it.
            (handle.drains).send_if_modified(|before| {
                *before != drains && {
                    *before = drains;
                    true
                }
            });
            continue;
        }
        if handle.inputs.send(Input::Happened(event)).await.is_err() {
            return;
        }
    }
}

/// The event of a message, if the loop needs to know the message.
fn event_of(message: operator_message::Message) -> Result<Option<Event>, WireError> {
    let event = match message {
        operator_message::Message::Hello(_) => {
            tracing::warn!("the operator sent Hello again");
            return Ok(None);
        }
        operator_message::Message::ResultStored(stored) => {
            tracing::info!(epoch = stored.epoch, "the operator has stored the result");
            return Ok(None);
        }
        operator_message::Message::EndRun(EndRun {
            reason,
            message,
            remove_output: _,
        }) => {
            tracing::warn!(reason, message, "the operator ends the job");
            Event::EndedByOperator {
                reason: FailureReason::from(reason),
                message,
            }
        }
        operator_message::Message::WorkersKept(WorkersKept { workers }) => {
            tracing::info!(workers, "the operator keeps this number of workers");
            Event::WorkersKept { workers }
        }
        operator_message::Message::Drain(Drain { drains }) => {
            tracing::info!(drains, "whether the operator drains the run");
            Event::Drain { drains }
        }
        operator_message::Message::PodEnded(ended) => {
            let (pod, cause, reason) = (&ended.pod_name, ended.cause(), &ended.reason);
            tracing::info!(pod, ?cause, reason, "a worker's pod or container has ended");
            pod_ended(ended)?
        }
    };
    Ok(Some(event))
}

/// Waits until the loop exists, and returns the channels to it. Returns `None` once it is certain
/// that there will be no loop.
async fn loop_of(handle: &mut watch::Receiver<Option<LoopHandle>>) -> Option<LoopHandle> {
    let there = handle.wait_for(Option::is_some).await.ok()?;
    there.clone()
}

fn pod_ended(ended: PodEnded) -> Result<Event, WireError> {
    let message = "PodEnded";
    if ended.pod_uid.is_empty() {
        return Err(WireError::Missing {
            message,
            part: "pod uid",
        });
    }
    let cause = match ended.cause() {
        wire::PodEndCause::Disruption => PodEndCause::Disruption,
        wire::PodEndCause::OutOfMemory => PodEndCause::OutOfMemory,
        wire::PodEndCause::Exit => PodEndCause::Exit,
        wire::PodEndCause::Unspecified => {
            return Err(WireError::Missing {
                message,
                part: "cause",
            });
        }
    };
    let reason = match (cause, ended.memory_limit_bytes) {
        (PodEndCause::OutOfMemory, 1..) => {
            format!(
                "{} (memory limit {} MiB)",
                ended.reason,
                ended.memory_limit_bytes / (1024 * 1024)
            )
        }
        (PodEndCause::Exit, _) => format!("{} (exit code {})", ended.reason, ended.exit_code),
        (PodEndCause::OutOfMemory | PodEndCause::Disruption, _) => ended.reason,
    };
    Ok(Event::PodEnded {
        pod_uid: ended.pod_uid,
        cause,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_pod_is_reported_with_its_memory_limit_or_exit_code() {
        let ended = PodEnded {
            pod_uid: "p".into(),
            reason: "OOMKilled".into(),
            memory_limit_bytes: 512 << 20,
            exit_code: 137,
            ..PodEnded::default()
        };
        let reason_of = |cause: wire::PodEndCause| match pod_ended(PodEnded {
            cause: cause.into(),
            ..ended.clone()
        }) {
            Ok(Event::PodEnded { reason, .. }) => reason,
            other => format!("{other:?}"),
        };
        assert_eq!(
            reason_of(wire::PodEndCause::OutOfMemory),
            "OOMKilled (memory limit 512 MiB)"
        );
        assert_eq!(
            reason_of(wire::PodEndCause::Exit),
            "OOMKilled (exit code 137)"
        );
        assert_eq!(reason_of(wire::PodEndCause::Disruption), "OOMKilled");
        assert!(reason_of(wire::PodEndCause::Unspecified).contains("cause"));
        assert!(
            pod_ended(PodEnded::default())
                .unwrap_err()
                .to_string()
                .starts_with("PodEnded: pod uid is missing")
        );
    }

    #[tokio::test]
    async fn messages_during_a_take_over_wait_for_the_loop() {
        let (set, mut handle) = watch::channel(None);
        let mut waiting = Box::pin(loop_of(&mut handle));
        assert!(futures::poll!(&mut waiting).is_pending());
        let (inputs, _inputs) = mpsc::channel(1);
        let (heartbeats, _heartbeats) = mpsc::channel(1);
        set.send_replace(Some(LoopHandle {
            epoch: zephyr_engine::id::Epoch(2),
            inputs,
            heartbeats,
            drains: watch::Sender::new(false),
        }));
        assert!(waiting.await.is_some());
        set.send_replace(None);
        drop(set);
        assert!(loop_of(&mut handle).await.is_none(), "the coordinator ends");
    }
}
