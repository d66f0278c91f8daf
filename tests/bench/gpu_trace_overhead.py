#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What `memplate gpu cold-start -- COMMAND` costs the command: its time from before the fork to its
end, untraced, seen by uprobes, and by the injected library, in turn in one run.

    tests/bench/gpu_trace_overhead.py [--runs N] [--json FILE] [--memplate FILE] -- COMMAND…

A program that uses another file of the driver than memplate expects is held while that gets its
probes: part of its time, and told beside it."""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

BUILT = pathlib.Path(__file__).resolve().parents[2] / "build" / "agent" / "memplate"
TRACED = {"uprobes": "bpf", "injected library": "inject"}


class NotHere(Exception):
    """This machine cannot."""


def untraced(command):
    begin = time.monotonic_ns()
    done = subprocess.run(command, stdout=subprocess.DEVNULL)
    return (time.monotonic_ns() - begin) / 1e6, 0.0, done.returncode


def traced(memplate, backend, command):
    done = subprocess.run(
        [memplate, "gpu", "cold-start", "--json", "--backend", backend, "--", *command],
        capture_output=True,
        text=True,
    )
    if done.returncode == 3:
        raise NotHere(done.stderr.strip())
    if done.returncode != 0:
        sys.exit(done.stderr.strip() or f"memplate: status {done.returncode}")
    report = json.loads(done.stdout)
    (start,) = report["starts"]
    held = start["activities"].get("held by memplate", 0.0)
    return start["total_ms"], held, report["gpu"]


def quantile(samples, share):
    return sorted(samples)[min(len(samples) - 1, int(share * len(samples)))]


def summary(samples, base):
    p50 = statistics.median(samples)
    return {"p50": p50, "p99": quantile(samples, 0.99), "ratio": p50 / base, "samples": samples}


def main():
    usage = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    usage.add_argument("--runs", type=int, default=30, metavar="N")
    usage.add_argument("--json", metavar="FILE")
    usage.add_argument("--memplate", default=str(BUILT), metavar="FILE")
    usage.add_argument("command", nargs="+")
    options = usage.parse_args()
    if options.runs < 1:
        usage.error("--runs must be at least 1")
    cases = ["untraced"]
    for case, backend in TRACED.items():
        try:
            traced(options.memplate, backend, ["/bin/true"])
            cases.append(case)
        except NotHere as reason:
            print(f"without {case}: {reason}", file=sys.stderr)
    if len(cases) == 1:
        sys.exit(1)
    total = {case: [] for case in cases}
    held = {case: [] for case in cases}
    gpu = None
    for run in range(options.runs + 1):
        for turn in range(len(cases)):
            case = cases[(run + turn) % len(cases)]
            if case == "untraced":
                ms, hold, status = untraced(options.command)
                if status != 0:
                    sys.exit(f"the command exited with status {status}")
            else:
                ms, hold, gpu = traced(options.memplate, TRACED[case], options.command)
            if run > 0:  # the first fills caches
                total[case].append(ms)
                held[case].append(hold)
    base = statistics.median(total["untraced"])
    result = {
        "schema": 1,
        "benchmark": "gpu trace overhead",
        "command": options.command,
        "environment": {"kernel": platform.release(), "processors": os.cpu_count(), "gpu": gpu},
        "runs": options.runs,
        "ms": {case: summary(total[case], base) for case in cases},
        "held_ms": {case: statistics.median(held[case]) for case in cases},
    }
    print(f"{' '.join(options.command)}\nLinux {platform.release()}, {os.cpu_count()} processors, "
          f"{gpu['devices'][0]['name']}, driver {gpu['driver']['version']}; "
          f"{options.runs} runs, in turn\n")  # fmt: skip
    print(f"{'':18}{'P50 MS':>10}{'P99 MS':>10}{'RATIO':>8}{'HELD MS':>9}")
    for case in cases:
        one = result["ms"][case]
        print(f"{case:18}{one['p50']:10.2f}{one['p99']:10.2f}{one['ratio']:8.3f}"
              f"{result['held_ms'][case]:9.2f}")  # fmt: skip
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"gpu_trace_overhead: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
