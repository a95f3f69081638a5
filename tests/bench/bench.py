"""Jobs on generated data, by kubectl-zephyr run and by jq, DuckDB, Polars and a Python script with orjson.

J1 filter + map: keeps documents with a score above 0.5, and writes id, lower-cased text and its length.
J2 word count: lower-cases, splits at spaces, counts each word.
J3 deduplicate by text: the first document of each text.
J5 the same as J1, on JSON with spaces after commas and colons.
J6 web log: parses lines with a regular expression, leaves out some, counts by status and hour.
J7 groups: count, sums, averages, least and greatest values of ten columns, for 1,000 keys (J7a) and 1,000,000 keys (J7b).
J8 nested: one record for each element of an array of objects, with joins, conditions and defaults.

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

import numpy

from timed import adopt_orphans, timed

SHARDS = 32
SEED = 20260101
VOCABULARY = 50_000
COLUMNS = 10

LOG_LINE = r'^(?<client>[^ ]+) [^ ]+ [^ ]+ \[(?<day>[^:]+):(?<hour>[0-9]+):[^\]]*\] "(?<method>[A-Z]+) (?<path>[^ "]+)[^"]*" (?<status>[0-9]{3}) (?<bytes>[0-9]+)$'
FUNCTIONS = ("sum", "avg", "min", "max")


def grouped(key: str) -> list[dict]:
    aggregates = {"n": {"count": {}}}
    for column in range(COLUMNS):
        aggregates[f"c{column}"] = {FUNCTIONS[column % len(FUNCTIONS)]: f".c{column}"}
    return [{"groupBy": {"key": f".{key}", "aggregate": aggregates, "shards": 8}}]


MAPPED = [{"filter": ".score > 0.5"}, {"map": "{id, text: (.text | ascii_downcase), length: (.text | length)}"}]
STEPS = {
    "J1": MAPPED,
    "J2": [
        {"flatMap": '.text | ascii_downcase | split(" ")[]'},
        {"groupBy": {"key": ".", "aggregate": {"count": {"count": {}}}, "shards": 8}},
    ],
    "J3": [{"deduplicate": {"key": ".text", "shards": 8}}],
    "J5": MAPPED,
    "J6": [
        {"flatMap": f"capture({json.dumps(LOG_LINE)})"},
        {"filter": '.method == "GET"'},
        {"groupBy": {"key": "[.status, .hour]", "aggregate": {"count": {"count": {}}}, "shards": 8}},
    ],
    "J7a": grouped("few"),
    "J7b": grouped("many"),
    "J8": [
        {"flatMap": '. as $order | .items[] | {order: $order.id, sku: .sku, tags: (.tags | join("+")), '
                    'kind: (if .price > 50 then "dear" else "cheap" end), note: (.note // "none"), '
                    'extra: [.extra | to_entries[] | "\\(.key)=\\(.value)"]}'},
    ],
}
KINDS = {"J1": "text", "J2": "text", "J3": "text", "J5": "spaced", "J6": "log", "J7a": "numbers", "J7b": "numbers", "J8": "orders"}

JQ = {
    "J1": 'jq -c "select(.score > 0.5) | {id, text: (.text | ascii_downcase), length: (.text | length)}" IN > OUT',
    "J2": "jq -r '.text | ascii_downcase | split(\" \")[]' IN | LC_ALL=C sort -S 1G | uniq -c > OUT",
    "J8": "jq -c '%s' IN > OUT" % STEPS["J8"][0]["flatMap"],
}
DUCKDB_MAP = """copy (select id, lower(text) as text, length(text) as length from read_json('IN', format='newline_delimited',
             columns={id: 'BIGINT', text: 'VARCHAR', score: 'DOUBLE'}) where score > 0.5) to 'OUT' (format json)"""
DUCKDB_COLUMNS = ", ".join(
    f"{FUNCTIONS[column % len(FUNCTIONS)]}(c{column}) as c{column}" for column in range(COLUMNS))
DUCKDB_TYPES = ", ".join(f"c{column}: '{'BIGINT' if column % 2 else 'DOUBLE'}'" for column in range(COLUMNS))
DUCKDB_LINE = LOG_LINE.replace("?<client>", "").replace("?<day>", "").replace("?<path>", "").replace("?<bytes>", "")
DUCKDB_GROUP = """copy (select KEY as key, count(*) as n, %s from read_json('IN', format='newline_delimited',
             columns={KEY: 'BIGINT', %s}) group by key) to 'OUT' (format json)""" % (DUCKDB_COLUMNS, DUCKDB_TYPES)
DUCKDB = {
    "J1": DUCKDB_MAP,
    "J2": """copy (select key, count(*) as count from (select unnest(string_split(lower(text), ' ')) as key
             from read_json('IN', format='newline_delimited', columns={text: 'VARCHAR'})) group by key) to 'OUT' (format json)""",
    "J3": """copy (select distinct on (text) * from read_json('IN', format='newline_delimited', columns={id: 'BIGINT',
             url: 'VARCHAR', score: 'DOUBLE', text: 'VARCHAR', meta: 'JSON'}) order by text, id) to 'OUT' (format json)""",
    "J5": DUCKDB_MAP,
    "J6": """copy (select [m.status, m.hour] as key, count(*) as count from (select regexp_extract(line,
             '^[^ ]+ [^ ]+ [^ ]+ \\[[^:]+:([0-9]+):[^\\]]*\\] "([A-Z]+) [^ "]+[^"]*" ([0-9]{3}) [0-9]+$',
             ['hour', 'method', 'status']) as m from read_csv('IN', columns={line: 'VARCHAR'}, delim='\\x01', quote='',
             escape='', header=false)) where m.method = 'GET' group by key) to 'OUT' (format json)""",
    "J7a": DUCKDB_GROUP.replace("KEY", "few"),
    "J7b": DUCKDB_GROUP.replace("KEY", "many"),
}
POLARS_MAP = """pl.scan_ndjson(IN).filter(pl.col('score') > 0.5).select('id', pl.col('text').str.to_lowercase(),
             pl.col('text').str.len_chars().alias('length')).sink_ndjson(OUT)"""
POLARS_COLUMNS = ", ".join(
    f"pl.col('c{column}').{({'avg': 'mean'}).get(FUNCTIONS[column % 4], FUNCTIONS[column % 4])}()" for column in range(COLUMNS))
POLARS_GROUP = "pl.scan_ndjson(IN).group_by(pl.col('KEY').alias('key')).agg(pl.len().alias('n'), %s).sink_ndjson(OUT)" % POLARS_COLUMNS
POLARS = {
    "J1": POLARS_MAP,
    "J2": """pl.scan_ndjson(IN).select(pl.col('text').str.to_lowercase().str.split(' ').alias('key')).explode('key')
             .group_by('key').len('count').sink_ndjson(OUT)""",
    "J3": "pl.scan_ndjson(IN).unique(subset='text', keep='first', maintain_order=True).sink_ndjson(OUT)",
    "J5": POLARS_MAP,
    "J6": """pl.scan_csv(IN, has_header=False, separator='\\x01', quote_char=None, new_columns=['line'])
             .select(pl.col('line').str.extract_groups(LINE)).unnest('line').filter(pl.col('method') == 'GET')
             .group_by(pl.concat_list('status', 'hour').alias('key')).len('count').sink_ndjson(OUT)""".replace(
                 "LINE", repr(LOG_LINE)),
    "J7a": POLARS_GROUP.replace("KEY", "few"),
    "J7b": POLARS_GROUP.replace("KEY", "many"),
}
PYTHON_READ = "import glob, orjson\nlines = (line for path in sorted(glob.glob(IN)) for line in open(path, 'rb'))\nout = open(OUT, 'wb')\n"
PYTHON_MAP = PYTHON_READ + """for line in lines:
    record = orjson.loads(line)
    if record['score'] > 0.5:
        text = record['text']
        out.write(orjson.dumps({'id': record['id'], 'text': text.lower(), 'length': len(text)}) + b'\\n')
"""
PYTHON_COUNTS = "for key, count in counts.items():\n    out.write(orjson.dumps({'key': key, 'count': count}) + b'\\n')\n"
PYTHON = {
    "J1": PYTHON_MAP,
    "J2": PYTHON_READ + "import collections\ncounts = collections.Counter()\nfor line in lines:\n"
          "    counts.update(orjson.loads(line)['text'].lower().split(' '))\n" + PYTHON_COUNTS,
    "J3": PYTHON_READ + "seen = set()\nfor line in lines:\n    text = orjson.loads(line)['text']\n"
          "    if text not in seen:\n        seen.add(text)\n        out.write(line)\n",
    "J5": PYTHON_MAP,
    "J6": PYTHON_READ + "import collections, re\nline_of = re.compile(LINE)\ncounts = collections.Counter()\nfor line in lines:\n"
          "    found = line_of.match(line.decode().rstrip('\\n'))\n    if found and found['method'] == 'GET':\n"
          "        counts[(found['status'], found['hour'])] += 1\n".replace("LINE", repr(LOG_LINE.replace("?<", "?P<"))) + PYTHON_COUNTS,
    "J8": PYTHON_READ + """for line in lines:
    order = orjson.loads(line)
    for item in order['items']:
        row = {'order': order['id'], 'sku': item['sku'], 'tags': '+'.join(item['tags']),
               'kind': 'dear' if item['price'] > 50 else 'cheap', 'note': item['note'] or 'none',
               'extra': [f'{key}={value}' for key, value in item['extra'].items()]}
        out.write(orjson.dumps(row) + b'\\n')
""",
}


def documents(random: numpy.random.Generator, words: numpy.ndarray, first: int):
    for identity in range(first, sys.maxsize):
        count = int(random.integers(120, 450))
        ranks = numpy.minimum(random.zipf(1.2, count), VOCABULARY) - 1
        yield {
            "id": identity,
            "url": f"https://example.org/{identity % 977}/{identity}",
            "score": round(float(random.random()), 4),
            "text": " ".join(words[ranks]),
            "meta": {"language": "en", "tags": ["a", "b"], "quoted": 'say "x"\n'},
        }


def log_lines(random: numpy.random.Generator, first: int):
    for number in range(first, sys.maxsize):
        method = ("GET", "GET", "GET", "POST")[int(random.integers(4))]
        status = (200, 200, 200, 304, 404, 500)[int(random.integers(6))]
        yield (f"10.{number % 251}.{number % 13}.{number % 199} - - [01/Jan/2026:{int(random.integers(24)):02}:{number % 60:02}:00 +0000] "
               f'"{method} /page/{number % 5003}?q={number} HTTP/1.1" {status} {int(random.integers(100, 90_000))}')


def numbers(random: numpy.random.Generator, first: int):
    for number in range(first, sys.maxsize):
        record = {"few": int(random.integers(1_000)), "many": int(random.integers(1_000_000))}
        for column in range(COLUMNS):
            value = int(random.integers(-1_000_000, 1_000_000))
            record[f"c{column}"] = value if column % 2 else value / 1000
        yield record


def orders(random: numpy.random.Generator, first: int):
    for number in range(first, sys.maxsize):
        items = [{
            "sku": f"s-{int(random.integers(10_000))}", "price": int(random.integers(100)),
            "tags": ["new", "blue", "large"][:int(random.integers(4))], "note": None if number % 3 else f"note {number}",
            "extra": {"colour": "red", "weight": int(random.integers(50))},
        } for _ in range(int(random.integers(1, 9)))]
        yield {"id": number, "customer": f"c{number % 4999}", "items": items}


def vocabulary(random: numpy.random.Generator) -> numpy.ndarray:
    letters = numpy.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = numpy.array(["".join(random.choice(letters[:18], random.integers(2, 11))) for _ in range(VOCABULARY)])
    words[::13] = numpy.char.capitalize(words[::13])
    return words


def generate(folder: pathlib.Path, megabytes: int, kind: str = "text") -> pathlib.Path:
    """Records in SHARDS files; the same bytes for the same kind and size."""
    data = folder / (f"data-{megabytes}" if kind == "text" else f"data-{megabytes}-{kind}")
    if (data / "complete").exists():
        return data
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    random = numpy.random.default_rng(SEED)
    words = vocabulary(random)
    separators = (", ", ": ") if kind == "spaced" else (",", ":")
    identity = 0
    for shard in range(SHARDS):
        left = megabytes * 1_000_000 // SHARDS
        records = {
            "text": lambda: documents(random, words, identity), "spaced": lambda: documents(random, words, identity),
            "log": lambda: log_lines(random, identity), "numbers": lambda: numbers(random, identity),
            "orders": lambda: orders(random, identity),
        }[kind]()
        with open(data / f"part-{shard:05}.{'txt' if kind == 'log' else 'jsonl'}", "w", encoding="utf-8") as out:
            while left > 0:
                record = next(records)
                line = (record if kind == "log" else json.dumps(record, separators=separators)) + "\n"
                out.write(line)
                left -= len(line)
                identity += 1
    (data / "complete").touch()
    return data


def manifest(steps: list[dict], pattern: str, out: pathlib.Path, scratch: pathlib.Path) -> dict:
    return {
        "apiVersion": "zephyr.dev/v1alpha1", "kind": "ZephyrJob", "metadata": {"name": "bench"},
        "spec": {
            "pipeline": {
                "source": {"files": {"paths": [f"file://{pattern}"]}},
                "steps": steps,
                "sink": {"files": {"path": f"file://{out}/part-{{shard:05}}.jsonl"}},
            },
            "storage": {"uri": f"file://{scratch}"},
            "workers": {"replicas": 1, "slots": os.cpu_count()},
        },
    }


def rounded(value: object) -> object:
    """Sums and averages of floating point differ in the last digits between programs: only ours are exact."""
    return float(f"{value:.9g}") if isinstance(value, (int, float)) else value


def fact(name: str, row: dict) -> str:
    """What must agree of one row of output."""
    if name in ("J1", "J5"):
        return f"{row['id']} {row['length']} {row['text'][:20]}"
    if name == "J3":
        return str(row["id"])
    if name.startswith("J7"):
        return " ".join(str(rounded(row[column])) for column in sorted(row))
    return json.dumps(row, sort_keys=True)


def answer(name: str, paths: list[pathlib.Path], counted_by_uniq: bool = False) -> tuple:
    """The number of rows, and a hash of them in any order."""
    total = rows = 0
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                if counted_by_uniq:
                    count, key = line.split()
                    row = {"key": key, "count": int(count)}
                else:
                    row = json.loads(line)
                digest = hashlib.blake2b(fact(name, row).encode(), digest_size=8).digest()
                total = (total + int.from_bytes(digest)) % 2**64
                rows += 1
    return rows, f"{total:016x}"


def command_of(program: str, name: str, binary: str, pattern: str, work: pathlib.Path) -> list[str] | str | None:
    out = work / "out.jsonl"
    if program == "zephyr":
        path = work / "job.json"
        path.write_text(json.dumps(manifest(STEPS[name], pattern, work / "out", work / "scratch")))
        return [binary, "run", "-f", str(path)]
    texts = {"jq": JQ, "duckdb": DUCKDB, "polars": POLARS, "python": PYTHON}[program]
    if name not in texts:
        return None
    if program == "jq":
        return texts[name].replace("IN", pattern).replace("OUT", str(out))
    if program == "duckdb":
        sql = texts[name].replace("'IN'", f"'{pattern}'").replace("'OUT'", f"'{out}'")
        return [sys.executable, "-c", f"import duckdb; duckdb.sql({sql!r})"]
    code = texts[name].replace("(IN", f"({pattern!r}").replace("(OUT", f"({str(out)!r}")
    return [sys.executable, "-c", f"import polars as pl\n({code})" if program == "polars" else code]


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--program", required=True)
    arguments.add_argument("--folder", type=pathlib.Path, required=True)
    arguments.add_argument("--megabytes", type=int, default=512)
    arguments.add_argument("--only", default="zephyr,jq,duckdb,polars,python")
    arguments.add_argument("--jobs", default=",".join(STEPS))
    options = arguments.parse_args()
    adopt_orphans()
    print(f"about {options.megabytes} MB in {SHARDS} files, {os.cpu_count()} cores; seconds")
    print(f"{'job':<4} {'program':<8} {'wall':>8} {'CPU':>8} {'MB/s':>8}  answer")
    work = options.folder / "work"
    for name in options.jobs.split(","):
        data = generate(options.folder, options.megabytes, KINDS[name])
        pattern = f"{data}/part-*"
        size = sum(path.stat().st_size for path in data.glob("part-*"))
        for program in options.only.split(","):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            command = command_of(program, name, options.program, pattern, work)
            if command is None:
                continue
            try:
                wall, cpu = timed(command)
            except subprocess.CalledProcessError as error:
                print(f"{name:<4} {program:<8} failed: {(error.stderr or b'').decode()[-300:]}", flush=True)
                continue
            written = sorted((work / "out").glob("part-*")) if program == "zephyr" else [work / "out.jsonl"]
            result = answer(name, written, counted_by_uniq=program == "jq" and name == "J2")
            print(f"{name:<4} {program:<8} {wall:8.2f} {cpu:8.2f} {size / 1e6 / wall:8.1f}  {result}", flush=True)
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
