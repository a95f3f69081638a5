//! Tests mistakes of users that appear only at run time. Each job must end or wait, with one clear
//! sentence in status and in an event. The sentence must name the field, the file and the record.
//! No job may hang.

use anyhow::{Context, Result, ensure};
use zephyr_crds::conditions::{ConditionStatus, ConditionType};
use zephyr_crds::job::ZephyrJob;
use zephyr_tests::bucket::{Bucket, DATA, SCRATCH};
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace};
use zephyr_tests::job::{apply, condition, is_true};

/// A small job that is valid except for the parts that a test sets.
struct Mistake {
    source: String,
    step: String,
    storage_bucket: String,
    more: String,
    memory: String,
}

impl Mistake {
    fn new() -> Self {
        Self {
            source: "items: { values: [1, 2, 3] }".to_owned(),
            step: "map: '.'".to_owned(),
            storage_bucket: SCRATCH.to_owned(),
            more: String::new(),
            memory: "256Mi".to_owned(),
        }
    }

    fn manifest(&self, namespace: &TestNamespace) -> String {
        format!(
            r#"apiVersion: zephyr.dev/v1alpha1
kind: ZephyrJob
metadata: {{ name: mistake }}
spec:
  pipeline:
    source:
      {source}
    steps:
      - {step}
    sink:
      files: {{ path: "s3://{DATA}/out/{namespace}/part-{{shard}}.jsonl" }}
  storage: {{ uri: "s3://{bucket}/{namespace}", credentialsSecret: s3-credentials }}
  workers:
    replicas: 1
    slots: 1
    preemptible: {{ provider: none }}
    resources: {{ requests: {{ cpu: 50m, memory: 128Mi }}, limits: {{ cpu: "1", memory: {memory} }} }}
{more}"#,
            source = self.source,
            step = self.step,
            bucket = self.storage_bucket,
            namespace = namespace.name,
            more = self.more,
            memory = self.memory,
        )
    }

    /// Applies the job. Returns an error unless the job fails, and the sentences of a condition and
    /// of an event contain all of `words`.
    async fn fails_with(&self, test: &str, words: &[&str]) -> Result<()> {
        let namespace = TestNamespace::create(test).await?;
        self.fails_in(namespace, words).await
    }

    async fn fails_in(&self, namespace: TestNamespace, words: &[&str]) -> Result<()> {
        self.failed_in(namespace, words).await.map(drop)
    }

    /// Like [`Mistake::fails_with`], in the namespace `namespace`. Returns the ended job.
    async fn failed_in(&self, namespace: TestNamespace, words: &[&str]) -> Result<ZephyrJob> {
        let job = apply(&namespace, &self.manifest(&namespace)).await?;
        let done = job.finished(TEST_TIMEOUT).await?;
        ensure!(is_true(&done, ConditionType::Failed), "it fails");
        let message = condition(&done, ConditionType::Failed)
            .context("a condition")?
            .message
            .clone();
        check_sentence(&message, words)?;
        namespace
            .eventually("an event with the sentence", TEST_TIMEOUT, || async {
                let events = job.events().await?;
                Ok(events
                    .iter()
                    .any(|event| words.iter().all(|word| event.contains(word)))
                    .then_some(()))
            })
            .await?;
        namespace.finish().await?;
        Ok(done)
    }

    /// Applies the job. Returns an error unless the job waits without ending, and the sentence of
    /// `Progressing=False` contains all of `words`.
    async fn waits_with(&self, test: &str, words: &[&str]) -> Result<()> {
        let namespace = TestNamespace::create(test).await?;
        let job = apply(&namespace, &self.manifest(&namespace)).await?;
        let says = |job: &ZephyrJob| {
            condition(job, ConditionType::Progressing).is_some_and(|c| {
                c.status == ConditionStatus::False
                    && words.iter().all(|word| c.message.contains(word))
            })
        };
        let waiting = job
            .wait_until(&format!("waits and says {words:?}"), TEST_TIMEOUT, says)
            .await?;
        ensure!(!is_true(&waiting, ConditionType::Finished), "it waits");
        check_sentence(
            &condition(&waiting, ConditionType::Progressing)
                .context("a condition")?
                .message,
            words,
        )?;
        namespace.finish().await
    }
}

fn check_sentence(message: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(message.contains(word), "{word:?} is not in {message:?}");
    }
    ensure!(
        !message.contains('\n') && message.len() <= 1024,
        "it is one sentence: {message:?}"
    );
    for noise in ["Error {", "Some(", "panicked", "stack backtrace"] {
        ensure!(!message.contains(noise), "it is for people: {message:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_named() -> Result<()> {
    let mut mistake = Mistake::new();
    mistake.more = "  image: registry.invalid/no/such-image:1\n".to_owned();
    mistake
        .waits_with("image", &["registry.invalid/no/such-image:1"])
        .await
}

#[tokio::test]
async fn a_secret_that_does_not_exist_is_named() -> Result<()> {
    let namespace = TestNamespace::create("secret").await?;
    let manifest = Mistake::new()
        .manifest(&namespace)
        .replace("s3-credentials", "no-such-secret");
    let job = apply(&namespace, &manifest).await?;
    let says = |job: &ZephyrJob| {
        condition(job, ConditionType::Progressing)
            .is_some_and(|c| c.message.contains("no-such-secret"))
    };
    job.wait_until("the Secret is named", TEST_TIMEOUT, says)
        .await?;
    namespace.finish().await
}

#[tokio::test]
async fn an_expression_that_does_not_compile_ends_the_job_before_any_worker_starts() -> Result<()> {
    let mut mistake = Mistake::new();
    mistake.step = "map: '.a | nosuchfunction'".to_owned();
    let namespace = TestNamespace::create("expression").await?;
    let words = [
        "spec.pipeline.steps[0].map: line 1, column 6: the filter nosuchfunction/0 is not defined",
    ];
    let done = mistake.failed_in(namespace, &words).await?;
    let status = done.status.context("a status")?;
    ensure!(
        status.generation == Some(1) && status.generations.len() == 1,
        "it took one generation: {status:?}"
    );
    ensure!(
        status.working_since.is_none(),
        "a worker was alive: {status:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_input_that_matches_nothing_is_named() -> Result<()> {
    let mut mistake = Mistake::new();
    mistake.source = format!("files: {{ paths: [\"s3://{DATA}/no/such/folder/*.jsonl\"] }}");
    mistake
        .fails_with(
            "no-input",
            &["spec.pipeline.source.files.paths", "no/such/folder/*.jsonl"],
        )
        .await
}

#[tokio::test]
async fn a_source_bucket_that_does_not_exist_is_named() -> Result<()> {
    let mut mistake = Mistake::new();
    mistake.source = "files: { paths: [\"s3://no-such-bucket/*.jsonl\"] }".to_owned();
    mistake
        .fails_with("source-bucket", &["no-such-bucket"])
        .await
}

#[tokio::test]
async fn a_storage_bucket_that_does_not_exist_is_waited_for_and_named() -> Result<()> {
    let mut mistake = Mistake::new();
    mistake.storage_bucket = "no-such-bucket".to_owned();
    mistake
        .waits_with("bucket", &["spec.storage.uri", "no-such-bucket"])
        .await
}

#[tokio::test]
async fn a_record_that_breaks_the_expression_is_named_by_file_and_line() -> Result<()> {
    let namespace = TestNamespace::create("record").await?;
    let key = format!("in/{}/b.jsonl", namespace.name);
    Bucket::open(&namespace.environment, DATA)?
        .put(&key, "{\"a\":{\"b\":1}}\n{\"a\":{\"b\":2}}\n{\"a\":[3]}\n")
        .await?;
    let mut mistake = Mistake::new();
    mistake.source = format!(
        "files: {{ paths: [\"s3://{DATA}/in/{}/*.jsonl\"] }}",
        namespace.name
    );
    mistake.step = "map: '.a.b + 1'".to_owned();
    mistake
        .fails_in(namespace, &["spec.pipeline.steps[0].map", &key, "line 3"])
        .await
}

#[tokio::test]
async fn a_line_that_is_not_json_is_named_by_file_and_line() -> Result<()> {
    let namespace = TestNamespace::create("line").await?;
    let key = format!("in/{}/c.jsonl", namespace.name);
    Bucket::open(&namespace.environment, DATA)?
        .put(&key, "{\"a\":1}\n{\"a\":\n")
        .await?;
    let mut mistake = Mistake::new();
    mistake.source = format!(
        "files: {{ paths: [\"s3://{DATA}/in/{}/*.jsonl\"] }}",
        namespace.name
    );
    mistake.fails_in(namespace, &[&key, "line 2"]).await
}

#[tokio::test]
async fn an_expression_that_recurses_without_end_is_reported_with_its_record() -> Result<()> {
    let mut mistake = Mistake::new();
    mistake.step = "map: 'def f: 1 + f; if . == 2 then f else . end'".to_owned();
    // The memory is larger than the stack of a task's thread, so that the stack is exhausted before
    // the memory.
    mistake.memory = "1Gi".to_owned();
    mistake
        .fails_with(
            "overflow",
            &["no end", "spec.pipeline.source.items.values[1]"],
        )
        .await
}

#[tokio::test]
async fn an_endless_task_ends_only_its_own_process_and_is_reported_as_endless() -> Result<()> {
    let mut mistake = Mistake::new();
    mistake.step =
        "map: 'if . == 2 then last(foreach repeat(.) as $x (0; . + 1)) else . end'".to_owned();
    mistake.more = "  retries: { taskStallTimeout: 3s }\n".to_owned();
    mistake.fails_with("endless", &["no progress", "3s"]).await
}

#[tokio::test]
async fn fault_3598_a_task_that_eats_all_memory_is_reported_with_the_limit() -> Result<()> {
    let mut mistake = Mistake::new();
    mistake.step = "map: 'if . == 2 then [range(1000000000)] | length else . end'".to_owned();
    mistake
        .fails_with("memory", &["memory", "256 MiB", "spec.workers.resources"])
        .await
}
