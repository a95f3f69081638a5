//! Drawn jobs through the program, on the local disk. Draws nothing and computes no expectation.

#[cfg(test)]
#[path = "../../worker-image/tests/combinations/mod.rs"]
mod drawn;

#[cfg(test)]
mod programs {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::Mutex;

    use super::drawn::{Case, Ended, STORAGE};
    use serde_json::json;

    /// Jobs in every CI run.
    const CI_JOBS: usize = 100;
    /// Programs that run at a time: each waits for processes of its own.
    const AT_ONCE: usize = 4;
    /// How a job ends that cannot be planned.
    const REFUSED: &str = "PlanFailed";

    fn write(root: &Path, files: &BTreeMap<String, Vec<u8>>) {
        for (name, bytes) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    /// All files below a folder but those of the storage.
    fn read(root: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders: Vec<PathBuf> = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.ends_with(STORAGE) {
                    folders.push(path);
                } else if path.is_file() {
                    let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                    files.insert(name.to_owned(), std::fs::read(&path).unwrap());
                }
            }
        }
        files
    }

    fn run(seed: u64) -> Result<bool, String> {
        let case = Case::draw(seed);
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let root = format!("file://{}", data.display());
        write(&data, &case.files_at(&root));
        let manifest = json!({
            "apiVersion": "zephyr.dev/v1alpha1",
            "kind": "ZephyrJob",
            "metadata": {"name": "job"},
            "spec": case.spec_at(&root),
        });
        let file = folder.path().join("job.json");
        std::fs::write(&file, manifest.to_string()).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-zephyr"))
            .args(["run", "--quiet", "-f"])
            .arg(&file)
            .env("TMPDIR", folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let message = said.trim().trim_start_matches("error: ").to_owned();
        let ended = if output.status.success() {
            Ended::Succeeded
        } else if message.contains("the job is refused") || message.starts_with(REFUSED) {
            let last = message.lines().last().unwrap_or_default();
            Ended::Refused(last.to_owned())
        } else {
            Ended::Failed(message)
        };
        case.check(&root, &ended, &read(&data))?;
        Ok(matches!(ended, Ended::Succeeded))
    }

    #[test]
    fn drawn_jobs_run_by_the_program_end_as_computed_or_are_refused() {
        let seeds = Mutex::new(0..CI_JOBS as u64);
        let next = || seeds.lock().unwrap().next();
        let outcomes: Vec<Result<bool, String>> = std::thread::scope(|scope| {
            let lane = || std::iter::from_fn(next).map(run).collect::<Vec<_>>();
            let lanes: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(lane)).collect();
            lanes
                .into_iter()
                .flat_map(|lane| lane.join().unwrap())
                .collect()
        });
        let wrong: Vec<&str> = outcomes
            .iter()
            .filter_map(|outcome| outcome.as_ref().err().map(String::as_str))
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        // Otherwise the refusals would hide what the jobs compute.
        let succeeded = outcomes.iter().filter(|outcome| **outcome == Ok(true));
        assert!(succeeded.count() > CI_JOBS / 4);
    }
}
