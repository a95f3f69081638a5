//! Runs every example of the pages on pipelines through the program, and compares the result with
//! what the page shows.
//!
//! The second word of a fence says what it is. `input NAME` is a file below `s3://data/`; the first
//! such fence after an outcome begins a new set of files. `pipeline` is a `spec.pipeline`. `steps`
//! is only its steps, which read all files and write JSON lines. `output` is the expected content
//! below `s3://out/`: of all files, or of the named one. `manifest` is a whole manifest, whose job
//! is only planned. `refused` contains lines that standard error must contain, `printed` lines that
//! standard output must contain.

#[cfg(test)]
mod run {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Write as _;
    use std::fs;
    use std::io::Read as _;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// The bucket that the examples read.
    const DATA: &str = "s3://data/";
    /// The bucket that they write.
    const OUT: &str = "s3://out/";

    /// A fence: its line in the page, the words after its backticks, and its text.
    struct Fence {
        line: usize,
        words: Vec<String>,
        text: String,
    }

    /// One pipeline with its inputs and the outcome that the page shows.
    struct Example {
        line: usize,
        pipeline: String,
        files: BTreeMap<String, String>,
        outputs: Vec<(Option<String>, String)>,
        refusal: Option<String>,
        printed: String,
    }

    fn docs() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
    }

    fn fences(page: &str) -> Vec<Fence> {
        let mut found = Vec::new();
        let mut open: Option<Fence> = None;
        for (index, line) in page.lines().enumerate() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(words)) => {
                    open = Some(Fence {
                        line: index + 1,
                        words: words.split_whitespace().map(str::to_owned).collect(),
                        text: String::new(),
                    });
                }
                (Some(_), Some("")) => found.extend(open.take()),
                (Some(fence), _) => {
                    fence.text.push_str(line);
                    fence.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "a fence is not closed");
        found
    }

    fn indented(text: &str, by: usize) -> String {
        text.lines().fold(String::new(), |mut all, line| {
            let _ = writeln!(all, "{:by$}{line}", "");
            all
        })
    }

    /// A complete pipeline around these steps.
    fn around(steps: &str) -> String {
        format!(
            "source:\n  files: {{ paths: [\"{DATA}*\"] }}\nsteps:\n{}sink:\n  files: {{ path: \"{OUT}part-{{shard}}.jsonl\" }}\n",
            indented(steps, 2)
        )
    }

    fn examples(page: &str) -> Vec<Example> {
        let mut examples: Vec<Example> = Vec::new();
        let mut files = BTreeMap::new();
        let mut is_outcome = false;
        for Fence { line, words, text } in fences(page) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let last = examples.last_mut();
            match (&words[..], last) {
                ([_, "input", name], _) => {
                    if std::mem::take(&mut is_outcome) {
                        files.clear();
                    }
                    files.insert((*name).to_owned(), text);
                }
                (["yaml", role @ ("pipeline" | "steps")], _) => examples.push(Example {
                    line,
                    pipeline: if *role == "steps" {
                        around(&text)
                    } else {
                        text
                    },
                    files: files.clone(),
                    outputs: Vec::new(),
                    refusal: None,
                    printed: String::new(),
                }),
                ([_, "output"], Some(example)) => {
                    is_outcome = true;
                    example.outputs.push((None, text));
                }
                ([_, "output", name], Some(example)) => {
                    is_outcome = true;
                    example.outputs.push((Some((*name).to_owned()), text));
                }
                ([_, "printed"], Some(example)) => {
                    is_outcome = true;
                    example.printed = text;
                }
                ([_, "refused"], Some(example)) => {
                    is_outcome = true;
                    example.refusal = Some(text);
                }
                ([_, "manifest"], _) => plan(line, &text),
                // Not a whole pipeline.
                (["yaml"], _) => {}
                _ => panic!("line {line}: a fence of no known kind: {words:?}"),
            }
        }
        examples
    }

    /// Plans the job of a whole manifest, without its files.
    fn plan(line: usize, manifest: &str) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("job.yaml");
        fs::write(&file, manifest).unwrap();
        let planned = Command::new(env!("CARGO_BIN_EXE_kubectl-zephyr"))
            .args(["plan", "--files", "3", "-f"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&planned.stderr);
        assert!(planned.status.success(), "line {line}: {said}");
    }

    /// All files below a folder by their names, decompressed.
    fn written(folder: &Path) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let mut todo = vec![folder.to_owned()];
        while let Some(next) = todo.pop() {
            for entry in fs::read_dir(&next).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    todo.push(path);
                    continue;
                }
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                if name.ends_with("_SUCCESS.json") {
                    continue;
                }
                let bytes = fs::read(&path).unwrap();
                let mut text = String::new();
                if path.extension().is_some_and(|extension| extension == "gz") {
                    let mut reader = flate2::read::MultiGzDecoder::new(&bytes[..]);
                    reader.read_to_string(&mut text).unwrap();
                } else {
                    text = String::from_utf8(bytes).unwrap();
                }
                files.insert(name.to_owned(), text);
            }
        }
        files
    }

    fn run(page: &str, example: &Example) {
        let place = format!("docs/{page}:{}", example.line);
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let local = |name: &str| format!("file://{}/{name}/", root.display());
        for (name, text) in &example.files {
            let path = root.join("data").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let manifest = format!(
            "apiVersion: zephyr.dev/v1alpha1\nkind: ZephyrJob\nmetadata: {{ name: example }}\nspec:\n  pipeline:\n{}  storage: {{ uri: \"s3://scratch/jobs\" }}\n  workers: {{ replicas: 1 }}\n",
            indented(&example.pipeline, 4)
        );
        let manifest = manifest
            .replace(DATA, &local("data"))
            .replace(OUT, &local("out"));
        let job = root.join("job.yaml");
        fs::write(&job, manifest).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-zephyr"))
            .args(["run", "--quiet", "--workers", "1", "--slots", "1", "-f"])
            .arg(&job)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        let as_shown = |text: &str| {
            text.replace(&local("data"), DATA)
                .replace(&local("out"), OUT)
        };
        let errors = as_shown(&errors);
        if let Some(refusal) = &example.refusal {
            assert_eq!(output.status.code(), Some(1), "{place}: {errors}");
            for line in refusal.lines() {
                assert!(
                    errors.contains(line),
                    "{place}: {line:?} is not in {errors}"
                );
            }
            return;
        }
        assert!(output.status.success(), "{place}: {errors}");
        assert!(!example.outputs.is_empty(), "{place}: shows no outcome");
        let printed = as_shown(&String::from_utf8_lossy(&output.stdout));
        for line in example.printed.lines() {
            assert!(
                printed.contains(line),
                "{place}: {line:?} is not in {printed}"
            );
        }
        let files = written(&root.join("out"));
        for (name, expected) in &example.outputs {
            let text = match name {
                Some(name) => files.get(name).cloned().unwrap_or_default(),
                None => files.values().map(String::as_str).collect(),
            };
            assert_eq!(&as_shown(&text), expected, "{place}");
        }
    }

    fn check(page: &str) {
        let text = fs::read_to_string(docs().join(page)).unwrap();
        let examples = examples(&text);
        assert!(!examples.is_empty(), "docs/{page} shows no example");
        for example in &examples {
            run(page, example);
        }
    }

    macro_rules! pages {
        ($($test:ident $page:literal)*) => {
            $(#[test] fn $test() { check($page); })*
            const TESTED: &[&str] = &[$($page),*];
        };
    }

    pages! {
        the_overview_shows_what_comes_out "pipeline.md"
        the_page_on_bad_records_shows_what_comes_out "pipeline/bad-records.md"
        the_page_on_formats_shows_what_comes_out "pipeline/formats.md"
        the_page_on_limits_shows_what_comes_out "pipeline/limits.md"
        the_page_on_named_values_shows_what_comes_out "pipeline/named-values.md"
        the_page_on_tables_shows_what_comes_out "pipeline/tables.md"
        the_page_on_own_code_shows_what_comes_out "pipeline/own-code.md"
        the_page_on_places_shows_what_comes_out "pipeline/places.md"
        the_page_on_the_sink_files_shows_what_comes_out "pipeline/sink-files.md"
        the_page_on_the_source_files_shows_what_comes_out "pipeline/source-files.md"
        the_page_on_large_and_small_files_shows_what_comes_out "pipeline/splits.md"
        the_page_on_items_shows_what_comes_out "pipeline/source-items.md"
        the_page_on_count_shows_what_comes_out "pipeline/step-count.md"
        the_page_on_deduplicate_shows_what_comes_out "pipeline/step-deduplicate.md"
        the_page_on_filter_shows_what_comes_out "pipeline/step-filter.md"
        the_page_on_flat_map_shows_what_comes_out "pipeline/step-flat-map.md"
        the_page_on_group_by_shows_what_comes_out "pipeline/step-group-by.md"
        the_page_on_map_shows_what_comes_out "pipeline/step-map.md"
        the_page_on_aggregate_shows_what_comes_out "pipeline/step-aggregate.md"
        the_page_on_drop_shows_what_comes_out "pipeline/step-drop.md"
        the_page_on_rename_shows_what_comes_out "pipeline/step-rename.md"
        the_page_on_sample_shows_what_comes_out "pipeline/step-sample.md"
        the_page_on_windows_shows_what_comes_out "pipeline/step-window.md"
        the_page_on_select_shows_what_comes_out "pipeline/step-select.md"
        the_page_on_take_per_shard_shows_what_comes_out "pipeline/step-take-per-shard.md"
        the_page_on_values_shows_what_comes_out "pipeline/values.md"
    }

    #[test]
    fn every_page_on_pipelines_has_a_test() {
        let found: BTreeSet<_> = fs::read_dir(docs().join("pipeline"))
            .unwrap()
            .map(|entry| format!("pipeline/{}", entry.unwrap().file_name().display()))
            .chain(["pipeline.md".to_owned()])
            .collect();
        let tested: BTreeSet<_> = TESTED.iter().map(|page| (*page).to_owned()).collect();
        assert_eq!(found, tested);
    }

    /// The comparison itself is tested: it finds a wrong output, a wrong file and a wrong refusal.
    #[test]
    fn a_page_that_shows_a_wrong_outcome_is_found() {
        let pipeline = "```yaml pipeline\nsource:\n  items: { values: [1] }\nsink:\n  files: { path: \"s3://out/{shard}.jsonl\" }\n```\n";
        for (outcome, is_right) in [
            ("```json output\n1\n```", true),
            ("```json output 0.jsonl\n1\n```", true),
            ("```json output\n2\n```", false),
            ("```json output 1.jsonl\n1\n```", false),
            ("```text refused\n1\n```", false),
            ("", false),
        ] {
            let examples = examples(&format!("{pipeline}{outcome}"));
            let caught = std::panic::catch_unwind(|| run("page", &examples[0]));
            assert_eq!(caught.is_ok(), is_right, "{outcome}");
        }
    }
}
