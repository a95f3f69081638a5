//! `kubectl zephyr list`: the jobs of a namespace or of the cluster, one a line. Changes nothing in
//! the cluster.

use anyhow::Result;
use jiff::Timestamp;
use kube::api::ListParams;
use serde_json::json;
use zephyr_crds::job::ZephyrJob;

use crate::cluster::Connection;
use crate::output::Format;
use crate::status::summary;
use crate::table::{age, table};
use crate::terminal::{note, print};

/// The largest number of jobs that are shown, because all of them are in memory.
const MAX_JOBS: usize = 10_000;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// List the jobs of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// List only jobs with these labels, as in `kubectl get -l`.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// The format of the result; default: a table.
    #[arg(short, long)]
    output: Option<Format>,
}

/// Prints the jobs.
pub(crate) async fn list(options: Options) -> Result<()> {
    let cluster = options.connection.open().await?;
    let (api, place) = if options.all_namespaces {
        (
            cluster.api_of_all::<ZephyrJob>(),
            "all namespaces".to_owned(),
        )
    } else {
        (cluster.api(), format!("namespace {}", cluster.namespace))
    };
    let mut parameters = ListParams::default();
    if let Some(selector) = &options.selector {
        parameters = parameters.labels(selector);
    }
    let what = format!("list the jobs of {place}");
    let jobs = cluster.list(&what, &api, parameters, MAX_JOBS).await?;
    if let Some(format) = options.output {
        let items: Vec<_> = jobs.iter().map(summary).collect();
        let names = jobs.iter().filter_map(|job| job.metadata.name.as_deref());
        print(&format.text(&json!({ "items": items }), names))?;
    } else if jobs.is_empty() {
        note(&format!("{place}: no jobs"));
    } else {
        print(&rows(&jobs, options.all_namespaces, Timestamp::now()))?;
    }
    if jobs.len() == MAX_JOBS {
        note(&format!(
            "only the first {MAX_JOBS} jobs are shown; choose others with --selector or --namespace"
        ));
    }
    Ok(())
}

/// The jobs as a table. Pure.
fn rows(jobs: &[ZephyrJob], has_namespaces: bool, now: Timestamp) -> String {
    let mut head = vec!["NAME", "PHASE", "STAGE", "PROGRESS", "WORKERS", "AGE"];
    if has_namespaces {
        head.insert(0, "NAMESPACE");
    }
    let rows = jobs.iter().map(|job| {
        let status = job.status.clone().unwrap_or_default();
        let created = job.metadata.creation_timestamp.as_ref();
        let stage = status
            .stage
            .map(|stage| format!("{} {}", stage.name, stage.summary));
        let mut row = vec![
            job.metadata.name.clone().unwrap_or_default(),
            status.phase.map_or("-", |phase| phase.as_str()).to_owned(),
            stage.unwrap_or_default(),
            status.progress.unwrap_or_default(),
            status
                .workers
                .map(|workers| workers.summary)
                .unwrap_or_default(),
            created
                .map(|created| age(created.0, now))
                .unwrap_or_default(),
        ];
        if has_namespaces {
            row.insert(0, job.metadata.namespace.clone().unwrap_or_default());
        }
        row
    });
    table(&head, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::job_with;

    #[test]
    fn jobs_are_rows_and_what_is_not_known_yet_is_a_dash() {
        let running = json!({
            "phase": "Running", "progress": "40%",
            "stage": {"name": "1/2 map", "done": 5, "total": 9, "running": 2, "failed": 0, "summary": "5/9"},
        });
        let jobs = [job_with("count", &running), job_with("b", &json!({}))];
        let now = "2026-01-01T00:05:00Z".parse().expect("a time");
        let expected = "NAMESPACE   NAME    PHASE     STAGE         PROGRESS   WORKERS   AGE\n\
                        team        count   Running   1/2 map 5/9   40%        -         5m\n\
                        team        b       -         -             -          -         5m\n";
        assert_eq!(rows(&jobs, true, now), expected);
        assert!(rows(&jobs, false, now).starts_with("NAME    PHASE "));
    }
}
