# SPDX-License-Identifier: Apache-2.0
"""Memory cgroups of a test's own, in either version of cgroups."""

import os
import pathlib
import signal
import time

import pytest

V2 = pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists()
ROOT = pathlib.Path("/sys/fs/cgroup" if V2 else "/sys/fs/cgroup/memory")
PEAK = "memory.peak" if V2 else "memory.max_usage_in_bytes"
LIMIT = "memory.max" if V2 else "memory.limit_in_bytes"


@pytest.fixture
def groups():
    """Makes memory cgroups; removes them again."""
    made = []

    def make(path):
        folder = ROOT / path
        if folder.exists():  # of a run that was killed
            for pid in (folder / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            remove(folder)
        folder.mkdir()
        made.append(folder)
        if V2:
            (folder.parent / "cgroup.subtree_control").write_text("+memory")
        return folder

    def remove(folder):
        deadline = time.monotonic() + 10
        while folder.exists():
            try:
                folder.rmdir()
            except OSError:  # its last process is still ending
                assert time.monotonic() < deadline, f"{folder} stays busy"
                time.sleep(0.02)

    yield make
    for folder in reversed(made):
        remove(folder)
