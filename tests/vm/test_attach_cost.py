# SPDX-License-Identifier: Apache-2.0
"""What it may cost to attach 256 MiB, in instructions: a machine with --icount counts the same on any
host. Some minutes for each kernel, so only with MEMPLATE_VM_TESTS=1."""

import json
import os
import subprocess

import pytest
from machine import BUILD, REPOSITORY, kernel_module

pytestmark = pytest.mark.skipif(
    os.environ.get("MEMPLATE_VM_TESTS") != "1", reason="boots machines: set MEMPLATE_VM_TESTS=1"
)

EAGER_BUDGET = 25e6  # 65,536 pages
TENTH_BUDGET = 4e6  # a tenth of them, the others at the first touch


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_attaching_256_mib_stays_within_its_budget(kernel, tmp_path):
    module = kernel_module(kernel)
    report = tmp_path / "attach.json"
    # Nothing else may run in this machine, so not one of machine.py, whose agent waits for words.
    done = subprocess.run(
        [
            *(REPOSITORY / "scripts" / "vm", "--quiet", "--icount", "--kernel", kernel),
            *("--memory", "3G", "--share", tmp_path, "--timeout", "1500", "--"),
            *("/bin/sh", "-euc", 'insmod "$1"; shift; exec "$@"', "sh", module),
            *(BUILD / "memplate", "bench", "attach", "--instructions", "--size", "256M"),
            *("--pages", "eager,profile:0.1", "--runs", "3", "--json", report),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    document = json.loads(report.read_text())
    assert "skipped" not in document
    runs = {run["variant"]: run for run in document["runs"]}
    assert all(run["size_mb"] == 256 for run in runs.values())
    attach = {variant: run["attach"]["instructions"] for variant, run in runs.items()}
    assert 0 < attach["attached"] <= EAGER_BUDGET
    assert 0 < attach["attached-0.1"] <= TENTH_BUDGET
    assert 0 < attach["attached-0.1-in-one"] <= TENTH_BUDGET
