//! The objects of `docs/nightly.md`. The script of the `CronJob` runs with a stand-in for
//! `kubectl`, and `kubectl-zephyr` plans the job that the script applies.
//! `tests/tests/admission.rs` tests that the API server accepts all these objects.

#[cfg(test)]
mod nightly {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::process::Command;

    use serde_json::Value;

    /// The objects of the page's first fence.
    fn objects() -> Vec<Value> {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/nightly.md");
        let page = fs::read_to_string(page).unwrap();
        let (_, fence) = page.split_once("```yaml\n").unwrap();
        let (fence, _) = fence.split_once("\n```").unwrap();
        serde_saphyr::from_multiple(fence).unwrap()
    }

    fn text<'a>(objects: &'a [Value], kind: &str, pointer: &str) -> &'a str {
        let of_kind = |object: &&Value| object["kind"] == kind;
        let object = objects.iter().find(of_kind).unwrap();
        object.pointer(pointer).unwrap().as_str().unwrap()
    }

    #[test]
    fn the_nightly_script_applies_a_job_of_the_day_before_and_waits_for_its_end() {
        let objects = objects();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let pod = "/spec/jobTemplate/spec/template/spec/containers/0/args/0";
        let script =
            text(&objects, "CronJob", pod).replace("/job/", &format!("{}/", root.display()));
        fs::write(
            root.join("job.yaml"),
            text(&objects, "ConfigMap", "/data/job.yaml"),
        )
        .unwrap();
        // The stand-in stores the applied objects and its own arguments.
        let kubectl = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho \"$*\" >> calls\n[ \"$1\" != apply ] || cat > applied.yaml\n";
        let program = root.join("kubectl");
        fs::write(&program, kubectl).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", root.display(), std::env::var("PATH").unwrap());
        // 2026-11-27 01:30 UTC.
        let status = Command::new("sh")
            .args(["-euc", &script])
            .env("PATH", path)
            .env("JOB", "nightly-29929050")
            .status();
        assert!(status.unwrap().success());
        let calls = fs::read_to_string(root.join("calls")).unwrap();
        let waits: Vec<&str> = calls
            .lines()
            .map(|line| line.split(" --timeout").next().unwrap_or(line))
            .collect();
        assert_eq!(
            waits,
            [
                "apply -f -",
                "wait --for=condition=Finished",
                "wait --for=condition=Complete",
            ]
        );
        assert!(
            calls
                .lines()
                .skip(1)
                .all(|line| line.ends_with(" zj/errors-2026-11-26")),
            "{calls}"
        );
        let plan = Command::new(env!("CARGO_BIN_EXE_kubectl-zephyr"))
            .args(["plan", "--files", "3", "-f"])
            .arg(root.join("applied.yaml"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&plan.stderr);
        assert!(plan.status.success(), "{errors}");
        let applied = fs::read_to_string(root.join("applied.yaml")).unwrap();
        assert!(
            applied.contains("day: \"2026-11-26\"") && !applied.contains("DAY"),
            "{applied}"
        );
    }
}
