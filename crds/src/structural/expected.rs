//! Words of other tools that people write by mistake in a manifest, and what to write instead.
//! Pure.

/// Words in one place of a manifest, each list with what to write instead.
type Words = &'static [(&'static [&'static str], &'static str)];

const STEPS: Words = &[
    (
        &["join", "leftjoin", "innerjoin", "lookup", "enrich"],
        "there is no join of two sources yet; put small files into spec.pipeline.tables, and use $name[key] in an expression",
    ),
    (
        &["sort", "sortby", "orderby", "order"],
        "there is no sort yet; groupBy writes its keys in order within each shard, and sort_by in an expression sorts a list",
    ),
    (
        &["where", "when", "keep", "having", "reject", "exclude"],
        "use filter, which keeps the records for which a jq expression is true",
    ),
    (
        &[
            "reduce",
            "fold",
            "sum",
            "min",
            "max",
            "avg",
            "average",
            "mean",
            "group",
            "reducebykey",
            "collect",
            "combine",
        ],
        "use groupBy with a key and aggregate, or the step aggregate for all records together",
    ),
    (
        &[
            "distinct",
            "unique",
            "uniq",
            "dedup",
            "dedupe",
            "dropduplicates",
        ],
        "use deduplicate, which keeps the first record of each key",
    ),
    (
        &["limit", "head", "take", "first", "top"],
        "use takePerShard, which keeps the first records of each shard",
    ),
    (
        &[
            "project",
            "columns",
            "fields",
            "withcolumn",
            "addfield",
            "set",
            "transform",
            "jq",
            "apply",
            "with",
        ],
        "use map with a jq expression, or select with a list of columns",
    ),
    (
        &["flatten", "explode", "expand", "unnest", "split"],
        "use flatMap, which makes a record of each result of a jq expression",
    ),
    (
        &["union", "concat", "merge", "append"],
        "list all files in spec.pipeline.source.files.paths",
    ),
    (
        &[
            "script", "udf", "python", "command", "run", "pipe", "shell", "bash", "process",
        ],
        "use exec: { command: [python3, /scripts/clean.py] }, which passes the records of each shard through a process",
    ),
    (
        &["remove", "delete", "del", "dropcolumns", "omit", "without"],
        "use drop with a list of columns",
    ),
    (
        &["renamecolumns", "withcolumnrenamed", "alias"],
        "use rename: { old: new }",
    ),
    (
        &["samplebyhash", "randomsample", "samplefraction"],
        "use sample: { fraction: 0.01 }",
    ),
    (
        &["batch", "chunk", "buffer", "sliding", "session"],
        "use window with a number of records, or windowBy with a condition",
    ),
    (
        &["pivot", "cogroup", "sql", "cache"],
        "there is no such step yet; allowed are map, filter, flatMap, select, drop, rename, sample, takePerShard, window, windowBy, exec, groupBy, deduplicate, count and aggregate",
    ),
    (
        &[
            "repartition",
            "partition",
            "partitionby",
            "coalesce",
            "shuffle",
            "shards",
        ],
        "shards is a field of groupBy, deduplicate and source.items",
    ),
    (
        &["write", "save", "sink", "output", "read", "source", "input"],
        "the source is spec.pipeline.source, and the sink is spec.pipeline.sink",
    ),
];

/// Words for a place with files, in a source and in a sink.
const PLACES: &[&str] = &[
    "path",
    "paths",
    "uri",
    "url",
    "s3",
    "gs",
    "gcs",
    "azure",
    "file",
    "folder",
    "directory",
    "json",
    "jsonl",
    "ndjson",
    "text",
    "bucket",
];

const SOURCE: Words = &[
    (
        PLACES,
        "use files: { paths: [\"s3://bucket/folder/*.jsonl\"] }",
    ),
    (
        &[
            "csv", "tsv", "parquet", "avro", "orc", "arrow", "delta", "iceberg",
        ],
        "only JSON lines and text are read so far; use files: { paths: [...], format: text } for lines of csv",
    ),
    (
        &[
            "kafka", "sql", "jdbc", "postgres", "mysql", "bigquery", "http", "stream",
        ],
        "only files are read; use files, or items for records in the manifest",
    ),
    (
        &["values", "records", "list"],
        "use items: { values: [...] }",
    ),
];

const SINK: Words = &[
    (
        PLACES,
        "use files: { path: \"s3://bucket/folder/part-{shard}.jsonl\" }",
    ),
    (
        &[
            "csv", "tsv", "parquet", "avro", "orc", "arrow", "delta", "iceberg",
        ],
        "only JSON lines and text are written so far; use files, and @csv in a map step for lines of csv",
    ),
    (
        &[
            "kafka", "sql", "jdbc", "postgres", "mysql", "bigquery", "http", "stream", "stdout",
            "console",
        ],
        "only files are written; use files",
    ),
];

const AGGREGATES: Words = &[
    (&["average", "mean"], "use avg"),
    (&["minimum", "least"], "use min"),
    (&["maximum", "greatest"], "use max"),
    (&["total", "add"], "use sum"),
    (
        &["list", "array", "all", "values", "push", "concat"],
        "use collect",
    ),
    (
        &["first", "last", "any"],
        "use collect, and .[0] or .[-1] in a map step behind it",
    ),
    (
        &["countdistinct", "distinct", "unique"],
        "use collect, and unique | length in a map step behind it",
    ),
    (
        &["median", "percentile", "quantile", "stddev", "variance"],
        "there is no such aggregate yet; collect makes a list, from which an expression can compute it",
    ),
];

const FORMATS: Words = &[
    (
        &["json", "ndjson", "jsonlines"],
        "jsonl is one JSON value per line",
    ),
    (
        &["txt", "lines", "log", "plain"],
        "text is one string per line",
    ),
    (
        &["csv", "tsv"],
        "there is no csv yet; read the lines as text and use split in a map step; @csv in a map step makes lines of csv",
    ),
    (
        &["parquet", "avro", "orc", "arrow", "xml", "yaml"],
        "only JSON lines (jsonl) and text are read and written so far",
    ),
];

const COMPRESSIONS: Words = &[
    (&["gzip", "gz2", "zip"], "gz is the word for gzip"),
    (&["zstd", "zstandard"], "zst is the word for zstd"),
    (
        &["snappy", "lz4", "bz2", "bzip2", "brotli", "xz", "lzo"],
        "only gzip (gz) and zstd (zst) are written so far",
    ),
];

/// What to write instead of the unknown field at `path`, whose own name is `name`.
pub(super) fn instead_of_field(path: &str, name: &str) -> Option<&'static str> {
    let place = path.strip_suffix(name)?.strip_suffix('.')?;
    let is_step = |place: &str| {
        let number = place.strip_prefix("spec.pipeline.steps[");
        number
            .and_then(|number| number.strip_suffix(']'))
            .is_some_and(|number| !number.contains(']'))
    };
    let words = match place {
        "spec.pipeline.source" => SOURCE,
        "spec.pipeline.sink" => SINK,
        place if is_step(place) => STEPS,
        place if place.contains(".groupBy.aggregate.") => AGGREGATES,
        _ => return None,
    };
    find(words, name)
}

/// What to write instead of the unknown word in the field at `path`.
pub(super) fn instead_of_word(path: &str, word: &str) -> Option<&'static str> {
    if path.ends_with(".files.format") {
        find(FORMATS, word)
    } else if path.ends_with(".files.compression") {
        find(COMPRESSIONS, word)
    } else {
        None
    }
}

fn find(words: Words, word: &str) -> Option<&'static str> {
    let plain: String = word
        .chars()
        .filter(|character| !matches!(character, '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect();
    words
        .iter()
        .find(|(names, _)| names.contains(&plain.as_str()))
        .map(|(_, instead)| *instead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_another_tool_is_answered_with_the_right_one_only_in_its_place() {
        for (path, name, words) in [
            (
                "spec.pipeline.steps[3].sort",
                "sort",
                "there is no sort yet",
            ),
            (
                "spec.pipeline.steps[0].order_by",
                "order_by",
                "there is no sort yet",
            ),
            ("spec.pipeline.steps[0].where", "where", "use filter"),
            (
                "spec.pipeline.steps[0].join",
                "join",
                "spec.pipeline.tables",
            ),
            ("spec.pipeline.steps[0].reduce", "reduce", "use groupBy"),
            (
                "spec.pipeline.source.csv",
                "csv",
                "only JSON lines and text",
            ),
            (
                "spec.pipeline.sink.parquet",
                "parquet",
                "only JSON lines and text",
            ),
            (
                "spec.pipeline.steps[0].groupBy.aggregate.n.mean",
                "mean",
                "use avg",
            ),
        ] {
            let instead = instead_of_field(path, name).unwrap_or_default();
            assert!(instead.contains(words), "{path}: {instead}");
        }
        for (path, name) in [
            ("spec.workers.sort", "sort"),
            ("spec.pipeline.steps[0].groupBy.sort", "sort"),
            ("spec.pipeline.steps[0].fliter", "fliter"),
            ("sort", "sort"),
        ] {
            assert_eq!(instead_of_field(path, name), None, "{path}");
        }
        let format = "spec.pipeline.source.files.format";
        assert!(instead_of_word(format, "CSV").is_some_and(|words| words.contains("no csv yet")));
        assert_eq!(instead_of_word("spec.storage.retain", "csv"), None);
        let compression = "spec.pipeline.sink.files.compression";
        assert_eq!(
            instead_of_word(compression, "gzip"),
            Some("gz is the word for gzip")
        );
    }
}
