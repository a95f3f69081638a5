//! Tests the examples in documents other than the pages on pipelines. Jobs are run, and the plugin
//! parses its own commands. The names of values, columns, metrics and conditions are compared with
//! their sources. Commands of other programs (`helm`, `kubectl`, `gh`) are not run here.

#[cfg(test)]
mod shown {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::io::Read as _;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output};

    use serde_json::Value;
    use zephyr_crds::conditions::ConditionType;
    use zephyr_crds::validate::{Place, validate};

    /// A job that a document shows, a file that the job reads, and the records that it then writes.
    struct Shown {
        document: &'static str,
        input: (&'static str, &'static str),
        output: &'static [&'static str],
    }

    /// Every document that shows a job, without the pages on pipelines.
    const JOBS: [Shown; 5] = [
        Shown {
            document: "README.md",
            input: ("s3/corpus/en/a.txt", "To be or not to be\n"),
            output: &WORDS,
        },
        Shown {
            document: "charts/zephyr-operator/Chart.yaml",
            input: ("s3/zephyr-data/text/a.txt", "To be, or not to be\n"),
            output: &WORDS,
        },
        Shown {
            document: "docs/getting-started.md",
            input: (
                "disk/var/log/app/a.jsonl",
                "{\"level\":\"info\",\"n\":1}\n{\"level\":\"error\",\"n\":2}\n",
            ),
            output: &["{\"level\":\"error\",\"n\":2}"],
        },
        Shown {
            document: "docs/install.md",
            input: ("s3/not/read.jsonl", ""),
            output: &["10", "20", "30"],
        },
        Shown {
            document: "docs/nightly.md",
            input: (
                "s3/logs/in/2026-11-26/a.jsonl",
                "{\"level\":\"error\",\"service\":\"api\"}\n{\"level\":\"info\"}\n",
            ),
            output: &["{\"key\":\"api\",\"errors\":1}"],
        },
    ];

    /// The day of the nightly job.
    const DAY: &str = "2026-11-26";

    const WORDS: [&str; 4] = [
        "{\"key\":\"be\",\"count\":2}",
        "{\"key\":\"not\",\"count\":1}",
        "{\"key\":\"or\",\"count\":1}",
        "{\"key\":\"to\",\"count\":2}",
    ];

    fn root() -> PathBuf {
        fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap()
    }

    fn read(path: &str) -> String {
        fs::read_to_string(root().join(path)).unwrap()
    }

    /// All documents that people read: their paths and texts.
    fn documents() -> BTreeMap<String, String> {
        let root = root();
        let mut todo = vec![root.join("docs")];
        let mut found = Vec::new();
        while let Some(folder) = todo.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    todo.push(path);
                } else if path.extension().is_some_and(|extension| extension == "md") {
                    found.push(path);
                }
            }
        }
        for name in [
            "README.md",
            "CONTRIBUTING.md",
            "SECURITY.md",
            "examples/README.md",
        ] {
            found.push(root.join(name));
        }
        let relative = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
        found
            .iter()
            .map(|path| (relative(path), fs::read_to_string(path).unwrap()))
            .collect()
    }

    /// The texts between fences.
    fn fences(page: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut open: Option<String> = None;
        for line in page.lines() {
            if line.starts_with("```") {
                match open.take() {
                    Some(text) => found.push(text),
                    None => open = Some(String::new()),
                }
            } else if let Some(text) = &mut open {
                text.push_str(line);
                text.push('\n');
            }
        }
        found
    }

    fn has_extension(name: &str, extension: &str) -> bool {
        Path::new(name)
            .extension()
            .is_some_and(|found| found == extension)
    }

    /// The jobs that a document shows, as YAML.
    fn jobs(document: &str, text: &str) -> Vec<String> {
        let blocks: Vec<String> = if has_extension(document, "md") {
            fences(text).into_iter().map(job_inside).collect()
        } else {
            let chart: Value = serde_saphyr::from_str(text).unwrap();
            let examples = &chart["annotations"]["artifacthub.io/crdsExamples"];
            let examples: Vec<Value> = serde_saphyr::from_str(examples.as_str().unwrap()).unwrap();
            examples.iter().map(Value::to_string).collect()
        };
        let is_job = |block: &String| {
            block.contains("kind: ZephyrJob\n") || block.contains("\"kind\":\"ZephyrJob\"")
        };
        blocks.into_iter().filter(is_job).collect()
    }

    /// The job inside a fence that shows a `ConfigMap`, with one day filled in; any other fence
    /// unchanged.
    fn job_inside(fence: String) -> String {
        if !fence.contains("kind: ConfigMap\n") {
            return fence;
        }
        let objects: Vec<Value> = serde_saphyr::from_multiple(&fence).unwrap();
        let job = objects
            .iter()
            .find_map(|object| object["data"]["job.yaml"].as_str());
        job.map_or(fence, |job| job.replace("DAY", DAY))
    }

    fn plugin(arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_kubectl-zephyr"))
            .args(arguments)
            .current_dir(root())
            .output()
            .unwrap()
    }

    /// The lines of all files in a folder, decompressed, in order.
    fn records(folder: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() || name == "_SUCCESS.json" {
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let mut text = String::new();
            if has_extension(&name, "gz") {
                let mut reader = flate2::read::MultiGzDecoder::new(&bytes[..]);
                reader.read_to_string(&mut text).unwrap();
            } else {
                text = String::from_utf8(bytes).unwrap();
            }
            lines.extend(text.lines().map(str::to_owned));
        }
        lines.sort();
        lines
    }

    /// Fails unless the API server and the operator would accept the job. Jobs for this machine
    /// only are not checked.
    fn is_accepted(document: &str, manifest: &str) {
        let value: Value = serde_saphyr::from_str(manifest).unwrap();
        let admitted = zephyr_crds::structural::admit(&value);
        assert!(
            admitted.errors.is_empty(),
            "{document}: {:?}",
            admitted.errors
        );
        let job: zephyr_crds::job::ZephyrJob = serde_json::from_value(admitted.object).unwrap();
        let place = if manifest.contains("file://") {
            Place::Local
        } else {
            Place::Cluster
        };
        let errors = validate(&job.spec, job.metadata.name.as_deref().unwrap(), place);
        assert!(errors.is_empty(), "{document}: {errors:?}");
    }

    #[test]
    fn every_job_that_a_document_shows_is_accepted_and_writes_the_shown_output() {
        let chart = "charts/zephyr-operator/Chart.yaml".to_owned();
        let mut documents = documents();
        documents.insert(chart.clone(), read(&chart));
        let found: BTreeMap<_, _> = documents
            .iter()
            .map(|(document, text)| (document.as_str(), jobs(document, text)))
            // `pages.rs` plans the jobs of the pages on pipelines.
            .filter(|(document, jobs)| !jobs.is_empty() && !document.starts_with("docs/pipeline/"))
            .collect();
        let tested: BTreeSet<_> = JOBS.iter().map(|job| job.document).collect();
        assert_eq!(found.keys().copied().collect::<BTreeSet<_>>(), tested);
        for Shown {
            document,
            input,
            output,
        } in JOBS
        {
            for manifest in &found[document] {
                is_accepted(document, manifest);
                let folder = tempfile::tempdir().unwrap();
                let here = folder.path().canonicalize().unwrap();
                let local = |part: &str| format!("file://{}/{part}/", here.display());
                let manifest = manifest
                    .replace("file:///", &local("disk"))
                    .replace("s3://", &local("s3"));
                let file = here.join(input.0);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, input.1).unwrap();
                let job = here.join("job.yaml");
                fs::write(&job, &manifest).unwrap();
                let job = job.to_str().unwrap();
                let ended = plugin(&[
                    "run",
                    "--quiet",
                    "--workers",
                    "1",
                    "--slots",
                    "1",
                    "-f",
                    job,
                ]);
                let errors = String::from_utf8_lossy(&ended.stderr);
                assert!(ended.status.success(), "{document}: {errors}");
                let manifest: Value = serde_saphyr::from_str(&manifest).unwrap();
                let path = manifest["spec"]["pipeline"]["sink"]["files"]["path"].as_str();
                let path = path.unwrap().strip_prefix("file://").unwrap();
                let path = path.replace("{value:day}", DAY);
                let written = records(Path::new(&path).parent().unwrap());
                assert_eq!(written, output, "{document}");
            }
        }
    }

    #[test]
    fn the_readme_shows_what_the_first_example_writes() {
        let expected = fs::read_dir(root().join("examples/expected/try")).unwrap();
        let expected: Vec<_> = expected.map(|entry| entry.unwrap().path()).collect();
        let expected = fs::read_to_string(&expected[0]).unwrap();
        let readme = read("README.md");
        let shown: Vec<_> = readme
            .lines()
            .filter(|line| line.starts_with("{\"path\":"))
            .collect();
        assert!(shown.len() >= 2, "{shown:?}");
        assert!(expected.starts_with(&shown.join("\n")), "{expected}");
        let count = fs::read_dir(root().join("examples")).unwrap();
        let is_job = |path: &PathBuf| path.extension().is_some_and(|end| end == "yaml");
        let others = count
            .map(|entry| entry.unwrap().path())
            .filter(is_job)
            .count()
            - 1;
        assert!(
            readme.contains(&format!("[{others} more examples]")),
            "{others}"
        );
    }

    /// The words of a command line up to a pipe or a comment, without quotes.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut quote = None;
        let mut word: Option<String> = None;
        for character in line.chars() {
            match (quote, character) {
                (Some(open), _) if open == character => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(character);
                    word.get_or_insert_default();
                }
                (None, ' ') => words.extend(word.take()),
                (None, '|' | '#') => break,
                _ => word.get_or_insert_default().push(character),
            }
        }
        words.extend(word);
        words
    }

    /// The text without fences.
    fn prose(page: &str) -> String {
        let mut is_fence = false;
        let mut text = String::new();
        for line in page.lines() {
            if line.starts_with("```") {
                is_fence = !is_fence;
            } else if !is_fence {
                text.push_str(line);
                text.push(' ');
            }
        }
        text
    }

    /// The command lines of the plugin, in fences and in code within sentences.
    fn commands(page: &str) -> BTreeSet<Vec<String>> {
        let prose = prose(page);
        let spans = prose.split('`').skip(1).step_by(2);
        let fences = fences(page);
        let lines = fences.iter().flat_map(|fence| fence.lines());
        spans
            .chain(lines)
            .flat_map(|code| code.split("kubectl zephyr ").skip(1))
            .map(words)
            .filter(|words| !words.is_empty())
            .collect()
    }

    #[test]
    fn every_shown_command_of_the_plugin_has_known_arguments() {
        let mut count = 0;
        for (document, text) in documents() {
            if document.ends_with("reference/kubectl-zephyr.md") {
                continue;
            }
            for command in commands(&text) {
                let is_placeholder = |word: &String| word.starts_with(['[', '…']) || word == "VERB";
                let mut arguments: Vec<&str> = command
                    .iter()
                    .filter(|word| !is_placeholder(word))
                    .map(String::as_str)
                    .collect();
                let runs =
                    arguments.first() == Some(&"plan") && command.join(" ").contains("examples/");
                if !runs {
                    arguments.push("--help");
                }
                let output = plugin(&arguments);
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{document}: {command:?}: {errors}");
                count += 1;
            }
        }
        assert!(count > 10, "only {count} commands were found");
    }

    #[test]
    fn the_page_on_the_plugin_shows_what_eval_prints() {
        let page = read("docs/plugin.md");
        let mut count = 0;
        for example in fences(&page) {
            if !example.contains("| kubectl zephyr eval ") {
                continue;
            }
            count += 1;
            let (command, expected) = example.split_once('\n').unwrap();
            let command = command.strip_prefix("$ ").unwrap();
            let script = format!("kubectl() {{ shift; \"$PLUGIN\" \"$@\"; }}; {command}");
            let output = Command::new("sh")
                .args(["-c", &script])
                .env("PLUGIN", env!("CARGO_BIN_EXE_kubectl-zephyr"))
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        }
        assert!(count >= 2, "only {count} examples were found");
    }

    #[test]
    fn every_value_of_the_chart_that_a_document_sets_exists() {
        let values: Value =
            serde_saphyr::from_str(&read("charts/zephyr-operator/values.yaml")).unwrap();
        let mut count = 0;
        for (document, text) in documents() {
            let words: Vec<&str> = text.split_whitespace().collect();
            for pair in words.windows(2) {
                if !pair[0].trim_start_matches('`').starts_with("--set") {
                    continue;
                }
                for setting in pair[1].trim_end_matches(['`', ',']).split(',') {
                    let (name, _) = setting.split_once('=').expect(setting);
                    // `'list[0].name=…'` sets an entry of a list.
                    let name = name.trim_start_matches('\'').split('[').next().unwrap();
                    let pointer = format!("/{}", name.replace('.', "/"));
                    assert!(values.pointer(&pointer).is_some(), "{document}: {setting}");
                    count += 1;
                }
            }
        }
        assert!(count > 4, "only {count} values were found");
    }

    #[test]
    fn alerts_name_only_metrics_that_the_tables_list() {
        let page = read("docs/monitoring.md");
        let is_row = |line: &&str| line.starts_with("| `zephyr_");
        let listed: BTreeSet<_> = page
            .lines()
            .filter(is_row)
            .filter_map(|row| row.split('`').nth(1))
            .collect();
        let names = |text: &str| -> BTreeSet<String> {
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .filter(|word| word.starts_with("zephyr_") && *word != "zephyr_dev_job")
                .map(str::to_owned)
                .collect()
        };
        let used: BTreeSet<_> = fences(&page)
            .iter()
            .flat_map(|fence| names(fence))
            .collect();
        assert!(used.len() > 3, "{used:?}");
        for name in used {
            assert!(listed.contains(name.as_str()), "{name} is not in a table");
        }
    }

    #[test]
    fn the_columns_of_the_first_job_are_those_of_the_definition() {
        let definition: Value = serde_saphyr::from_str(&read("crds/zephyrjobs.yaml")).unwrap();
        let columns = &definition["spec"]["versions"][0]["additionalPrinterColumns"];
        let shown = columns.as_array().unwrap().iter();
        let shown = shown.filter(|column| column["priority"].as_i64().unwrap_or(0) == 0);
        let names = shown.map(|column| column["name"].as_str().unwrap().to_uppercase());
        let expected: Vec<String> = ["NAME".to_owned()].into_iter().chain(names).collect();
        let page = read("docs/first-job.md");
        let header = page.lines().find(|line| line.starts_with("NAME ")).unwrap();
        assert_eq!(header.split_whitespace().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_script_for_argo_cd_asks_for_conditions_that_exist() {
        let page = read("docs/argocd.md");
        let script = &fences(&page)[0];
        let asked: BTreeSet<_> = ["holds(\"", "message_of(\"", "conditions[\""]
            .iter()
            .flat_map(|call| script.split(call).skip(1))
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(asked.len() > 2, "{asked:?}");
        let known: BTreeSet<_> = ConditionType::ALL.map(ConditionType::as_str).into();
        assert!(asked.is_subset(&known), "{asked:?}");
    }

    #[test]
    fn every_other_object_that_a_document_shows_is_yaml_with_a_kind_and_a_name() {
        let mut kinds = BTreeSet::new();
        for (document, text) in documents() {
            for fence in fences(&text) {
                if !fence.starts_with("apiVersion: ") {
                    continue;
                }
                for object in fence.split("---\n") {
                    let object: Value = serde_saphyr::from_str(object)
                        .unwrap_or_else(|error| panic!("{document}: {error}"));
                    assert!(object["metadata"]["name"].is_string(), "{document}");
                    kinds.insert(object["kind"].as_str().unwrap().to_owned());
                }
            }
        }
        let expected = [
            "ConfigMap",
            "CronJob",
            "PodMonitor",
            "ResourceQuota",
            "Role",
            "RoleBinding",
            "ServiceAccount",
            "ZephyrJob",
        ]
        .map(str::to_owned);
        assert_eq!(kinds, BTreeSet::from(expected));
    }
}
