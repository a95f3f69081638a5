//! Connects to coordinators. This is the only module that receives reports and sends messages.
//!
//! This module uses the operator's own types. `progress.rs` decides what a report means, and when
//! to connect again.

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint;
use zephyr_proto::run as proto;

use super::StreamTarget;
use super::wire;
use crate::pods::PodEnd;
use crate::run_report::RunReport;

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the coordinator may take to accept the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// After how long a silence the operator sends a ping. If the coordinator does not answer within
/// [`KEEPALIVE_TIMEOUT`], the stream ends.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How many bytes a report has at most. The largest correct report has some sentences and the uids
/// of 10,000 busy pods and of 10,000 connected or reconnecting pods. Each uid takes 38 bytes, so
/// these are 760 KB. A larger report ends the stream before any of it is kept.
const MAX_REPORT_BYTES: usize = 1024 * 1024;
/// How many bytes a coordinator may send before the operator reads them. This bounds the operator's
/// memory for one stream, in addition to one report.
const WINDOW_BYTES: u32 = 64 * 1024;
/// How many bytes the names and values of all headers of an answer have at most. Our headers have
/// about 200 bytes, and the sentence of an error is also sent in a header.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// The messages of the operator to a coordinator, after the first one.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A worker pod ended.
    PodEnded(PodEnd),
    /// The result that this epoch reported is in status.
    ResultStored {
        /// The epoch that reported the result.
        epoch: u64,
    },
    /// The workers with an ordinal of at least `workers` are released, which is not a disruption.
    WorkersKept {
        /// The number of workers that stay.
        workers: u32,
    },
    /// The run is to start no further task, or to start tasks again.
    Drain {
        /// Whether no further task starts.
        drains: bool,
    },
    /// No further generation follows: the job is to end with this result.
    EndRun {
        /// The reason of the result.
        reason: String,
        /// The sentence of the result.
        message: String,
        /// Whether the coordinator removes the files of the output that are complete.
        removes_output: bool,
    },
}

/// The reports of one stream, in order. The sequence ends when the coordinator closes it.
pub type Reports = BoxStream<'static, Result<RunReport, Error>>;

/// Opens streams to coordinators. Reports must belong to the target's job and generation.
pub trait Dial: Send + Sync {
    /// Opens one stream to `target`. `messages` are delivered in order as long as the reports are
    /// read.
    fn dial(
        &self,
        target: StreamTarget,
        messages: mpsc::Receiver<Message>,
    ) -> BoxFuture<'static, Result<Reports, Error>>;
}

/// Why a stream could not be opened, or broke.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not a URL.
    #[error("address {address}: {source}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        source: tonic::transport::Error,
    },
    /// The token contains a character that a header cannot contain.
    #[error("the token is not a header value")]
    Token,
    /// No connection was made.
    #[error("dial: {0}")]
    Dial(#[source] tonic::transport::Error),
    /// The coordinator refused the stream.
    #[error("open: {0}")]
    Open(#[source] Box<tonic::Status>),
    /// The coordinator did not answer in time.
    #[error("open: no answer within {} s", OPEN_TIMEOUT.as_secs())]
    OpenTimeout,
    /// The stream broke.
    #[error("read: {0}")]
    Read(#[source] Box<tonic::Status>),
    /// A report cannot be used.
    #[error("report: {0}")]
    Report(#[source] wire::Error),
}

/// Connects over gRPC to the coordinator's Service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grpc;

impl Dial for Grpc {
    fn dial(
        &self,
        target: StreamTarget,
        messages: mpsc::Receiver<Message>,
    ) -> BoxFuture<'static, Result<Reports, Error>> {
        dial(target, messages).boxed()
    }
}

async fn dial(target: StreamTarget, messages: mpsc::Receiver<Message>) -> Result<Reports, Error> {
    let channel = Endpoint::from_shared(target.address.clone())
        .map_err(|source| Error::Address {
            address: target.address.clone(),
            source,
        })?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .connect()
        .await
        .map_err(Error::Dial)?;
    let claimed = wire::hello(&target.job.uid, target.generation);
    let spoken = futures::stream::iter([claimed])
        .chain(ReceiverStream::new(messages).map(|message| wire::message_of(&message)));
    let mut request = tonic::Request::new(spoken);
    let bearer: MetadataValue<Ascii> = target.token.bearer().parse().map_err(|_| Error::Token)?;
    request.metadata_mut().insert("authorization", bearer);
    let mut client =
        proto::run_client::RunClient::new(channel).max_decoding_message_size(MAX_REPORT_BYTES);
    let reports = timeout(OPEN_TIMEOUT, client.operate(request))
        .await
        .map_err(|_| Error::OpenTimeout)?
        .map_err(|status| Error::Open(Box::new(status)))?
        .into_inner();
    let (uid, generation) = (target.job.uid, target.generation);
    Ok(reports
        .map(move |message| {
            let message = message.map_err(|status| Error::Read(Box::new(status)))?;
            wire::read_report(message, &uid, generation).map_err(Error::Report)
        })
        .boxed())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::{Request, Response, Status, Streaming};

    use super::*;
    use crate::identity::JobIdentity;
    use crate::progress::token::SigningKey;

    /// A coordinator that sends the same report again and again, as fast as it is read.
    struct Scripted {
        report: proto::CoordinatorReport,
        sent: Arc<AtomicUsize>,
    }

    #[tonic::async_trait]
    impl proto::run_server::Run for Scripted {
        type OperateStream = BoxStream<'static, Result<proto::CoordinatorReport, Status>>;

        async fn operate(
            &self,
            _: Request<Streaming<proto::OperatorMessage>>,
        ) -> Result<Response<Self::OperateStream>, Status> {
            let (report, sent) = (self.report.clone(), Arc::clone(&self.sent));
            let reports = futures::stream::repeat_with(move || {
                sent.fetch_add(1, Ordering::Relaxed);
                Ok(report.clone())
            });
            Ok(Response::new(reports.boxed()))
        }
    }

    /// Opens a stream to a coordinator whose reports contain a sentence of `sentence` bytes.
    /// Returns the reports, a counter of the sent reports, and the sender of messages.
    async fn dialled(sentence: usize) -> (Reports, Arc<AtomicUsize>, mpsc::Sender<Message>) {
        let sent = Arc::default();
        let mut snapshot = proto::Snapshot {
            message: "x".repeat(sentence),
            ..proto::Snapshot::default()
        };
        snapshot.set_phase(proto::Phase::Running);
        let scripted = Scripted {
            report: proto::CoordinatorReport {
                job_uid: "uid".to_owned(),
                generation: 1,
                epoch: 1,
                snapshot: Some(snapshot),
            },
            sent: Arc::clone(&sent),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let service = proto::run_server::RunServer::new(scripted);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let (outbox, messages) = mpsc::channel(1);
        let target = StreamTarget {
            job: JobIdentity {
                namespace: "team".to_owned(),
                name: "count".to_owned(),
                uid: "uid".to_owned(),
            },
            generation: 1,
            address,
            token: SigningKey::new(&[7; 32]).unwrap().token("uid", 1),
        };
        (Grpc.dial(target, messages).await.unwrap(), sent, outbox)
    }

    #[tokio::test]
    async fn a_report_of_four_mebibytes_ends_the_stream_with_the_limit() {
        let (mut reports, sent, _outbox) = dialled(4 * 1024 * 1024).await;
        let error = reports.next().await.unwrap().unwrap_err();
        assert!(
            error.to_string().contains("the limit is: 1048576 bytes"),
            "{error}"
        );
        // Reports that are not read are not sent either, because the window is smaller than one
        // report.
        assert!(sent.load(Ordering::Relaxed) <= 4);
    }

    #[tokio::test]
    async fn reports_of_the_largest_correct_size_arrive_and_are_cut() {
        let (mut reports, _, _outbox) = dialled(900 * 1024).await;
        for _ in 0..3 {
            let report = reports.next().await.unwrap().unwrap();
            assert_eq!(report.message.len(), wire::MAX_SENTENCE);
        }
    }
}
