#!/usr/bin/env python3
"""Runs cases through real jq 1.8.1 (the PyPI package `jq`), and prints one answer per line.

Reads lines {"program": text, "input": any JSON} from standard input. Prints for each
{"outputs": [...]}, with "error": text if the program failed after these outputs, or
{"refused": text} if it does not compile, or {"stopped": text} if it took too long, took too much
memory or crashed jq. Programs run in a child without an environment, which is started again after a crash.
"""
import json
import os
import resource
import select
import subprocess
import sys

SECONDS_A_PROGRAM = float(os.environ.get("JQ_ORACLE_SECONDS", "5"))
CHILD_MEMORY = 2 << 30
# An endless program must not fill the memory before its time limit.
MAX_OUTPUTS = 10_000


class Number(float):
    """A number that keeps its text."""

    def __new__(cls, text):
        number = super().__new__(cls, text)
        number.text = text
        return number


def text_of(value):
    """JSON text, with the numbers as they were read. Lone surrogates become U+FFFD, as in jq."""
    if isinstance(value, Number):
        return value.text
    if isinstance(value, list):
        return "[" + ",".join(map(text_of, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(json.dumps(k) + ":" + text_of(v) for k, v in value.items()) + "}"
    return json.dumps(value)


def read(line):
    return json.loads(line, parse_float=Number, parse_int=Number, parse_constant=Number)


def answer(jq, case):
    # The package's own conversion would round numbers, so jq itself writes the outputs.
    try:
        program = jq.compile("(" + case["program"] + "\n)|tojson")
    except ValueError as error:
        return {"refused": str(error)}
    outputs = []
    try:
        for output in program.input_text(text_of(case.get("input"))):
            outputs.append(output)
            if len(outputs) > MAX_OUTPUTS:
                return {"stopped": "too many outputs"}
    except ValueError as error:
        return {"outputs": outputs, "error": str(error)}
    return {"outputs": outputs}


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (CHILD_MEMORY, CHILD_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def child():
    import jq

    # jq writes warnings and the output of `debug` to standard error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for line in sys.stdin.buffer:
        try:
            result = answer(jq, read(line))
        except MemoryError:
            result = {"stopped": "memory"}
        if "outputs" in result:
            text = '{"outputs":[' + ",".join(result["outputs"]) + "]"
            if "error" in result:
                text += ',"error":' + json.dumps(result["error"])
            text += "}"
        else:
            text = json.dumps(result)
        sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
        sys.stdout.buffer.flush()


class Oracle:
    """A child that answers cases one by one: real jq, or another program that does as this one."""

    def __init__(self, command=None):
        self.command = command or [sys.executable, __file__, "--child"]
        self.process = None

    def ask(self, line):
        """The answer to one line, as bytes without the newline."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, preexec_fn=limit, env={}
            )
        try:
            self.process.stdin.write(line.rstrip(b"\n") + b"\n")
        except BrokenPipeError:
            return self.stop("crash")
        out = b""
        while not out.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], SECONDS_A_PROGRAM)
            if not ready:
                return self.stop("time")
            some = os.read(self.process.stdout.fileno(), 1 << 20)
            if not some:
                return self.stop("crash")
            out += some
        return out[:-1]

    def stop(self, why):
        self.process.kill()
        self.process.wait()
        self.process = None
        return json.dumps({"stopped": why}).encode()


def main():
    oracle = Oracle()
    for line in sys.stdin.buffer:
        if line.strip():
            sys.stdout.buffer.write(oracle.ask(line) + b"\n")
            sys.stdout.buffer.flush()
    if oracle.process is not None:
        oracle.process.stdin.close()
        oracle.process.wait()


if __name__ == "__main__":
    child() if sys.argv[1:] == ["--child"] else main()
