//! Output of another job in the output folder of a job. Judges nothing.

#![expect(clippy::unwrap_used, reason = "only tests are in here")]

use serde_json::json;

use crate::processes::Processes;

/// The names in the output's folder.
pub(super) fn output_names(processes: &Processes) -> Vec<String> {
    let names = std::fs::read_dir(processes.path("out")).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Output of another job, with more shards and other names, and a file that belongs to no output.
pub(super) fn put_old_output(processes: &Processes) {
    let at = |name: &str| processes.path("out").join(name);
    let listed = ["part-000-of-003.jsonl", "part-0004-of-5.jsonl", "words.txt"];
    let mut files = Vec::new();
    for name in listed {
        std::fs::write(at(name), "old\n").unwrap();
        files.push(json!({"uri": format!("file://{}", at(name).display()), "bytes": 4}));
    }
    let manifest = json!({"version": 1, "jobUid": "old", "job": "test/old", "files": files});
    std::fs::write(at("_SUCCESS.json"), manifest.to_string()).unwrap();
    std::fs::write(at("notes"), "").unwrap();
}
