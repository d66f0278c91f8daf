# SPDX-License-Identifier: Apache-2.0
"""What tests of `memplate cost` share: programs that know what they used."""

import json
import subprocess
import textwrap

import pytest
from memory_groups import ROOT, V2

# Finds its own cgroup; then whatever the test adds.
PREAMBLE = f"""
import json, os, sys, time
entered = time.monotonic_ns()
lines = dict(line.split(":", 2)[1:] for line in open("/proc/self/cgroup").read().splitlines())
group = "{ROOT}" + (lines[""] if {V2} else lines["memory"])
def read(name):
    return open(group + "/" + name).read().strip()
"""
STEPS = PREAMBLE + """
held = []
for i in range(10):
    held.append(bytearray(10_000_000)); [held[-1].__setitem__(k, 1) for k in range(0, 10_000_000, 4096)]
    time.sleep(0.02)
held = held[:2]
time.sleep(0.3)
"""


@pytest.fixture
def scratch(memplate):
    folder = memplate.folder / "cost"
    folder.mkdir()
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.fixture
def program(scratch):
    """Writes a program; the command that runs it."""
    def write(text):
        path = scratch / "program.py"
        path.write_text(textwrap.dedent(text))
        return ["/usr/bin/python3", str(path)]
    return write


def document(memplate, *arguments, **options):
    """The flag comes first: what follows -- is the command's."""
    return json.loads(memplate.run("--json", *arguments, **options).stdout)
