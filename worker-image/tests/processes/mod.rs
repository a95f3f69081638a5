//! Real coordinator and worker processes over loopback, with `file://` storage. Judges nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "only tests are in here")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};
use zephyr_crds::frozen::FrozenJob;
use zephyr_crds::job::Retain;
use zephyr_engine::coordinator::record::LogRecord;
use zephyr_proto::run::run_client::RunClient;
use zephyr_proto::run::{
    CoordinatorReport, OperatorHello, OperatorMessage, Snapshot, operator_message,
};
use zephyr_store::attempts::{AttemptLine, ReadAttempts, read_attempts};
use zephyr_store::ledger::{Ledger, WriterToken};
use zephyr_worker::job::RunJob;

/// Nothing in these tests takes this long; a longer wait means that something hangs.
const TEST_TIMEOUT: Duration = Duration::from_mins(5);
const UID: &str = "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7";
const TOKEN: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// One job's processes. They end when this is dropped.
pub(super) struct Processes {
    folder: TempDir,
    pub(super) port: u16,
    /// How much memory a worker and its task processes may use together; 0 for no limit.
    pub(super) memory_limit_bytes: u64,
    /// How much of the disk a worker may use; 0 for no limit.
    pub(super) disk_limit_bytes: u64,
    /// How long a wait may take.
    pub(super) timeout: Duration,
    job: FrozenJob,
    /// The settings that replace the job's Secret.
    environment: Vec<(String, String)>,
    coordinator: Option<Child>,
    workers: Vec<Child>,
}

impl Processes {
    /// A job with this pipeline, in which `$IN` and `$OUT` are placeholders for the addresses of
    /// folders, and `$FOLDER` for the path of the folder around them; nothing is started.
    pub(super) fn of(pipeline: &Value, retries: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["in", "out", "storage", "tmp"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let at = |name: &str| format!("file://{}", folder.path().join(name).display());
        let pipeline = pipeline
            .to_string()
            .replace("$IN", &at("in"))
            .replace("$OUT", &at("out"))
            .replace("$FOLDER", &folder.path().display().to_string());
        let pipeline: Value = serde_json::from_str(&pipeline).unwrap();
        let job = json!({
            "version": 1, "namespace": "test", "name": "test", "uid": UID, "generation": 1,
            "coordinatorAddress": format!("http://127.0.0.1:{port}"),
            "spec": {"pipeline": pipeline, "storage": {"uri": at("storage"), "retain": "Always"}, "workers": {"replicas": 2}, "retries": retries},
        });
        let job = FrozenJob::from_json(&job.to_string()).unwrap();
        let processes = Self {
            folder,
            port,
            memory_limit_bytes: 0,
            disk_limit_bytes: 0,
            timeout: TEST_TIMEOUT,
            job,
            environment: Vec::new(),
            coordinator: None,
            workers: Vec::new(),
        };
        fs::write(processes.path("token"), TOKEN).unwrap();
        fs::write(processes.path("wrong-token"), "b".repeat(64)).unwrap();
        fs::write(processes.path("job.json"), processes.job.to_json().unwrap()).unwrap();
        let old = FrozenJob {
            generation: 7,
            ..processes.job.clone()
        };
        fs::write(
            processes.path("other-generation.json"),
            old.to_json().unwrap(),
        )
        .unwrap();
        processes
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write_input(&self, name: &str, text: &str) {
        fs::write(self.path("in").join(name), text).unwrap();
    }

    fn command(&self, role: &str, token: &str, job: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zephyr-worker"));
        command
            .args([role, "--admin-listen", "127.0.0.1:0"])
            .arg("--job")
            .arg(self.path(job))
            .arg("--token-file")
            .arg(self.path(token))
            .env(
                "ZEPHYR_MEMORY_LIMIT_BYTES",
                self.memory_limit_bytes.to_string(),
            )
            .env("ZEPHYR_DISK_LIMIT_BYTES", self.disk_limit_bytes.to_string())
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .envs(self.environment.iter().cloned())
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null())
            .stderr(
                fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(self.path(&format!("{role}.log")))
                    .unwrap(),
            );
        command
    }

    pub(super) fn start_coordinator(&mut self) {
        let mut command = self.command("coordinator", "token", "job.json");
        command.args(["--grpc-listen", &format!("127.0.0.1:{}", self.port)]);
        self.coordinator = Some(command.spawn().unwrap());
    }

    /// A second coordinator of the same generation, as when a node only seems to be lost. Returns
    /// its process.
    pub(super) fn start_another_coordinator(&self) -> Child {
        self.command("coordinator", "token", "job.json")
            .args(["--grpc-listen", "127.0.0.1:0"])
            .spawn()
            .unwrap()
    }

    /// Waits until the coordinator ends by itself; returns whether it reported a failure.
    pub(super) async fn coordinator_fails(&mut self) -> bool {
        let mut coordinator = self.coordinator.take().unwrap();
        let status = self
            .eventually("the coordinator's end", || coordinator.try_wait().unwrap())
            .await;
        !status.success()
    }

    /// Sets `spec.storage.retain`.
    pub(super) fn retain(&mut self, retain: Retain) {
        self.job.spec.storage.retain = retain;
        fs::write(self.path("job.json"), self.job.to_json().unwrap()).unwrap();
    }

    /// Moves input, output and storage into a folder of an object store with these settings.
    pub(super) fn move_to(&mut self, folder: &str, settings: &[(&str, String)]) {
        let local = format!("file://{}", self.folder.path().display());
        let job = self.job.to_json().unwrap().replace(&local, folder);
        fs::write(self.path("job.json"), &job).unwrap();
        self.job = FrozenJob::from_json(&job).unwrap();
        let capitals = |(key, value): &(&str, String)| (key.to_ascii_uppercase(), value.clone());
        self.environment = settings.iter().map(capitals).collect();
    }

    /// Moves the job's storage to an address at which nothing answers.
    pub(super) fn lose_storage(&mut self) {
        "s3://bucket/prefix".clone_into(&mut self.job.spec.storage.uri);
        let options = [
            ("aws_endpoint", "http://127.0.0.1:1"),
            ("aws_allow_http", "true"),
            ("aws_region", "r"),
        ];
        self.job.storage_options = options
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        fs::write(self.path("job.json"), self.job.to_json().unwrap()).unwrap();
    }

    pub(super) fn kill_coordinator(&mut self) {
        end(&mut self.coordinator.take().unwrap());
    }

    pub(super) fn start_worker(&mut self, slots: u32) -> u32 {
        self.start_worker_with(slots, "token", "job.json")
    }

    pub(super) fn start_worker_with(&mut self, slots: u32, token: &str, job: &str) -> u32 {
        let mut command = self.command("worker", token, job);
        command
            .args(["--slots", &slots.to_string()])
            .env("POD_UID", format!("pod-{}", self.workers.len()));
        self.workers.push(command.spawn().unwrap());
        self.workers.last().unwrap().id()
    }

    /// Kills the worker at once, like a power failure of its node.
    pub(super) fn kill_worker(&mut self, process: u32) {
        let worker = self
            .workers
            .iter_mut()
            .find(|worker| worker.id() == process)
            .unwrap();
        end(worker);
    }

    /// Like the kubelet on a preemption notice; returns how long the worker took to end.
    pub(super) fn terminate_worker(&mut self, process: u32) -> Duration {
        let began = Instant::now();
        signal("TERM", process);
        let worker = self
            .workers
            .iter_mut()
            .find(|worker| worker.id() == process)
            .unwrap();
        let status = worker.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.logs());
        began.elapsed()
    }

    pub(super) fn logs(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.path(name)).unwrap_or_default();
        format!(
            "--- coordinator\n{}\n--- worker\n{}",
            read("coordinator.log"),
            read("worker.log")
        )
    }

    async fn reports(&self) -> Option<Streaming<CoordinatorReport>> {
        let mut client: RunClient<Channel> = RunClient::new(self.channel().await?);
        let hello = OperatorHello {
            job_uid: UID.to_owned(),
            generation: 1,
        };
        let message = OperatorMessage {
            message: Some(operator_message::Message::Hello(hello)),
        };
        let mut request = Request::new(tokio_stream::StreamExt::chain(
            tokio_stream::once(message),
            tokio_stream::pending::<OperatorMessage>(),
        ));
        request
            .metadata_mut()
            .insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
        client
            .operate(request)
            .await
            .ok()
            .map(tonic::Response::into_inner)
    }

    /// The job, for running it by other means.
    pub(super) fn job(&self) -> FrozenJob {
        self.job.clone()
    }

    pub(super) async fn channel(&self) -> Option<Channel> {
        Endpoint::from_shared(format!("http://127.0.0.1:{}", self.port))
            .unwrap()
            .connect()
            .await
            .ok()
    }

    /// Waits for a report that satisfies the condition, over as many connections as needed.
    pub(super) async fn wait_for(
        &self,
        what: &str,
        wanted: impl Fn(&Snapshot) -> bool,
    ) -> Snapshot {
        let wait = async {
            loop {
                if let Some(mut reports) = self.reports().await {
                    while let Ok(Some(report)) = reports.message().await {
                        let snapshot = report.snapshot.unwrap();
                        if wanted(&snapshot) {
                            return snapshot;
                        }
                    }
                }
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if let Ok(snapshot) = tokio::time::timeout(self.timeout, wait).await {
            return snapshot;
        }
        panic!("waited in vain for {what}\n{}", self.logs())
    }

    pub(super) async fn result(&self) -> zephyr_proto::run::Result {
        self.wait_for("the result", |snapshot| snapshot.result.is_some())
            .await
            .result
            .unwrap()
    }

    /// Waits for something that is visible from outside.
    pub(super) async fn eventually<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(
                began.elapsed() < self.timeout,
                "waited in vain for {what}\n{}",
                self.logs()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All output lines, sorted.
    pub(super) fn output(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(self.path("out")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if !name.starts_with('_') {
                lines.extend(fs::read_to_string(path).unwrap().lines().map(str::to_owned));
            }
        }
        lines.sort();
        lines
    }

    /// What the coordinators wrote down about ended attempts, in order.
    pub(super) async fn attempts(&self) -> Vec<AttemptLine> {
        let job = RunJob::new(self.job.clone()).unwrap();
        let mut lines = Vec::new();
        let read = read_attempts(&job.storage, |line| lines.push(line)).await;
        assert_eq!(read.unwrap(), ReadAttempts::default());
        lines
    }

    /// Every record of the ledger, in order, read as by a coordinator that takes over.
    pub(super) async fn ledger(&self) -> Vec<LogRecord> {
        let job = RunJob::new(self.job.clone()).unwrap();
        Ledger::take_over(&job.storage, WriterToken::from_random(rand::random()))
            .await
            .unwrap()
            .records
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for process in self.workers.iter_mut().chain(&mut self.coordinator) {
            end(process);
        }
    }
}

pub(super) fn end(process: &mut Child) {
    let _gone_before = process.kill();
    process.wait().unwrap();
}

pub(super) fn signal(name: &str, process: u32) {
    let status = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Process ids of the children that run tasks for this supervisor.
pub(super) fn children_of(supervisor: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(process) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if parent_of(&entry.path()) == Some(supervisor) && is_task_child(&entry.path()) {
            children.push(process);
        }
    }
    children
}

/// Whether a process, of whatever program, has not ended.
pub(super) fn is_alive(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| {
        let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
        state.is_some_and(|state| !state.starts_with(['Z', 'X']))
    })
}

fn parent_of(folder: &Path) -> Option<u32> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn is_task_child(folder: &Path) -> bool {
    fs::read(folder.join("cmdline")).is_ok_and(|line| {
        line.split(|byte| *byte == 0)
            .any(|each| each == b"__task-child")
    })
}
