//! Runs every job of `examples/` with the program, on the data in `examples/data`, and compares its
//! output with `examples/expected`, byte by byte (compressed files after decompression).
//!
//! Each example has its own test. One more test compares the list of tests with the folder.

#[cfg(test)]
mod run {
    use std::collections::{BTreeMap, BTreeSet};
    use std::ffi::OsStr;
    use std::fs;
    use std::io::Read as _;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// The bucket that all examples read and write; `examples/run` replaces it by folders as well.
    const BUCKET: &str = "s3://zephyr-data/";

    fn examples() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
    }

    /// The manifest with a folder instead of the bucket: `paths:` are read below `data`, `path:` is
    /// written below `output`.
    fn local(manifest: &str, data: &Path, output: &Path) -> String {
        let folder = |line: &str| {
            let folder = if line.contains("paths:") {
                data
            } else {
                output
            };
            line.replace(BUCKET, &format!("file://{}/", folder.display()))
        };
        manifest.lines().map(folder).collect::<Vec<_>>().join("\n")
    }

    /// A file as decompressed text, under its name without the extension of the compression.
    fn plain(path: &Path) -> (String, String) {
        let bytes = fs::read(path).unwrap();
        let name = path.file_name().and_then(OsStr::to_str).unwrap();
        let mut text = String::new();
        if let Some(name) = name.strip_suffix(".gz") {
            let mut reader = flate2::read::MultiGzDecoder::new(&bytes[..]);
            reader.read_to_string(&mut text).unwrap();
            return (name.to_owned(), text);
        }
        if let Some(name) = name.strip_suffix(".zst") {
            let bytes = zstd::decode_all(&bytes[..]).unwrap();
            return (name.to_owned(), String::from_utf8(bytes).unwrap());
        }
        (name.to_owned(), String::from_utf8(bytes).unwrap())
    }

    /// The files of a folder and of the folders in it. A dead letter contains the name of its
    /// record's file; here the bucket replaces the folder in this name.
    fn files(folder: &Path, data: &Path) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                let name = path.file_name().and_then(OsStr::to_str).unwrap();
                let inner = self::files(&path, data);
                files.extend(
                    inner
                        .into_iter()
                        .map(|(file, text)| (format!("{name}/{file}"), text)),
                );
            } else {
                let (name, text) = plain(&path);
                files.insert(
                    name,
                    text.replace(&format!("file://{}/", data.display()), BUCKET),
                );
            }
        }
        files.remove("_SUCCESS.json");
        files
    }

    fn check(name: &str) {
        let folder = tempfile::tempdir().unwrap();
        let data = fs::canonicalize(examples().join("data")).unwrap();
        let manifest = fs::read_to_string(examples().join(format!("{name}.yaml"))).unwrap();
        let job = folder.path().join("job.yaml");
        fs::write(&job, local(&manifest, &data, folder.path())).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-zephyr"))
            .args(["run", "--quiet", "--workers", "2", "--slots", "1", "-f"])
            .arg(&job)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {errors}");
        let expected = files(&examples().join("expected").join(name), &data);
        assert!(!expected.is_empty(), "{name} has no expected output");
        assert_eq!(files(&folder.path().join(name), &data), expected, "{name}");
    }

    macro_rules! examples {
        ($($test:ident $name:literal)*) => {
            $(#[test] fn $test() { check($name); })*
            const TESTED: &[&str] = &[$($name),*];
        };
    }

    examples! {
        broken_payments_writes_what_is_expected "broken-payments"
        chat_to_pairs_writes_what_is_expected "chat-to-pairs"
        clean_web_text_writes_what_is_expected "clean-web-text"
        count_records_writes_what_is_expected "count-records"
        customer_profiles_writes_what_is_expected "customer-profiles"
        day_report_writes_what_is_expected "day-report"
        data_quality_writes_what_is_expected "data-quality"
        deduplicate_pages_writes_what_is_expected "deduplicate-pages"
        errors_by_hour_writes_what_is_expected "errors-by-hour"
        slow_paths_writes_what_is_expected "slow-paths"
        five_minute_averages_writes_what_is_expected "five-minute-averages"
        latest_version_writes_what_is_expected "latest-version"
        log_lines_to_json_writes_what_is_expected "log-lines-to-json"
        mask_personal_data_writes_what_is_expected "mask-personal-data"
        orders_by_region_writes_what_is_expected "orders-by-region"
        own_code_writes_what_is_expected "own-code"
        revenue_writes_what_is_expected "revenue"
        sample_writes_what_is_expected "sample"
        search_index_writes_what_is_expected "search-index"
        synthetic_orders_writes_what_is_expected "synthetic-orders"
        tabs_to_json_writes_what_is_expected "tabs-to-json"
        try_writes_what_is_expected "try"
        wordcount_writes_what_is_expected "wordcount"
    }

    #[test]
    fn every_example_has_a_test_and_a_row_in_the_readme() {
        let readme = fs::read_to_string(examples().join("README.md")).unwrap();
        let found: BTreeSet<_> = fs::read_dir(examples())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension() == Some(OsStr::new("yaml")))
            .map(|path| path.file_stem().and_then(OsStr::to_str).unwrap().to_owned())
            .collect();
        let tested: BTreeSet<_> = TESTED.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(found, tested);
        for name in found {
            assert!(readme.contains(&format!("]({name}.yaml)")), "{name}");
        }
    }

    /// A local run does not check rules that only the cluster enforces.
    #[test]
    fn the_api_server_would_accept_every_example() {
        for name in TESTED {
            let text = fs::read_to_string(examples().join(format!("{name}.yaml"))).unwrap();
            let value = serde_saphyr::from_str::<serde_json::Value>(&text).unwrap();
            let admitted = zephyr_crds::structural::admit(&value);
            assert!(admitted.errors.is_empty(), "{name}: {:?}", admitted.errors);
            let job: zephyr_crds::job::ZephyrJob = serde_json::from_value(admitted.object).unwrap();
            let errors = zephyr_crds::validate::validate(
                &job.spec,
                name,
                zephyr_crds::validate::Place::Cluster,
            );
            assert!(errors.is_empty(), "{name}: {errors:?}");
            assert_eq!(job.metadata.name.as_deref(), Some(*name));
        }
    }
}
