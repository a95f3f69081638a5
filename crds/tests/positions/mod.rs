//! The positions that a place of a job can have in relation to another place: uris without scheme
//! and bucket, for every role. Used by the tests of the function and by the test that compares it
//! with the API server's rules. Judges nothing.

/// Input paths: literal names and every kind of pattern, around the folder `in`.
pub(crate) const INPUTS: [&str; 30] = [
    "in",
    "in/a.txt",
    "in/1.txt",
    "a.txt",
    "in/_SUCCESS.json",
    "out/_STARTED.json",
    "in/1/a.txt",
    "in2/a.txt",
    "*",
    "*.txt",
    "**",
    "**/a.txt",
    "*/a.txt",
    "in/*",
    "in/*.txt",
    "in/**",
    "in/**/a.txt",
    "in/*/a.txt",
    "in/a*",
    "in/1*",
    "in/?.txt",
    "in/[!b]*",
    "in/1/*",
    "in/sub/*.txt",
    "in/{a,b}.txt",
    "in/{sub/a,b}.txt",
    "{in,out}/*",
    "in/{*,b}*",
    "in/\\*.txt",
    "in2/*",
];

/// Templates of output files.
pub(crate) const SINKS: [&str; 13] = [
    "{shard}.txt",
    "in/{shard}.txt",
    "in/a-{shard}.txt",
    "in/sub/{shard}.txt",
    "in/sub/deep/{shard}.txt",
    "in2/{shard}.txt",
    "{shard}/a.txt",
    "in/{shard}/a.txt",
    "out/{total}/{shard:05}.txt",
    "in/a.txt",
    "in/1.txt",
    "a.txt",
    "in/1/a.txt",
];

/// Storage prefixes; the first is the whole bucket.
pub(crate) const STORAGES: [&str; 13] = [
    "",
    "in",
    "in/",
    "in/sub",
    "in/sub/deep",
    "in2",
    "1",
    "in/1",
    "a.txt",
    "in/a.txt",
    "in/_SUCCESS.json",
    "out",
    "out/1/2",
];
