//! Runs random jobs through the program, on the local disk. Generates no jobs and computes no
//! expected results.

#[cfg(test)]
#[path = "../../worker-image/tests/combinations/mod.rs"]
mod drawn;

#[cfg(test)]
mod programs {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::drawn::{Case, Ended, REFUSED, STORAGE, run_all};
    use serde_json::json;

    /// Jobs in every CI run.
    const CI_JOBS: u64 = 100;
    /// Programs that run at the same time: each mostly waits for its own processes.
    const AT_ONCE: usize = 4;

    fn write(root: &Path, files: &BTreeMap<String, Vec<u8>>) {
        for (name, bytes) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    /// All files below a folder, except those of the storage.
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
    fn random_jobs_run_by_the_program_end_as_computed_or_are_refused() {
        let succeeded = run_all(0..CI_JOBS, AT_ONCE, run).unwrap_or_else(|wrong| panic!("{wrong}"));
        // If nearly all jobs were refused, the test would not show what jobs compute.
        assert!(succeeded > 25, "{succeeded} of {CI_JOBS} succeeded");
    }
}
