# SPDX-License-Identifier: Apache-2.0
"""What tests of `memplate trace` share: a trace that runs beside the test, processes in cgroups."""

import json
import os
import select
import signal
import subprocess
import time

import pytest


@pytest.fixture(scope="module", autouse=True)
def probes_load(session):
    """Where a kernel or a container refuses BPF, memplate says so itself; tests/vm/test_trace.py has
    machines of its own."""
    done = subprocess.run([session.binary, "trace", "start", "--duration", "0.1"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr


@pytest.fixture
def scratch(memplate):
    folder = memplate.folder / "trace"
    folder.mkdir()
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


class Trace:
    """A trace with --json that runs beside the test; its lines."""

    def __init__(self, memplate, *arguments):
        self.process = memplate.start(*arguments, "--json")
        self.lines = []
        self.until(lambda line: line["type"] == "attached_probes")

    def until(self, found, seconds=60):
        deadline = time.monotonic() + seconds
        for line in self.lines:
            if found(line):
                return line
        while True:
            ready, _, _ = select.select([self.process.stdout], [], [], deadline - time.monotonic())
            assert ready, f"nothing happened; so far {self.lines}"
            # Not read ahead: select() would not see what is buffered.
            line = json.loads(self.read_line())
            self.lines.append(line)
            if found(line):
                return line

    def read_line(self):
        text = b""
        while not text.endswith(b"\n"):
            byte = os.read(self.process.stdout.fileno(), 1)
            assert byte, f"the trace ended: {self.process.stderr.read()}"
            text += byte
        return text

    def phase(self, name, container=None):
        return self.until(
            lambda line: line["type"] == "phase" and line["data"]["phase"] == name
            and container in (None, line["data"]["container"]["name"]))["data"]

    def end(self):
        """Ctrl-C; all lines."""
        self.process.send_signal(signal.SIGINT)
        rest, errors = self.process.communicate(timeout=60)
        assert self.process.returncode == 0 and errors == ""
        self.lines += [json.loads(line) for line in rest.splitlines()]
        return self.lines


def start_in(folder, *command, **options):
    """A process that enters the cgroup, then executes the command."""
    enter = f"echo $$ > {folder}/cgroup.procs; exec \"$@\""
    return subprocess.Popen(["/bin/sh", "-c", enter, "sh", *command], text=True, **options)
