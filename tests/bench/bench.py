"""Measures two jobs on generated documents that resemble web pages: with kubectl-zephyr run, jq, DuckDB and Polars.

J1 filter + map: keeps documents with a score above 0.5, and writes id, lower-cased text and its length.
J2 word count: lower-cases, splits at spaces, counts each word.

Prints wall and CPU seconds (user + system, children included) and whether the answers agree. Sets no limits.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy

from timed import adopt_orphans, timed

SHARDS = 32
SEED = 20260101
VOCABULARY = 50_000

J1 = {
    "steps": [{"filter": ".score > 0.5"}, {"map": "{id, text: (.text | ascii_downcase), length: (.text | length)}"}],
}
J2 = {
    "steps": [
        {"flatMap": '.text | ascii_downcase | split(" ")[]'},
        {"groupBy": {"key": ".", "aggregate": {"count": {"count": {}}}, "shards": 8}},
    ],
}

JQ = {
    "J1": 'jq -c "select(.score > 0.5) | {id, text: (.text | ascii_downcase), length: (.text | length)}" IN > OUT',
    "J2": "jq -r '.text | ascii_downcase | split(\" \")[]' IN | LC_ALL=C sort -S 1G | uniq -c > OUT",
}
DUCKDB = {
    "J1": """copy (select id, lower(text) as text, length(text) as length from read_json('IN', format='newline_delimited',
             columns={id: 'BIGINT', text: 'VARCHAR', score: 'DOUBLE'}) where score > 0.5) to 'OUT' (format json)""",
    "J2": """copy (select key, count(*) as count from (select unnest(string_split(lower(text), ' ')) as key
             from read_json('IN', format='newline_delimited', columns={text: 'VARCHAR'})) group by key) to 'OUT' (format json)""",
}
POLARS = {
    "J1": """pl.scan_ndjson(IN).filter(pl.col('score') > 0.5).select('id', pl.col('text').str.to_lowercase(),
             pl.col('text').str.len_chars().alias('length')).sink_ndjson(OUT)""",
    "J2": """pl.scan_ndjson(IN).select(pl.col('text').str.to_lowercase().str.split(' ').alias('key')).explode('key')
             .group_by('key').len('count').sink_ndjson(OUT)""",
}


def generate(folder: pathlib.Path, megabytes: int) -> pathlib.Path:
    """Documents of about 1.8 kB in SHARDS files; the same bytes for the same size."""
    data = folder / f"data-{megabytes}"
    if (data / "complete").exists():
        return data
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    random = numpy.random.default_rng(SEED)
    letters = numpy.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = numpy.array(["".join(random.choice(letters[:18], random.integers(2, 11))) for _ in range(VOCABULARY)])
    words[::13] = numpy.char.capitalize(words[::13])
    identity = 0
    for shard in range(SHARDS):
        left = megabytes * 1_000_000 // SHARDS
        with open(data / f"part-{shard:05}.jsonl", "w", encoding="utf-8") as out:
            while left > 0:
                count = int(random.integers(120, 450))
                ranks = numpy.minimum(random.zipf(1.2, count), VOCABULARY) - 1
                document = {
                    "id": identity,
                    "url": f"https://example.org/{identity % 977}/{identity}",
                    "score": round(float(random.random()), 4),
                    "text": " ".join(words[ranks]),
                    "meta": {"language": "en", "tags": ["a", "b"], "quoted": 'say "x"\n'},
                }
                line = json.dumps(document, separators=(",", ":")) + "\n"
                out.write(line)
                left -= len(line)
                identity += 1
    (data / "complete").touch()
    return data


def manifest(job: dict, data: pathlib.Path, out: pathlib.Path, scratch: pathlib.Path) -> dict:
    return {
        "apiVersion": "zephyr.dev/v1alpha1", "kind": "ZephyrJob", "metadata": {"name": "bench"},
        "spec": {
            "pipeline": {
                "source": {"files": {"paths": [f"file://{data}/*.jsonl"]}},
                "steps": job["steps"],
                "sink": {"files": {"path": f"file://{out}/part-{{shard:05}}.jsonl"}},
            },
            "storage": {"uri": f"file://{scratch}"},
            "workers": {"replicas": 1, "slots": os.cpu_count()},
        },
    }


def answer(name: str, paths: list[pathlib.Path], counted_by_uniq: bool = False) -> tuple:
    """What must agree between the programs: J1 rows and a sum of lengths; J2 a hash of all words with their counts."""
    if name == "J1":
        rows = lengths = 0
        for path in paths:
            with open(path, encoding="utf-8") as lines:
                for line in lines:
                    rows += 1
                    lengths += json.loads(line)["length"]
        return rows, lengths
    counts = []
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                if counted_by_uniq:
                    count, key = line.split()
                    counts.append((key, int(count)))
                else:
                    row = json.loads(line)
                    counts.append((row["key"], row["count"]))
    counts.sort()
    return len(counts), hashlib.sha256(repr(counts).encode()).hexdigest()[:12]


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--program", required=True)
    arguments.add_argument("--folder", type=pathlib.Path, required=True)
    arguments.add_argument("--megabytes", type=int, default=512)
    arguments.add_argument("--only", default="zephyr,jq,duckdb,polars")
    arguments.add_argument("--jobs", default="J1,J2")
    options = arguments.parse_args()
    adopt_orphans()
    data = generate(options.folder, options.megabytes)
    size = sum(path.stat().st_size for path in data.glob("*.jsonl"))
    cores = os.cpu_count()
    print(f"{size / 1e6:.0f} MB of JSONL in {SHARDS} files, {cores} cores; seconds")
    print(f"{'job':<4} {'program':<8} {'wall':>8} {'CPU':>8} {'MB/s':>8}  answer")
    work = options.folder / "work"
    for name, job in (("J1", J1), ("J2", J2)):
        if name not in options.jobs.split(","):
            continue
        for program in options.only.split(","):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            out = work / "out.jsonl"
            pattern = f"{data}/*.jsonl"
            if program == "zephyr":
                path = work / "job.json"
                path.write_text(json.dumps(manifest(job, data, work / "out", work / "scratch")))
                command = [options.program, "run", "-f", str(path)]
            elif program == "jq":
                command = JQ[name].replace("IN", pattern).replace("OUT", str(out))
            elif program == "duckdb":
                sql = DUCKDB[name].replace("'IN'", f"'{pattern}'").replace("'OUT'", f"'{out}'")
                command = [sys.executable, "-c", f"import duckdb; duckdb.sql({sql!r})"]
            else:
                code = POLARS[name].replace("IN", repr(pattern)).replace("OUT", repr(str(out)))
                command = [sys.executable, "-c", f"import polars as pl\n({code})"]
            try:
                wall, cpu = timed(command)
            except subprocess.CalledProcessError as error:
                print(f"{name:<4} {program:<8} failed: {(error.stderr or b'').decode()[-300:]}")
                continue
            written = sorted((work / "out").glob("part-*")) if program == "zephyr" else [out]
            result = answer(name, written, counted_by_uniq=program == "jq" and name == "J2")
            print(f"{name:<4} {program:<8} {wall:8.2f} {cpu:8.2f} {size / 1e6 / wall:8.1f}  {result}", flush=True)
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
