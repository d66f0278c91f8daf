# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a process and of a function on a real GPU: contents, memory given back, and the
comparison with a cold start in one run. What fails on purpose is tested on the fake GPU."""

import contextlib
import json
import pathlib
import socket
import subprocess
import time
import urllib.request

import pytest
from conftest import request

WEIGHTS = pathlib.Path(__file__).parent / "functions" / "weights"
FUNCTION = WEIGHTS / "function.toml"


@pytest.fixture(autouse=True)
def checkpoints(gpu_info):
    if not gpu_info["checkpoint"]["supported"]:
        pytest.skip(gpu_info["checkpoint"]["reason"])


@pytest.fixture
def process(memplate):
    """The function, running natively; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(["/usr/bin/python3", "main.py", str(port)], cwd=WEIGHTS,
                          env={**memplate.environment, "WEIGHTS_MB": "256"}) as running:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and running.poll() is None:
            with contextlib.suppress(OSError):
                get(port, "/ready")
                break
            time.sleep(0.05)
        yield running.pid, port
        running.kill()


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=120) as answer:
        return answer.read().decode()


def test_a_process_goes_to_the_host_and_comes_back(memplate, process):
    pid, port = process
    assert get(port, "/verify") == "as loaded\n"
    get(port, "/write?value=7")
    contents = get(port, "/checksum")
    parked = memplate.json("gpu", "checkpoint", pid)
    assert parked["after"] == "checkpointed"
    assert sum(device["bytes"] for device in parked["devices"]) >= 256 << 20
    assert memplate.json("gpu", "checkpoint", "--state", pid)["devices"] == []
    back = memplate.json("gpu", "restore", pid)
    assert back["after"] == "running"
    assert get(port, "/checksum") == contents
    print(json.dumps([parked["steps"], back["steps"]]))


def test_instances_of_a_template_resume_on_the_gpu(memplate, pool):
    memplate.run("template", "build", "weights", "--function", FUNCTION, "--pool", pool)
    instances = memplate.json("run", "weights", "--pool", pool, "-n", 2)["instances"]
    for instance in instances:
        assert request(instance, "/verify") == (200, "as loaded\n")
    request(instances[0], "/write?value=9")
    assert request(instances[0], "/verify")[1] == "changed\n"
    assert request(instances[1], "/verify")[1] == "as loaded\n"


def test_cold_start_against_restore(memplate, tmp_path):
    path = tmp_path / "report.json"
    memplate.run("bench", "restore", "--function", FUNCTION, "--methods", "cold,copy,mapped",
                 "--runs", 3, "--instances", 0, "--json", path, timeout=900)
    (function,) = json.loads(path.read_text())["functions"]
    for name, method in function["methods"].items():
        assert ("GPU restore" in method["phases_ms"]) == (name != "cold")
        print(name, method["ready_ms"]["p50"], method["phases_ms"])
