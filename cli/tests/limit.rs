//! `run --limit N` through the program: the results of the first records go to standard output, and
//! nothing else is written.

#[cfg(test)]
mod limit {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    struct Outcome {
        printed: String,
        errors: String,
        succeeded: bool,
    }

    /// A job that reads `in/` and writes `out/`, both below `folder`.
    fn try_out(folder: &Path, source: &str, steps: &str, format: &str, limit: &str) -> Outcome {
        let root = folder.display();
        let source = source.replace("$ROOT", &root.to_string());
        let manifest = format!(
            "apiVersion: zephyr.dev/v1alpha1\nkind: ZephyrJob\nmetadata: {{name: trial}}\nspec:\n  storage: {{uri: 's3://nowhere/scratch'}}\n  \
             workers: {{replicas: 1}}\n  pipeline:\n    source: {source}\n    steps: {steps}\n    \
             sink: {{files: {{path: 'file://{root}/out/{{shard}}.{format}'}}}}\n"
        );
        fs::write(folder.join("job.yaml"), manifest).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-zephyr"))
            .args(["run", "--quiet", "--limit", limit, "-f"])
            .arg(folder.join("job.yaml"))
            .output()
            .unwrap();
        assert!(
            !folder.join("out").exists(),
            "the job's output is untouched"
        );
        Outcome {
            printed: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
            succeeded: output.status.success(),
        }
    }

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join("in").join(name), text).unwrap();
        }
        folder
    }

    const FILES: &str = "{files: {paths: ['file://$ROOT/in/*']}}";

    #[test]
    fn bad_lines_that_the_job_skips_do_not_count_and_are_named() {
        let folder = folder(&[("a.jsonl", b"{\n{\"n\":1}\nx\n{\"n\":\"y\"}\n{\"n\":3}\n[\n")]);
        let source = FILES.replace("']", "'], onError: {action: Skip}");
        let steps = "[{map: '.n + 1', onError: {action: Skip}}]";
        let outcome = try_out(folder.path(), &source, steps, "jsonl", "3");
        assert!(outcome.succeeded, "{}", outcome.errors);
        assert_eq!(outcome.printed, "2\n4\n");
        let file = format!("{}/in/a.jsonl", folder.path().display());
        for line in [
            format!(
                "skipped: 2 records at spec.pipeline.source.files, the first: file://{file}: line 1: "
            ),
            format!(
                "skipped: 1 record at spec.pipeline.steps[0], the first: file://{file}: line 4: "
            ),
        ] {
            assert!(outcome.errors.contains(&line), "{line}: {}", outcome.errors);
        }
    }

    #[test]
    fn records_are_taken_in_the_order_of_the_files_up_to_the_limit() {
        let second = zstd::encode_all(
            &b"{\"n\":1.10}\n\n{\"n\":12345678901234567890}\nno JSON\n"[..],
            3,
        );
        let folder = folder(&[
            ("a.jsonl", b"\n{\"n\":1}\r\n{\"n\": 2}"),
            ("b.jsonl.zst", &second.unwrap()),
            ("c.jsonl", b"no JSON either\n"),
        ]);
        for (limit, printed) in [
            ("1", "1\n"),
            ("2", "1\n2\n"),
            ("3", "1\n2\n1.10\n"),
            ("4", "1\n2\n1.10\n12345678901234567890\n"),
        ] {
            let outcome = try_out(folder.path(), FILES, "[{map: .n}]", "jsonl", limit);
            assert!(outcome.succeeded, "{}", outcome.errors);
            assert_eq!(outcome.printed, printed, "{limit}");
        }
        let outcome = try_out(folder.path(), FILES, "[]", "jsonl", "5");
        assert!(!outcome.succeeded);
        let place = format!("{}/in/b.jsonl.zst: line 4: ", folder.path().display());
        assert!(outcome.errors.contains(&place), "{}", outcome.errors);
    }

    #[test]
    fn a_failing_record_is_named_by_its_file_and_line_and_not_by_a_copy() {
        let folder = folder(&[("a.jsonl", b"1\n\n\"two\"\n")]);
        let outcome = try_out(folder.path(), FILES, "[{map: '. * .'}]", "jsonl", "9");
        assert!(!outcome.succeeded);
        let place = format!("{}/in/a.jsonl: line 3", folder.path().display());
        assert!(outcome.errors.contains(&place), "{}", outcome.errors);
        assert!(
            !outcome.errors.contains("zephyr-sample-"),
            "{}",
            outcome.errors
        );
    }

    #[test]
    fn text_inline_items_and_groups_have_their_first_records_too() {
        let folder = folder(&[("a.txt.gz", &{
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut gz, b"a \"q\"\n\nb\nc\n").unwrap();
            gz.finish().unwrap()
        })]);
        let outcome = try_out(folder.path(), FILES, "[]", "txt", "3");
        assert_eq!(outcome.printed, "a \"q\"\n\nb\n", "{}", outcome.errors);
        let items = "{items: {values: [5, 5, 7, 9], shards: 4}}";
        let group = "[{groupBy: {key: ., aggregate: {rows: {count: {}}}, shards: 1}}]";
        let outcome = try_out(folder.path(), items, group, "jsonl", "3");
        let groups = "{\"key\":5,\"rows\":2}\n{\"key\":7,\"rows\":1}\n";
        assert_eq!(outcome.printed, groups, "{}", outcome.errors);
    }

    #[test]
    fn a_trial_splits_no_file_and_names_the_line_of_a_bad_record() {
        let folder = folder(&[(
            "a.jsonl",
            b"{\"n\":   1}\r\n\r\n{\"n\":   2}\r\n{\"n\":   \"x\"}\r\n",
        )]);
        let split = "{files: {paths: ['file://$ROOT/in/*'], splitBytes: 10, combineBytes: 100}}";
        let outcome = try_out(folder.path(), split, "[{takePerShard: 2}]", "jsonl", "9");
        assert_eq!(outcome.printed, "{\"n\":1}\n{\"n\":2}\n");
        let outcome = try_out(folder.path(), split, "[{map: '.n + 1'}]", "jsonl", "9");
        assert!(
            outcome.errors.contains("/in/a.jsonl: line 4: "),
            "{}",
            outcome.errors
        );
    }

    #[test]
    fn a_limit_of_0_is_refused() {
        let folder = folder(&[("a.jsonl", b"1\n")]);
        let outcome = try_out(folder.path(), FILES, "[]", "jsonl", "0");
        assert!(outcome.errors.contains("--limit"), "{}", outcome.errors);
    }
}
