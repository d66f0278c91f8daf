# SPDX-License-Identifier: Apache-2.0
"""A function that uses the GPU, against the fake driver and with real CRIU: its template holds the
contents of device memory, and every instance gets them back on the device."""

import json
import tempfile
import time

import pytest
from conftest import REPOSITORY, request
from fake_gpu import FakeGpu

WEIGHTS = REPOSITORY / "tests" / "gpu" / "functions" / "weights"
MB = 1 << 20
FUNCTION = """
name = "weights"
command = ["/usr/bin/python3", "-u", "main.py"]
directory = "{directory}"
port = 8080
gpu = {gpu}
[environment]
WEIGHTS_MB = "32"
FAKE_GPU = "{file}"
[readiness]
kind = "http"
path = "/ready"
[[warmup]]
path = "/verify"
expect_body = "as loaded\\n"
[touch]
path = "/verify"
expect_body = "as loaded\\n"
# What the fake driver needs besides NVIDIA's device nodes.
[[bind]]
source = "{folder}"
[[bind]]
source = "{memory}"
writable = true
"""


class Gpu(FakeGpu):
    def __init__(self, folder):
        folder.mkdir()
        self.folder = folder
        self.memory = tempfile.TemporaryDirectory(dir="/var/tmp", prefix="memplate-gpu-")
        super().__init__(folder)

    def set(self, **settings):
        super().set(state=self.memory.name, **settings)

    def function(self, gpu="true"):
        path = self.folder / "function.toml"
        path.write_text(FUNCTION.format(directory=WEIGHTS, file=self.file, folder=self.folder,
                                        memory=self.memory.name, gpu=gpu))
        return path


@pytest.fixture
def gpu(memplate):
    device = Gpu(memplate.folder / f"gpu-{time.monotonic_ns()}")
    yield device
    memplate.run("stop", "--all", "--grace-ms", "0")
    device.memory.cleanup()


def build(memplate, gpu, pool, *options):
    return memplate.json("template", "build", "weights", "--function", gpu.function(), "--pool",
                         pool, *options, env=gpu.environment)["template"]


def run(memplate, gpu, pool, *options):
    return memplate.json("run", "weights", "--pool", pool, *options,
                         env=gpu.environment)["instances"]


def used(memplate, gpu):
    return memplate.json("gpu", "info", env=gpu.environment)["devices"][0]["used_bytes"]


def state(memplate, gpu, instance):
    return memplate.json("gpu", "checkpoint", "--state", instance["pid"], env=gpu.environment)


@pytest.mark.parametrize("engine", ["auto", "copy"])
def test_instances_resume_on_the_gpu(memplate, gpu, pool, engine):
    template = build(memplate, gpu, pool)
    assert template["gpu"]["driver"] == "580.00"
    (process,) = template["gpu"]["processes"]
    assert process["devices"][0]["bytes"] == (32 + 64) * MB
    # What was in device memory is in the template.
    assert template["pages"]["stored"] * 4096 > 32 * MB
    assert used(memplate, gpu) == 0
    shown = memplate.run("template", "show", "weights", "--pool", pool).stdout
    assert f"process {process['pid']} had 96 MiB on GPU-" in shown

    instances = run(memplate, gpu, pool, "-n", 3, "--engine", engine)
    assert used(memplate, gpu) == 3 * 96 * MB
    for instance in instances:
        assert state(memplate, gpu, instance)["state"] == "running"
        assert request(instance, "/verify") == (200, "as loaded\n")
    # Each has device memory of its own.
    assert request(instances[0], "/write?value=9")[0] == 200
    assert request(instances[0], "/verify")[1] == "changed\n"
    assert request(instances[0], "/write?value=9")[1] == "[9, 9, 9, 9]\n"
    for other in instances[1:]:
        assert request(other, "/verify")[1] == "as loaded\n"
    memplate.run("stop", instances[0]["id"])
    assert used(memplate, gpu) == 2 * 96 * MB
    assert request(instances[1], "/verify")[1] == "as loaded\n"


def test_a_running_instance_can_be_parked(memplate, gpu, pool):
    build(memplate, gpu, pool, "--no-profile")
    (instance,) = run(memplate, gpu, pool)
    memplate.run("gpu", "checkpoint", instance["pid"], env=gpu.environment)
    assert used(memplate, gpu) == 0
    memplate.run("gpu", "restore", instance["pid"], env=gpu.environment)
    assert request(instance, "/verify")[1] == "as loaded\n"


def test_more_instances_than_the_device_holds_are_refused(memplate, gpu, pool):
    gpu.set(devices=[{"memory_mb": 300}])
    build(memplate, gpu, pool, "--no-profile")
    message = memplate.error("run", "weights", "--pool", pool, "-n", 4, env=gpu.environment)
    assert "4 instances: 384 MiB of device memory are needed" in message
    assert "300 MiB are free" in message
    assert len(run(memplate, gpu, pool, "-n", 3)) == 3


@pytest.mark.parametrize("call", ["cuCheckpointProcessRestore", "cuCheckpointProcessUnlock"])
def test_an_instance_that_does_not_come_back_is_removed(memplate, gpu, pool, call):
    build(memplate, gpu, pool, "--no-profile")
    gpu.set(calls={call: {"result": 999}})
    message = memplate.error("run", "weights", "--pool", pool, env=gpu.environment)
    assert "function weights: process" in message and call in message
    assert memplate.instances() == []
    gpu.set()
    assert used(memplate, gpu) == 0
    assert request(run(memplate, gpu, pool)[0], "/verify")[1] == "as loaded\n"


@pytest.mark.parametrize("call", ["cuCheckpointProcessLock", "cuCheckpointProcessCheckpoint"])
def test_a_build_that_fails_on_the_gpu_stores_nothing(memplate, gpu, pool, call):
    gpu.set(calls={call: {"result": 999}})
    message = memplate.error("template", "build", "weights", "--function", gpu.function(),
                             "--pool", pool, env=gpu.environment)
    assert "function weights: process" in message and call in message
    assert memplate.json("template", "list", "--pool", pool)["templates"] == []
    gpu.set()
    assert used(memplate, gpu) == 0


def test_another_driver_cannot_restore_it(memplate, gpu, pool):
    build(memplate, gpu, pool, "--no-profile")
    gpu.set(driver="590.10")
    message = memplate.error("run", "weights", "--pool", pool, expect=3, env=gpu.environment)
    assert "driver 580.00, and here is 590.10" in message
    gpu.set(cuda=12040)
    message = memplate.error("run", "weights", "--pool", pool, expect=3, env=gpu.environment)
    assert "has no process checkpoints" in message


def test_without_a_driver_nothing_starts(memplate, gpu, pool):
    message = memplate.error("template", "build", "weights", "--function", gpu.function(),
                             "--pool", pool, expect=3, env={"LD_LIBRARY_PATH": ""})
    assert "no CUDA driver on this machine" in message


def test_a_function_that_does_not_use_its_gpu(memplate, gpu, pool):
    done = memplate.run(
        "template", "build", "hello", "--no-profile", "--pool", pool, "--json", "--function",
        hello_with_gpu(gpu), env=gpu.environment)
    assert "no process uses CUDA" in done.stderr
    assert "gpu" not in json.loads(done.stdout)["template"]
    instance = memplate.json("run", "hello", "--pool", pool,
                             env=gpu.environment)["instances"][0]
    assert request(instance)[0] == 200


def hello_with_gpu(gpu):
    folder = REPOSITORY / "tests" / "functions" / "hello"
    path = gpu.folder / "hello.toml"
    text = (folder / "function.toml").read_text()
    path.write_text(f'gpu = true\ndirectory = "{folder}"\n' + text)
    return path


def test_cold_start_against_restore_in_one_run(memplate, gpu):
    # What a driver's start costs; restoring does not pay it.
    gpu.set(calls={"cuDevicePrimaryCtxRetain": {"microseconds": 200000}})
    path = gpu.folder / "report.json"
    memplate.run("bench", "restore", "--function", gpu.function(), "--methods",
                 "cold,copy,mapped", "--runs", 3, "--instances", 2, "--json", path,
                 env=gpu.environment)
    report = json.loads(path.read_text())
    (function,) = report["functions"]
    assert set(function["methods"]) == {"cold", "copy", "mapped"}
    for name in ("copy", "mapped"):
        method = function["methods"][name]
        assert {"GPU check", "GPU restore", "GPU unlock"} <= set(method["phases_ms"])
        assert method["memory10_mb"]["instances"] == 2
    assert "GPU restore" not in function["methods"]["cold"]["phases_ms"]
    assert report["answers_wrong"] == 0 and report["answers_checked"] > 9
    assert report["gpu"]["driver"]["version"] == "580.00"
