"""Compares steps with an independent computation: steps.py PROGRAM SEEDS.

For each seed this makes files of records with nulls, odd types, equal and frequent keys, empty files
and single records. PROGRAM is kubectl-zephyr. It runs one job for each kind of step on this machine,
and this program computes the same records in plain Python. The jobs of a seed run with 1, 3 and 8
workers, and must write the same bytes. Nothing here uses jq or code of the engine.
"""

import json
import random
import statistics
import subprocess
import sys
import tempfile
from decimal import Decimal
from fractions import Fraction
from functools import cmp_to_key
from math import ceil
from pathlib import Path

WORKERS = [1, 3, 8]
# Texts of JSON values. The texts of a row are equal values.
VALUES = [
    ["null"],
    ["false"],
    ["true"],
    ["-2.5", "-25e-1"],
    ["0", "-0.0"],
    ["1", "1.0", "10e-1"],
    ["2"],
    ["9007199254740992"],
    ["9007199254740993"],
    ['"a"'],
    ['"é b"'],
    ["[1]", "[1.0]"],
    ["[1,null]"],
    ['{"a":1,"b":2}', '{"b":2.0,"a":1}'],
    ['{"a":3}'],
]
NUMBERS = ["null", "0", "1", "-3", "2.5", "0.1", "0.2", "1e2", "1000000007", "9007199254740993", "1e-3"]


def parse(text):
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def kind(value):
    if value is None:
        return 0
    if isinstance(value, bool):
        return 1
    return {Decimal: 2, str: 3, list: 4, dict: 5}[type(value)]


def compare(left, right):
    """jq's order: null, false, true, numbers, strings by code point, arrays, objects."""
    if kind(left) != kind(right):
        return -1 if kind(left) < kind(right) else 1
    if kind(left) == 0:
        return 0
    if kind(left) in (1, 2, 3):
        return (left > right) - (left < right)
    if kind(left) == 4:
        for one, other in zip(left, right):
            if compare(one, other):
                return compare(one, other)
        return (len(left) > len(right)) - (len(left) < len(right))
    keys = sorted(left), sorted(right)
    if keys[0] != keys[1]:
        return compare(*keys)
    for key in keys[0]:
        if compare(left[key], right[key]):
            return compare(left[key], right[key])
    return 0


order = cmp_to_key(compare)


class Record:
    """A record of three fields, of which each may be missing, with the texts of the fields."""

    def __init__(self, fields):
        self.fields = fields
        self.text = "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"

    def get(self, name):
        return self.fields.get(name, "null")


def draw(dice):
    """The records of each file."""
    def pick():
        return dice.choice(dice.choice(VALUES))

    keys = [pick() for _ in range(dice.choice([1, 2, 12]))]
    is_skewed = dice.random() < 0.3
    files = []
    for _ in range(dice.choice([1, 2, 6])):
        count = dice.choice([0, 0, 1, 7, 60])
        records = []
        for _ in range(count):
            key = keys[0] if is_skewed and dice.random() < 0.9 else dice.choice(keys)
            fields = {"k": key, "n": dice.choice(NUMBERS), "v": pick()}
            for name in list(fields):
                if dice.random() < 0.1:
                    del fields[name]
            names = list(fields)
            dice.shuffle(names)
            records.append(Record({name: fields[name] for name in names}))
        files.append(records)
    return files


def stddev(texts):
    numbers = [Fraction(Decimal(text)) for text in texts if text != "null"]
    return statistics.stdev(numbers) if len(numbers) > 1 else None


def percentile(texts, p):
    values = sorted((text for text in texts if text != "null"), key=lambda text: order(parse(text)))
    if not values:
        return "null"
    found = parse(values[max(ceil(Fraction(p) * len(values)), 1) - 1])
    # Of equal values, the text of the first one is the result.
    return next(text for text in texts if compare(parse(text), found) == 0)


def top(records, k):
    ranked = sorted(records, key=cmp_to_key(lambda a, b: -compare(parse(a.get("v")), parse(b.get("v")))))
    return "[" + ",".join(record.text for record in ranked[:k]) + "]"


def distinct(texts):
    found = []
    for text in texts:
        value = parse(text)
        if value is not None and not any(compare(value, other) == 0 for other in found):
            found.append(value)
    return str(len(found))


def holds(text):
    return text not in ("null", "false")


AGGREGATES = {
    "all": {"all": ".v"},
    "any": {"any": ".v"},
    "different": {"countDistinct": ".v"},
    "first": {"first": ".v"},
    "folded": {"reduce": {"init": "[]", "update": "[.state, (.record | length)]"}},
    "greatest": {"topK": {"by": ".v", "k": 3}},
    "last": {"last": ".v"},
    "list": {"collect": ".v"},
    "median": {"percentile": {"of": ".n", "p": 0.5}},
    "most": {"percentile": {"of": ".v", "p": 0.95}},
    "n": {"count": {}},
    "spread": {"stddev": ".n"},
}


def aggregates(arrived, ordered):
    """The texts of all aggregates, in the order of their names; `spread` is a number."""
    values = [record.get("v") for record in arrived]
    sorted_values = [record.get("v") for record in ordered]
    folded = "[]"
    for record in ordered:
        folded = f"[{folded},{len(record.fields)}]"
    return {
        "all": json.dumps(all(map(holds, values))),
        "any": json.dumps(any(map(holds, values))),
        "different": distinct(values),
        "first": sorted_values[0] if ordered else "null",
        "folded": folded,
        "greatest": top(arrived, 3),
        "last": sorted_values[-1] if ordered else "null",
        "list": "[" + ",".join(sorted_values) + "]",
        "median": percentile([record.get("n") for record in arrived], "0.5"),
        "most": percentile(values, "0.95"),
        "n": str(len(arrived)),
        "spread": stddev([record.get("n") for record in arrived]),
    }


def group(records, by=None, descending=False):
    """The groups in the order of their keys, as dictionaries of texts."""
    groups = []
    for record in records:
        key = parse(record.get("k"))
        for group in groups:
            if compare(group[0], key) == 0:
                group[2].append(record)
                break
        else:
            groups.append((key, record.get("k"), [record]))
    results = []
    for _, text, members in sorted(groups, key=lambda group: order(group[0])):
        ordered = members
        if by:
            sign = -1 if descending else 1
            ordered = sorted(members, key=cmp_to_key(lambda a, b: sign * compare(parse(a.get(by)), parse(b.get(by)))))
        results.append({"key": text, **aggregates(members, ordered)})
    return results


def is_same(line, fields):
    """Whether the line is an object of these texts; a float is compared as a number."""
    expected = dict(fields)
    number = expected.get("spread")
    if number is not None:
        found = json.loads(line)["spread"]
        if found != number:
            return False
        before, _, rest = line.partition('"spread":')
        end = min(position for position in (rest.find(","), rest.find("}")) if position >= 0)
        expected["spread"] = rest[:end]
    elif "spread" in expected:
        expected["spread"] = "null"
    text = "{" + ",".join(f'"{name}":{value}' for name, value in expected.items()) + "}"
    return line == text


MASK = (1 << 64) - 1
# The bytes 24 to 55 of the secret of XXH3.
SECRET = bytes.fromhex("7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248e")


def hash_of_place(shard, position, seed):
    """XXH3 of 64 bits of the 12 bytes of shard and position, by its specification."""
    place = shard.to_bytes(4, "little") + position.to_bytes(8, "little")
    secret = [int.from_bytes(SECRET[at : at + 8], "little") for at in range(0, 32, 8)]
    low = int.from_bytes(place[:8], "little") ^ ((secret[0] ^ secret[1]) + seed & MASK)
    high = int.from_bytes(place[4:], "little") ^ ((secret[2] ^ secret[3]) - seed & MASK)
    product = low * high
    swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
    mixed = 12 + swapped + high + ((product & MASK) ^ (product >> 64)) & MASK
    mixed ^= mixed >> 37
    mixed = mixed * 0x165667919E3779F9 & MASK
    return mixed ^ (mixed >> 32)


def sample(files, fraction, seed):
    bound = int(Fraction(fraction) * (1 << 64))
    return [
        [record.text for position, record in enumerate(records) if hash_of_place(shard, position, seed) < bound]
        for shard, records in enumerate(files)
    ]


def windows(files, belongs):
    result = []
    for records in files:
        open_windows = []
        for record in records:
            if open_windows and belongs(open_windows[-1], record):
                open_windows[-1].append(record)
            else:
                open_windows.append([record])
        result.append(["[" + ",".join(record.text for record in window) + "]" for window in open_windows])
    return result


def fields_text(fields):
    return "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"


def jobs(dice, files):
    """Pairs of steps and a function that checks the lines of each output file."""
    records = [record for shard in files for record in shard]
    shards = dice.choice([1, 2, 5])
    by, descending = dice.choice(["v", "n"]), dice.choice([False, True])
    count = dice.choice([1, 2, 3, 50])
    fraction, seed = dice.choice([0.0, 0.1, 0.5, 1.0]), dice.choice([0, 1, 9007199254740991])

    def check_groups(expected):
        def check(outputs):
            lines = [line for lines in outputs for line in lines]
            keys = [[order(parse(json.dumps(json.loads(line)["key"]))) for line in lines] for lines in outputs]
            if any(shard != sorted(shard) for shard in keys):
                return False
            unmatched = list(expected)
            for line in lines:
                found = next((each for each in unmatched if is_same(line, each)), None)
                if found is None:
                    return False
                unmatched.remove(found)
            return not unmatched
        return check

    def exactly(expected):
        return lambda outputs: outputs == expected

    def without(record):
        return fields_text({name: text for name, text in record.fields.items() if name != "v"})

    def renamed(record):
        names = {"k": "n", "n": "k"}
        return fields_text({names.get(name, name): text for name, text in record.fields.items()})

    def dropped_inside(record):
        inner = {'{"a":1,"b":2}': '{"b":2}', '{"b":2.0,"a":1}': '{"b":2.0}', '{"a":3}': "{}"}
        return fields_text({name: inner.get(text, text) if name == "v" else text for name, text in record.fields.items()})

    def number(record):
        text = record.get("n")
        return 0.0 if text == "null" else float(text)

    one = [aggregates(records, records)]
    return [
        ([{"groupBy": {"key": ".k", "aggregate": AGGREGATES, "shards": shards}}], check_groups(group(records))),
        (
            [{"groupBy": {"key": ".k", "sortBy": "." + by, "descending": descending, "aggregate": AGGREGATES, "shards": shards}}],
            check_groups(group(records, by, descending)),
        ),
        ([{"aggregate": AGGREGATES}], lambda outputs: len(outputs) == 1 and len(outputs[0]) == 1 and is_same(outputs[0][0], one[0])),
        ([{"drop": ["v", "x.y"]}], exactly([[without(record) for record in shard] for shard in files])),
        ([{"drop": ["v.a"]}], exactly([[dropped_inside(record) for record in shard] for shard in files])),
        ([{"rename": {"k": "n", "n": "k", "x": "z"}}], exactly([[renamed(record) for record in shard] for shard in files])),
        ([{"sample": {"fraction": fraction, "seed": seed}}], exactly(sample(files, fraction, seed))),
        ([{"window": count}], exactly(windows(files, lambda window, _: len(window) < count))),
        (
            [{"windowBy": {"init": "0", "update": ".state + (.record.n // 0)", "while": ".state + (.record.n // 0) <= 100"}}],
            exactly(windows(files, lambda window, record: sum(map(number, window)) + number(record) <= 100)),
        ),
    ]


def run(program, folder, name, steps, workers):
    out = folder / f"{name}-{workers}"
    manifest = {
        "apiVersion": "zephyr.dev/v1alpha1",
        "kind": "ZephyrJob",
        "metadata": {"name": "oracle"},
        "spec": {
            "pipeline": {
                "source": {"files": {"paths": [f"file://{folder}/in/*.jsonl"]}},
                "steps": steps,
                "sink": {"files": {"path": f"file://{out}/{{shard:03}}.jsonl"}},
            },
            "storage": {"uri": f"file://{folder}/scratch"},
            "workers": {"replicas": 1},
        },
    }
    path = folder / "job.json"
    path.write_text(json.dumps(manifest))
    done = subprocess.run(
        [program, "run", "-f", str(path), "--workers", str(workers)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{steps}: {done.stderr}")
    files = sorted(out.glob("*.jsonl"))
    return [file.read_text().splitlines() for file in files]


def main():
    program, seeds = sys.argv[1], int(sys.argv[2])
    kept = [at for at in range(24) if hash_of_place(0, at, 0) < 1 << 62]
    assert kept == [1, 6, 10, 14, 23], kept
    for seed in range(seeds):
        dice = random.Random(seed)
        files = draw(dice)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "in").mkdir()
            for index, records in enumerate(files):
                text = "".join(record.text + "\n" for record in records)
                (folder / "in" / f"{index:03}.jsonl").write_text(text)
            for index, (steps, is_right) in enumerate(jobs(dice, files)):
                outputs = [run(program, folder, f"out{index}", steps, workers) for workers in WORKERS]
                if any(output != outputs[0] for output in outputs):
                    sys.exit(f"seed {seed}: {steps}: the output depends on the number of workers")
                if not is_right(outputs[0]):
                    sys.exit(f"seed {seed}: {steps}\n  input: {[[r.text for r in f] for f in files]}\n  got: {outputs[0]}")
    print(f"{seeds} inputs: the output of every step is the computed one, with {WORKERS} workers")


main()
