#!/usr/bin/env python3
"""Prints how many nanoseconds of processor time some programs take for each record, with this evaluator, and with those of
jq, jaq and gojq that are installed.

  speed.py RECORDS [--records N] [--runs N]

RECORDS is the example `records` of this package, built in the release profile. Each program of each tool reads the same
file and writes its results to a file, RUNS times. The printed time is that of the fastest run, minus the time for an empty
file. A line ends in `differs` if the results of a tool are not those of this evaluator.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

PROGRAMS = {
    "identity": ".",
    "fields": "{id, text}",
    "filter": "select(.score > 0.5)",
    "change": ".score *= 2 | del(.meta.lang)",
    "numbers": ".score * 100 | floor | tostring",
    "words": '.text | ascii_downcase | split(" ")[]',
    "regex": '.text | [match("[aeiou]{2,}"; "g").string] | length',
    "replace": '.text | gsub("[^a-z]+"; "-")',
    "array": "[.items[] | select(.price > 50) | .price] | add",
    "groups": ".items | group_by(.kind) | map({kind: .[0].kind, count: length})",
    "paths": "[paths(scalars)] | length",
    "dates": ".time | todate | fromdate",
    "function": "def fold(f): reduce .items[] as $item (0; . + ($item | f)); fold(.price * .count)",
}


def records(count):
    """Lines of JSON, the same ones each time."""
    rng = random.Random(1)
    words = ["".join(rng.choices("etaoinshrdlucmfwyp", k=rng.randrange(2, 10))) for _ in range(500)]
    for number in range(count):
        items = [{"kind": rng.choice("abcd"), "price": round(rng.random() * 100, 2), "count": rng.randrange(9)} for _ in range(8)]
        yield json.dumps(
            {
                "id": number,
                "text": " ".join(rng.choices(words, k=30)).capitalize(),
                "score": round(rng.random(), 4),
                "time": 1_700_000_000 + number,
                "meta": {"lang": "en", "tags": rng.choices(words, k=3)},
                "items": items,
            },
            separators=(",", ":"),
        )


def seconds(command, out):
    """Processor seconds of a command that writes to a file."""
    with open(out, "wb") as file:
        process = subprocess.Popen(command, stdout=file)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} failed on {command[-2]!r}")
    return usage.ru_utime + usage.ru_stime


def results(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def measure(tools, runs, folder, count):
    data, empty = folder / "records.jsonl", folder / "empty.jsonl"
    data.write_text("".join(line + "\n" for line in records(count)))
    empty.write_text("")
    print(f"{count} records, {data.stat().st_size / count:.0f} bytes each; ns of processor time a record")
    print(f"{'':<10}" + "".join(f"{name:>10}" for name in tools))
    for title, program in PROGRAMS.items():
        line, wrong, expected = f"{title:<10}", [], None
        for name, command in tools.items():
            out = folder / name
            best = min(seconds([*command, program, str(data)], out) for _ in range(runs))
            found = results(out)
            expected = found if expected is None else expected
            wrong += [name] if found != expected else []
            start = min(seconds([*command, program, str(empty)], folder / "nothing") for _ in range(runs))
            line += f"{max(best - start, 0) / count * 1e9:>10.0f}"
        print(line + (f"  {', '.join(wrong)} differs" if wrong else ""), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ours")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    tools = {"zephyr-jq": [options.ours]}
    for name in ("jq", "jaq", "gojq"):
        if path := shutil.which(name):
            tools[name] = [path, "-c"]
    with tempfile.TemporaryDirectory() as folder:
        measure(tools, options.runs, pathlib.Path(folder), options.records)


if __name__ == "__main__":
    main()
