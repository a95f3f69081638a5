"""Measures the wall and CPU seconds of a command and of all processes that it starts. The benchmarks import this file, or
run it as a program.

`timed.py COMMAND ...` prints both numbers. The command's standard output is dropped.
"""

import ctypes
import os
import subprocess
import sys
import time


def adopt_orphans() -> None:
    """Makes this process the parent of those whose own parent ended first. The CPU time of a process is known only to the parent that waits for it."""
    pr_set_child_subreaper = 36
    if ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def wait_for_orphans() -> None:
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass


def timed(command: list[str] | str) -> tuple[float, float]:
    """Wall and CPU seconds of a command with all its children."""
    before, start = os.times(), time.monotonic()
    subprocess.run(command, shell=isinstance(command, str), executable="/bin/bash" if isinstance(command, str) else None,
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE if isinstance(command, list) else None)
    wall = time.monotonic() - start
    wait_for_orphans()
    after = os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    adopt_orphans()
    print("%.2f %.2f" % timed(sys.argv[1:]))
