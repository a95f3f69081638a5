//! Storage that loses or changes a file under a running job: the output is exact, and the ledger says what was made again.

use std::collections::BTreeSet;

use anyhow::Result;
use zephyr_engine::id::{StageId, TaskAttempt};
use zephyr_tests::bucket::{Bucket, SCRATCH};
use zephyr_tests::cluster::PATIENCE;
use zephyr_tests::struck::{Struck, strike};

#[tokio::test]
async fn fault_8309_a_lost_and_a_changed_shuffle_file_are_made_again_and_no_row_is_missing()
-> Result<()> {
    let Struck {
        namespace,
        sum,
        job,
        ledger,
        before,
    } = strike("damage").await?;
    let committed: Vec<TaskAttempt> = before
        .done
        .into_iter()
        .filter(|(task, _)| task.stage == StageId(0))
        .map(|(task, attempts)| TaskAttempt {
            task,
            attempt: attempts[0],
        })
        .collect();
    let [lost, changed, ..] = committed[..] else {
        anyhow::bail!("too few commits: {committed:?}");
    };
    let bucket = Bucket::open(&namespace.environment, SCRATCH)?;
    let key = |file: TaskAttempt| {
        let (task, attempt) = (file.task, file.attempt);
        format!(
            "{}/{}/data/{}/{}/{attempt}/shuffle",
            namespace.name, job.uid, task.stage, task.shard
        )
    };
    bucket.delete(&key(lost)).await?;
    let mut bytes = bucket.get(&key(changed)).await?.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    bucket.put(&key(changed), bytes).await?;

    job.succeeded(PATIENCE).await?;
    sum.check_output(&namespace).await?;
    let after = ledger.read().await?;
    let revoked: BTreeSet<_> = after.revoked.iter().copied().collect();
    anyhow::ensure!(
        revoked == BTreeSet::from([lost, changed]) && after.revoked.len() == 2,
        "made again: {:?}, damaged: {lost} and {changed}",
        after.revoked
    );
    anyhow::ensure!(
        after.application_failures.is_empty(),
        "{:?}",
        after.application_failures
    );
    for (task, attempts) in &after.done {
        let times = if *task == lost.task || *task == changed.task {
            2
        } else {
            1
        };
        anyhow::ensure!(
            attempts.len() == times,
            "{task} was committed {} times",
            attempts.len()
        );
    }
    namespace.finish().await
}
