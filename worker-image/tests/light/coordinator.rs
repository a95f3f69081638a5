//! One real coordinator process with storage in a separate folder or in a bucket, and the
//! operator's end of its stream. Starts and stops it; knows no worker.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};
use zephyr_crds::frozen::FrozenJob;
use zephyr_engine::coordinator::record::LogRecord;
use zephyr_engine::id::Epoch;
use zephyr_proto::run::run_client::RunClient;
use zephyr_proto::run::{
    CoordinatorReport, OperatorHello, OperatorMessage, PodEndCause, PodEnded, Snapshot,
    operator_message,
};
use zephyr_store::install_crypto_provider;
use zephyr_store::ledger::inspect;
use zephyr_worker::job::RunJob;
use zephyr_worker::open_files::raise_open_files_limit;
use zephyr_worker::transport::token::Token;

use super::bucket::{self, Bucket};
use super::dialogue::Link;

const UID: &str = "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7";
const TOKEN: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// The largest number of reports of ended pods in the queue.
const REPORTS_QUEUED: usize = 64;
/// How much of the log's end a failed test shows.
const LOG_LINES_SHOWN: usize = 40;
/// The largest report names 20,000 pods.
const MAX_REPORT_BYTES: usize = 4 * 1024 * 1024;

/// The process, while it runs. It ends when this is dropped.
pub(crate) struct Coordinator {
    folder: TempDir,
    grpc_port: u16,
    admin_port: u16,
    job: RunJob,
    process: Option<Child>,
}

impl Coordinator {
    /// Makes a coordinator for a job whose first stage has this number of tasks, with storage in
    /// its own folder. Does not start it.
    pub(crate) fn of(tasks: u32) -> Self {
        Self::with_storage(tasks, None)
    }

    /// Like [`Self::of`], with storage in a bucket.
    pub(crate) fn in_bucket(tasks: u32, bucket: &Bucket) -> Self {
        // This process reads the ledger there, too.
        install_crypto_provider();
        Self::with_storage(tasks, Some(bucket))
    }

    fn with_storage(tasks: u32, bucket: Option<&Bucket>) -> Self {
        raise_open_files_limit();
        let folder = tempfile::tempdir().unwrap();
        for name in ["out", "storage"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let [grpc_port, admin_port] = free_ports();
        let at = |name: &str| format!("file://{}", folder.path().join(name).display());
        let (storage, options) = bucket.map_or_else(
            || (at("storage"), json!({})),
            |bucket| (bucket::URI.to_owned(), bucket.options()),
        );
        let job = json!({
            "version": 1, "namespace": "test", "name": "test", "uid": UID, "generation": 1,
            "coordinatorAddress": format!("http://127.0.0.1:{grpc_port}"),
            "spec": {
                "pipeline": {
                    "source": {"items": {"values": [1], "shards": tasks}},
                    "steps": [{"groupBy": {"key": ".", "aggregate": {"count": {"count": {}}}, "shards": 1}}],
                    "sink": {"files": {"path": at("out") + "/part-{shard}.jsonl"}},
                },
                "storage": {"uri": storage},
                "workers": {"replicas": 1},
            },
            "storageOptions": options,
        });
        let job = FrozenJob::from_json(&job.to_string()).unwrap();
        fs::write(folder.path().join("job.json"), job.to_json().unwrap()).unwrap();
        fs::write(folder.path().join("token"), TOKEN).unwrap();
        let job = RunJob::new(job).unwrap();
        Self {
            folder,
            grpc_port,
            admin_port,
            job,
            process: None,
        }
    }

    /// Starts it, or its successor after it was killed.
    pub(crate) fn start(&mut self) {
        let path = |name: &str| self.folder.path().join(name);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        // The process begins with systemd's default limit of open files, as in a container, and has
        // to raise the limit itself.
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -S -n 1024; exec \"$0\" \"$@\""])
            .args([env!("CARGO_BIN_EXE_zephyr-worker"), "coordinator"])
            .args(["--admin-listen", &format!("127.0.0.1:{}", self.admin_port)])
            .args(["--grpc-listen", &format!("127.0.0.1:{}", self.grpc_port)])
            .arg("--job")
            .arg(path("job.json"))
            .arg("--token-file")
            .arg(path("token"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    /// A real worker: a process with a child process for each slot, which run the tasks.
    pub(crate) fn start_worker(&self, name: &str, slots: u32) -> WorkerProcess {
        let path = |name: &str| self.folder.path().join(name);
        let log = fs::File::create(path(&format!("{name}.log"))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_zephyr-worker"));
        command
            .args(["worker", "--admin-listen", "127.0.0.1:0"])
            .args(["--slots", &slots.to_string()])
            .arg("--job")
            .arg(path("job.json"))
            .arg("--token-file")
            .arg(path("token"))
            .env("POD_UID", name)
            .env("TMPDIR", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        WorkerProcess(command.spawn().unwrap())
    }

    /// Kills the process at once, like a power failure of its node.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _gone_before = process.kill();
            process.wait().unwrap();
        }
    }

    /// The process's id, while it has not ended.
    pub(crate) fn process_id(&mut self) -> Option<u32> {
        let process = self.process.as_mut()?;
        let ended = process.try_wait().unwrap();
        ended.is_none().then(|| process.id())
    }

    /// Sends its process a signal, such as `STOP`.
    pub(crate) fn signal(&mut self, name: &str) {
        let process = self.process_id().unwrap().to_string();
        let kill = Command::new("kill").args(["-s", name, &process]).status();
        assert!(kill.unwrap().success());
    }

    /// The address for workers.
    pub(crate) fn link(&self) -> Link {
        Link {
            address: format!("http://127.0.0.1:{}", self.grpc_port),
            token: Token::read(&self.folder.path().join("token")).unwrap(),
            identity: self.job.identity.clone(),
        }
    }

    /// The newest epoch and every record of the ledger, read from outside.
    pub(crate) async fn ledger(&self) -> (Epoch, Vec<LogRecord>) {
        inspect(&self.job.storage).await.unwrap()
    }

    /// Its current report about the run; `None` if it does not answer.
    pub(crate) async fn snapshot(&self) -> Option<Snapshot> {
        let mut operator = self.operator().await?;
        operator.reports.message().await.ok()??.snapshot
    }

    /// Connects as the operator does; `None` if nothing answers.
    pub(crate) async fn operator(&self) -> Option<Operator> {
        Operator::dial(self.link()).await
    }

    /// Its answer at `/metrics`; `None` if there is none.
    pub(crate) async fn metrics(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin_port))
            .await
            .ok()?;
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    /// The port at which workers reach it.
    pub(crate) fn grpc_port(&self) -> u16 {
        self.grpc_port
    }

    /// Lines of its log at this level, such as `WARN`.
    pub(crate) fn log_lines(&self, level: &str) -> usize {
        let log = fs::read_to_string(self.log_path()).unwrap();
        let mark = format!("\"level\":\"{level}\"");
        log.lines().filter(|line| line.contains(&mark)).count()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("coordinator.log")
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log_path()).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- coordinator\n{}", last.join("\n"));
        }
    }
}

/// A worker's process. It ends when this value is dropped.
pub(crate) struct WorkerProcess(Child);

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _gone_before = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Ports on which nothing listens now.
fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners: [TcpListener; COUNT] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// The operator's end of a stream.
pub(crate) struct Operator {
    messages: mpsc::Sender<OperatorMessage>,
    reports: Streaming<CoordinatorReport>,
}

impl Operator {
    async fn dial(link: Link) -> Option<Self> {
        let Link {
            address,
            token,
            identity,
        } = link;
        let channel: Channel = Endpoint::from_shared(address).ok()?.connect().await.ok()?;
        let mut client = RunClient::new(channel).max_decoding_message_size(MAX_REPORT_BYTES);
        let (messages, outbound) = mpsc::channel(REPORTS_QUEUED);
        let hello = OperatorHello {
            job_uid: identity.job.to_string(),
            generation: identity.generation.0,
        };
        let hello = operator_message::Message::Hello(hello);
        messages.send(wrap(hello)).await.ok()?;
        let mut request = Request::new(ReceiverStream::new(outbound));
        request
            .metadata_mut()
            .insert("authorization", token.to_metadata());
        let reports = client.operate(request).await.ok()?.into_inner();
        Some(Self { messages, reports })
    }

    /// Reports that a pod is gone because its node was taken away.
    pub(crate) async fn pod_was_preempted(&self, pod_uid: &str) {
        let ended = PodEnded {
            pod_uid: pod_uid.to_owned(),
            cause: PodEndCause::Disruption.into(),
            reason: "Preempted".to_owned(),
            ..PodEnded::default()
        };
        let message = wrap(operator_message::Message::PodEnded(ended));
        self.messages.send(message).await.unwrap();
    }
}

fn wrap(message: operator_message::Message) -> OperatorMessage {
    OperatorMessage {
        message: Some(message),
    }
}
