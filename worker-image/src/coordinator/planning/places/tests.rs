//! Tests which names clash, and with which sentence each is refused, and which names do not clash.

use std::os::unix::fs::symlink;

use serde_json::json;

use super::*;

fn spec(inputs: &[String], sink: &str, storage: &str) -> ZephyrJobSpec {
    serde_json::from_value(json!({
        "pipeline": {
            "source": {"files": {"paths": inputs, "format": "text"}},
            "sink": {"files": {"path": sink, "format": "text"}},
        },
        "storage": {"uri": storage},
        "workers": {"replicas": 1},
    }))
    .unwrap()
}

async fn refusal(inputs: &[&str], sink: &str, shards: u32) -> String {
    let inputs: Vec<String> = inputs.iter().map(|uri| (*uri).to_owned()).collect();
    let spec = spec(&inputs, sink, "s3://scratch/z");
    match check_places(&spec, shards, &[], inputs).await {
        Ok(()) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn no_two_shards_write_one_name_whatever_the_template() {
    for template in [
        "s3://out/all.jsonl",
        "s3://out/{total}.jsonl",
        "s3://out/{total}/{total:09}/x.jsonl",
    ] {
        for shards in [2, 3, 100_000] {
            let name = output_path(template, 0, shards).unwrap();
            assert_eq!(
                refusal(&[], template, shards).await,
                format!(
                    "spec.pipeline.sink.files.path: gives shards 0 and 1 of {shards} the same name, {name} (got {template}); put {{shard}} or {{shard:05}} into the name of the file"
                )
            );
        }
        assert_eq!(refusal(&[], template, 1).await, "");
        assert_eq!(refusal(&[], template, 0).await, "");
    }
    for template in [
        "s3://out/{shard}.jsonl",
        "s3://out/{shard}{shard}.jsonl",
        "s3://out/{shard}{total}{shard:02}.jsonl",
        "file:///nowhere/{shard:01}/x.jsonl",
    ] {
        assert_eq!(refusal(&[], template, 100_000).await, "", "{template}");
    }
}

#[tokio::test]
async fn an_output_must_not_be_an_input_by_its_resolved_name() {
    let in_place = ["s3://d/part-00000.jsonl", "s3://d/part-00001.jsonl"];
    assert_eq!(
        refusal(&in_place, "s3://d/part-{shard:05}.jsonl", 2).await,
        "spec.pipeline.sink.files.path: s3://d/part-00000.jsonl is the input s3://d/part-00000.jsonl (got s3://d/part-{shard:05}.jsonl); output must not replace input, write to another folder or under other names"
    );
    let last = ["s3://d/part-1-of-2.jsonl"];
    let template = "s3://d/part-{shard}-of-{total}.jsonl";
    assert!(refusal(&last, template, 2).await.contains(last[0]));
    // With mode Overwrite it would be removed as part of the replaced output.
    assert_eq!(
        refusal(&last, template, 3).await,
        format!(
            "spec.pipeline.sink.files.path: makes the name of the input {} with other numbers (got {template}); output of such names is replaced as a whole, so write to another folder or under other names",
            last[0]
        )
    );
    for other in [
        "s3://d/part-{shard}-to-{total}.jsonl",
        "gs://d/part-{shard}-of-{total}.jsonl",
        "s3://d/out/part-{shard}-of-{total}.jsonl",
    ] {
        assert_eq!(refusal(&last, other, 2).await, "", "{other}");
    }
    let marker = ["s3://d/_SUCCESS.json"];
    let spec = spec(&[], "s3://d/{shard}", "s3://scratch");
    let found = check_places(&spec, 0, &[], vec![marker[0].to_owned()])
        .await
        .unwrap_err();
    assert!(
        found
            .to_string()
            .contains("s3://d/_SUCCESS.json is the input"),
        "{found}"
    );
}

#[tokio::test]
async fn a_name_that_no_store_accepts_is_refused_with_its_shard() {
    let long = format!("s3://out/{}/{{shard}}", "é".repeat(512));
    let refusal = refusal(&[], &long, 2).await;
    assert!(
        refusal.starts_with("spec.pipeline.sink.files.path: shard 0 has no valid name: "),
        "{refusal}"
    );
    assert!(refusal.contains("longer than 1024 bytes"), "{refusal}");
}

/// A folder with `in/0.txt`, and links to it.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        for folder in ["in/deep", "out", "scratch"] {
            fs::create_dir_all(disk.path(folder)).unwrap();
        }
        fs::write(disk.path("in/0.txt"), "0\n").unwrap();
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn uri(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    fn link(&self, target: &str, name: &str) {
        symlink(self.path(target), self.path(name)).unwrap();
    }

    async fn refusal(&self, pattern: &str, read: &str, sink: &str, storage: &str) -> String {
        let spec = spec(&[self.uri(pattern)], &self.uri(sink), &self.uri(storage));
        match check_places(&spec, 1, &[], vec![self.uri(read)]).await {
            Ok(()) => String::new(),
            Err(error) => error.to_string().replace(&self.uri(""), "DISK/"),
        }
    }
}

#[tokio::test]
async fn an_output_must_not_be_an_input_through_links_of_a_local_disk() {
    let disk = Disk::new();
    disk.link("in", "same");
    disk.link("in/0.txt", "out/0.txt");
    fs::hard_link(disk.path("in/0.txt"), disk.path("out/hard-0.txt")).unwrap();
    for (sink, name) in [
        ("same/{shard}.txt", "same/0.txt"),
        ("out/{shard}.txt", "out/0.txt"),
        ("out/hard-{shard}.txt", "out/hard-0.txt"),
        ("out/0.txt", "out/0.txt"),
    ] {
        assert_eq!(
            disk.refusal("in/0.txt", "in/0.txt", sink, "scratch").await,
            format!(
                "spec.pipeline.sink.files.path: DISK/{name} is the input DISK/in/0.txt (got DISK/{sink}); output must not replace input, write to another folder or under other names"
            )
        );
    }
    for sink in [
        "same/part-{shard}.txt",
        "out/{shard}-0.txt",
        "new/{shard}.txt",
    ] {
        assert_eq!(
            disk.refusal("in/0.txt", "in/0.txt", sink, "scratch").await,
            "",
            "{sink}"
        );
    }
    // Here the input itself is the link.
    disk.link("out/1-0.txt", "in/link.txt");
    fs::write(disk.path("out/1-0.txt"), "1\n").unwrap();
    assert!(
        disk.refusal("in/link.txt", "in/link.txt", "out/1-{shard}.txt", "scratch")
            .await
            .contains("DISK/out/1-0.txt is the input DISK/in/link.txt")
    );
}

#[tokio::test]
async fn places_are_compared_under_their_real_paths() {
    let disk = Disk::new();
    disk.link("in", "same");
    let allowed =
        "the storage prefix must not overlap input, use a folder that no input path reaches";
    assert_eq!(
        disk.refusal("in/**", "in/0.txt", "out/{shard}", "same/new/scratch")
            .await,
        format!(
            "spec.storage.uri: overlaps spec.pipeline.source.files.paths[0], DISK/in/**, through a symbolic link: its real path is DISK/in/new/scratch (got DISK/same/new/scratch); {allowed}"
        )
    );
    assert!(
        disk.refusal("same/**", "same/0.txt", "out/{shard}", "in/scratch")
            .await
            .contains(allowed)
    );
    assert!(
        disk.refusal("in/*.txt", "in/0.txt", "same/deep/{shard}", "scratch")
            .await
            .contains("output must not overlap input")
    );
    assert!(
        disk.refusal("in/0.txt", "in/0.txt", "same/deep/{shard}", "in/deep")
            .await
            .contains("output must not overlap the storage prefix")
    );
    assert_eq!(
        disk.refusal("in/*.txt", "in/0.txt", "out/{shard}", "same/scratch")
            .await,
        ""
    );
}

#[tokio::test]
async fn ledgers_must_not_be_inputs_through_a_link_below_the_pattern() {
    let disk = Disk::new();
    disk.link("scratch", "in/deep/link");
    fs::write(disk.path("scratch/plan.json"), "{}").unwrap();
    let read = "in/deep/link/plan.json";
    let refusal = disk.refusal("in/**", read, "out/{shard}", "scratch").await;
    assert!(
        refusal.starts_with(
            "spec.pipeline.source.files.paths: DISK/in/deep/link/plan.json is really "
        ),
        "{refusal}"
    );
    assert_eq!(
        disk.refusal("in/**", "in/0.txt", "out/{shard}", "scratch")
            .await,
        ""
    );
}

#[tokio::test]
async fn an_obstacle_in_the_place_of_an_output_folder_is_named() {
    let disk = Disk::new();
    fs::write(disk.path("out/0"), "x").unwrap();
    disk.link("nowhere", "out/gone");
    disk.link("out/0", "out/link");
    let refusal = disk
        .refusal("in/*.txt", "in/0.txt", "out/{shard}/p.txt", "scratch")
        .await;
    let expected = format!(
        " needs a folder, and {} is a file (got DISK/out/{{shard}}/p.txt); move it away, or write to another folder",
        disk.path("out/0").display()
    );
    assert!(refusal.ends_with(&expected), "{refusal}");
    // The folder of the whole output is checked first, because of its markers.
    for (sink, found, problem) in [
        (
            "out/0/{shard}/p.txt",
            "out/0",
            "is a file, but a folder is needed",
        ),
        (
            "out/link/{shard}",
            "out/link",
            "is a file, but a folder is needed",
        ),
        (
            "out/gone/{shard}",
            "out/gone",
            "is a symbolic link that leads nowhere",
        ),
    ] {
        let refusal = disk.refusal("in/*.txt", "in/0.txt", sink, "scratch").await;
        let expected = format!(
            "spec.pipeline.sink.files.path: {} {problem} (got ",
            disk.path(found).display()
        );
        assert!(refusal.starts_with(&expected), "{sink}: {refusal}");
    }
    let refusal = disk.refusal("in/*.txt", "in/0.txt", "out/1{shard}/p.txt", "scratch");
    assert_eq!(refusal.await, "");
}

#[tokio::test]
async fn outputs_are_apart_through_links_to_folders_that_a_number_names() {
    let disk = Disk::new();
    fs::create_dir(disk.path("out/1")).unwrap();
    disk.link("out/1", "out/0");
    disk.link("scratch", "out/2");
    let check = async |shards: u32| {
        let template = disk.uri("out/{shard}/p.txt");
        let spec = spec(&[], &template, &disk.uri("scratch"));
        let found = check_places(&spec, shards, &[], Vec::new()).await;
        found.map_err(|error| error.to_string())
    };
    assert_eq!(check(1).await, Ok(()));
    let error = check(2).await.unwrap_err();
    let real = disk.path("out/1/p.txt");
    let expected = format!("are really one file, {}, through", real.display());
    assert!(error.contains(&expected), "{error}");
    fs::remove_file(disk.path("out/0")).unwrap();
    assert_eq!(check(2).await, Ok(()));
    let error = check(3).await.unwrap_err();
    assert!(error.contains("inside spec.storage.uri"), "{error}");
}

#[tokio::test]
async fn an_input_that_is_older_output_is_refused_through_links() {
    let disk = Disk::new();
    fs::write(disk.path("out/old.txt"), "x").unwrap();
    disk.link("out", "way");
    let replaced = [Location::parse(&disk.uri("out/old.txt")).unwrap()];
    let spec = spec(&[], &disk.uri("out/{shard}"), &disk.uri("scratch"));
    let check = async |input: &str| check_replaced(&spec, &[disk.uri(input)], &replaced).await;
    for input in ["out/old.txt", "way/old.txt"] {
        let error = check(input).await.unwrap_err().to_string();
        assert!(error.contains("Overwrite removes the input"), "{error}");
    }
    assert!(check("in/0.txt").await.is_ok());
}

#[test]
fn literal_inputs_are_known_without_a_listing() {
    let paths = ["s3://b/a.txt", "s3://b/*.txt", "s3://b/{a}.txt"].map(str::to_owned);
    let spec = spec(&paths, "s3://o/{shard}", "s3://scratch");
    assert_eq!(literal_inputs(&spec), ["s3://b/a.txt"]);
}

#[test]
fn the_reserved_names_are_those_of_the_files_that_a_job_writes_itself() {
    use zephyr_store::finalize::{MANIFEST_NAME, STARTED_NAME};
    assert_eq!(MARKER_NAMES, [MANIFEST_NAME, STARTED_NAME]);
}

#[tokio::test]
async fn an_obstacle_in_the_output_folder_is_named_before_the_start() {
    for (name, kind, field) in [
        (
            "out/_SUCCESS.json",
            "folder",
            "spec.pipeline.sink.files.path",
        ),
        (
            "out/_STARTED.json",
            "folder",
            "spec.pipeline.sink.files.path",
        ),
        ("out/_SUCCESS.json", "link", "spec.pipeline.sink.files.path"),
        ("out/_STARTED.json", "link", "spec.pipeline.sink.files.path"),
        ("new", "link", "spec.pipeline.sink.files.path"),
        ("new", "file", "spec.pipeline.sink.files.path"),
        ("storage", "file", "spec.storage.uri"),
        ("storage", "link", "spec.storage.uri"),
    ] {
        let disk = Disk::new();
        let problem = match kind {
            "folder" => {
                fs::create_dir(disk.path(name)).unwrap();
                "is a folder, but a file is needed"
            }
            "file" => {
                fs::write(disk.path(name), "x").unwrap();
                "is a file, but a folder is needed"
            }
            _ => {
                disk.link("nowhere", name);
                "is a symbolic link that leads nowhere"
            }
        };
        let folder = if name == "new" { "new" } else { "out" };
        let sink = format!("{folder}/{{shard}}");
        let refusal = disk
            .refusal("in/*", "in/0.txt", &sink, "storage/deep")
            .await;
        let at = disk.path(name);
        let expected = format!("{field}: {} {problem} (got ", at.display());
        assert!(refusal.starts_with(&expected), "{refusal}");
    }
}
