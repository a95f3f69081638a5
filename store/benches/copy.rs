//! Measures the S3 client alone: copies every object below one folder of a bucket into another
//! folder. The result is compared with that of a job, so the number of threads should be that of
//! the job's tasks. Prints megabytes per second.
//!
//! `cargo bench -p zephyr-store --bench copy -- 's3://bucket/in/*' s3://bucket/copy THREADS`, with
//! `AWS_ENDPOINT` and keys in the environment. `tests/bench/s3` calls it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program that measures and prints"
)]

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use zephyr_store::storage::{
    InputFile, Location, ObjectReader, PartUpload, Stores, complete, list_inputs,
};

/// The settings of the store that `kubectl-zephyr run` reads from the environment too.
const SETTINGS: [&str; 3] = ["AWS_ENDPOINT", "AWS_REGION", "AWS_ALLOW_HTTP"];

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let [from, to, threads] = &arguments[..] else {
        println!("copy: PATTERN FOLDER THREADS");
        return;
    };
    zephyr_store::install_crypto_provider();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let set = |name: &&str| Some((name.to_ascii_lowercase(), std::env::var(name).ok()?));
    let options: BTreeMap<String, String> = SETTINGS.iter().filter_map(set).collect();
    let stores = Stores::new(options);
    let listed = list_inputs(&stores, std::slice::from_ref(from), false);
    let files = runtime.block_on(listed).unwrap();
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads.parse().unwrap() {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    copy(&runtime, &stores, file, to);
                }
            });
        }
    });
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    let seconds = began.elapsed().as_secs_f64();
    let megabytes = u32::try_from(bytes / 1_000_000).unwrap();
    println!(
        "client alone {seconds:.2} s {:.0} MB/s",
        f64::from(megabytes) / seconds
    );
}

fn copy(runtime: &tokio::runtime::Runtime, stores: &Stores, file: &InputFile, folder: &str) {
    let name = file.uri.rsplit('/').next().unwrap();
    let (from, to) = (
        Location::parse(&file.uri).unwrap(),
        Location::parse(&format!("{folder}/{name}")).unwrap(),
    );
    let counted = std::sync::Arc::new(|_| ());
    let mut reader = ObjectReader::open(runtime.handle(), stores, file, &from, counted);
    let mut upload = PartUpload::begin(runtime.handle(), stores, &to, "bench").unwrap();
    io::copy(&mut reader, &mut upload).unwrap();
    let uploaded = upload.finish().unwrap();
    runtime
        .block_on(complete(stores, &to, &uploaded.place))
        .unwrap();
}
