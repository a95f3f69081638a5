//! A whole job whose input, storage and output are in a real object store of any kind. Starts no
//! server.

#![expect(clippy::unwrap_used, reason = "only tests are in here")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use zephyr_crds::job::Retain;
use zephyr_store::storage::{Location, Stores, fetch, list_inputs};

use crate::object_stores::{Server, put};
use crate::processes::Processes;

/// Fewer words than shards, so that some files are empty.
fn word_count() -> Value {
    json!({
        "source": {"files": {"paths": ["$IN/**/*.txt"]}},
        "steps": [
            {"flatMap": "split(\" \")[] | select(. != \"\")"},
            {"groupBy": {"key": ".", "aggregate": {"count": {"count": {}}}, "shards": 12}},
        ],
        "sink": {"files": {"path": "$OUT/part-{shard:03}-of-{total:03}.jsonl"}},
    })
}

/// The lines of all files in a folder, sorted, and how many of the files are empty.
async fn lines(stores: &Stores, folder: &str) -> (Vec<String>, usize) {
    let files = list_inputs(stores, &[format!("{folder}/part-*")], false)
        .await
        .unwrap();
    let mut lines = Vec::new();
    for file in &files {
        let text = fetch(stores, &Location::parse(&file.uri).unwrap())
            .await
            .unwrap();
        lines.extend(
            String::from_utf8(text.to_vec())
                .unwrap()
                .lines()
                .map(str::to_owned),
        );
    }
    lines.sort();
    (lines, files.iter().filter(|file| file.size == 0).count())
}

pub(super) async fn equals_an_independent_one(server: &Server) {
    let stores = server.stores();
    let folder = server.folder("job");
    let texts = ["one two  two", "", "three é two\nthree three", "one"];
    let names = ["a.txt", "empty.txt", "a b/é.txt", "a b/c d/e.txt"];
    let mut counts = BTreeMap::new();
    for (name, text) in names.into_iter().zip(texts) {
        put(&stores, &format!("{folder}/in/{name}"), text.as_bytes()).await;
        for word in text.split_whitespace() {
            *counts.entry(word).or_insert(0) += 1;
        }
    }
    let mut expected: Vec<String> = counts
        .iter()
        .map(|(word, count)| format!("{{\"key\":\"{word}\",\"count\":{count}}}"))
        .collect();
    expected.sort();

    let mut processes = Processes::of(&word_count(), &json!({"taskFailures": 1}));
    processes.retain(Retain::Never);
    processes.move_to(&folder, &server.options);
    processes.start_coordinator();
    processes.start_worker(2);
    let result = processes.result().await;
    assert!(result.succeeded, "{result:?}\n{}", processes.logs());

    let (found, empty) = lines(&stores, &format!("{folder}/out")).await;
    assert_eq!(found, expected);
    assert!(empty >= 12 - counts.len(), "{empty} files are empty");
    let manifest = Location::parse(&format!("{folder}/out/_SUCCESS.json")).unwrap();
    let manifest: Value =
        serde_json::from_slice(&fetch(&stores, &manifest).await.unwrap()).unwrap();
    assert_eq!(manifest["totals"]["files"], 12);
    assert_eq!(manifest["totals"]["rows"], counts.len());

    let intermediate = [format!("{folder}/storage/*/data/**")];
    assert_eq!(list_inputs(&stores, &intermediate, true).await.unwrap(), []);

    // The successor reads the ledger, and finds that every file is complete.
    processes.kill_coordinator();
    processes.start_coordinator();
    assert_eq!(processes.result().await, result);
}
