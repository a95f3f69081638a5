#!/usr/bin/env python3
"""Writes the table of expectations: our expressions, with the answers of real jq 1.8.1.

Reads expectations/NAME.txt and writes expectations/NAME.jsonl beside it. A line of the source is

  # a comment
  = JSON             an input; several of them in a row are inputs of all programs that follow
  =pairs [JSON, …]   all pairs of these as inputs
  @@ JSON            a program as JSON text, for newlines
  anything else      a program, run on each of the inputs
"""
import itertools
import json
import pathlib
import sys

import oracle

FOLDER = pathlib.Path(__file__).parent / "expectations"


def cases(source):
    """Pairs of program and input, the input as JSON text."""
    inputs, is_new = ["null"], True
    for line in source.splitlines():
        if not line.strip() or line.startswith("# ") or line == "#":
            continue
        if line.startswith("=pairs "):
            values = [oracle.text_of(value) for value in oracle.read(line[7:])]
            inputs, is_new = [f"[{a},{b}]" for a, b in itertools.product(values, values)], True
        elif line.startswith("= "):
            inputs = [line[2:]] if is_new else inputs + [line[2:]]
            is_new = False
        else:
            is_new = True
            program = json.loads(line[3:]) if line.startswith("@@ ") else line
            for text in inputs:
                yield program, text


def main():
    names = sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.txt"))
    asked = oracle.Oracle()
    total = 0
    for name in names:
        lines, seen = [], set()
        for program, text in cases((FOLDER / f"{name}.txt").read_text()):
            if (program, text) in seen:
                continue
            seen.add((program, text))
            case = f'"program":{json.dumps(program, ensure_ascii=False)},"input":{text}'
            answer = asked.ask(f"{{{case}}}".encode())
            if answer.startswith(b'{"stopped"'):
                print(f"{name}: {program} on {text} does not end in jq: {answer.decode()}")
                continue
            lines.append(f"{{{case},{answer.decode()[1:]}\n")
        (FOLDER / f"{name}.jsonl").write_text("".join(lines))
        total += len(lines)
        print(f"{name}: {len(lines)}")
    print(f"{total} expectations")


if __name__ == "__main__":
    main()
