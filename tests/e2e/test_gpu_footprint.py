# SPDX-License-Identifier: Apache-2.0
"""`gpu footprint` on the fake GPU, whose contexts, modules and models have known sizes; MPS with the
fake control daemon of tests/gpu/fake."""

import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time

import pytest
from conftest import REPOSITORY
from fake_gpu import FakeGpu, kernels  # noqa: F401

pytestmark = pytest.mark.usefixtures("kernels")

MB = 1 << 20
FAKES = REPOSITORY / "tests" / "gpu" / "fake"  # nvidia-cuda-mps-control
SMALL = ("--weights", "10M", "--libraries", "none")
MPS = ("--device", "0", "--mps")


@pytest.fixture
def gpu(tmp_path):
    return FakeGpu(tmp_path)


class Mps:
    def __init__(self, gpu, log_file):
        self.log_file = log_file
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gpu", dir="/tmp"))
        self.environment = {
            **gpu.environment,
            "PATH": f"{FAKES}:{os.environ['PATH']}",
            "FAKE_MPS_LOG": str(log_file),
            "TMPDIR": str(self.folder),
        }

    def log(self):
        return self.log_file.read_text().splitlines() if self.log_file.exists() else []


@pytest.fixture
def mps(gpu, tmp_path):
    """A fake MPS in PATH, and what was asked of it."""
    mps = Mps(gpu, tmp_path / "mps.log")
    yield mps
    mps.folder.rmdir()  # nothing may be left in it


def footprint(memplate, gpu, *options, env=None, **more):
    return memplate.json("gpu", "footprint", *SMALL, *options, env=env or gpu.environment, **more)


def error(memplate, gpu, *options, env=None, **more):
    return memplate.error("gpu", "footprint", *SMALL, *options, env=env or gpu.environment, **more)


def test_what_each_step_takes(memplate, gpu):
    gpu.set(devices=[{"context_mb": 60, "module_mb": 8}])
    report = footprint(memplate, gpu, "-n", "3")
    assert [one["name"] for one in report["variants"]] == ["lazy, without MPS", "eager, without MPS"]
    scratch = 3 * 256 * 256 * 4
    for variant, code in zip(report["variants"], (4 * MB, 8 * MB)):
        assert variant["context_bytes"] == 60 * MB
        assert variant["code_bytes"] == code + scratch
        assert variant["model_bytes"] == 10 * MB
        runtime = 60 * MB + code + scratch
        assert variant["runtime_share"] == pytest.approx(runtime / (runtime + 10 * MB))
        assert variant["code"] == {"kernels": "loaded"}
        begin, context, _, model = variant["stages"]
        assert begin["used_bytes"] == 0 and begin["processes"] == [None] * 3
        assert context["processes"] == [60 * MB] * 3
        assert model["processes"] == [runtime + 10 * MB] * 3
        assert model["added_bytes"] == 3 * (runtime + 10 * MB)
        assert model["used_bytes"] + model["free_bytes"] == model["total_bytes"]
        assert model["others"] == []


def test_libraries_count_as_code(memplate, gpu):
    (variant,) = memplate.json(
        "gpu", "footprint", "-n", "1", "--loading", "lazy", "--weights", "1M", env=gpu.environment
    )["variants"]
    assert variant["code"] == {"kernels": "loaded", "cublas": "loaded", "cudnn": "loaded"}


def test_a_library_that_is_missing_is_left_out(memplate, gpu):
    gpu.replace(libcublas=None)
    for version in (11, 12):
        (gpu.libraries / f"libcublas.so.{version}").touch()
    done = memplate.run("gpu", "footprint", "-n", "1", "--weights", "1M", env=gpu.environment)
    assert "left out: cublas: " in done.stdout


def test_others_on_the_device_are_told_apart(memplate, gpu):
    gpu.set(calls={"cuMemcpyHtoD_v2": {"hang": True}})
    other = subprocess.Popen(
        [memplate.binary, "gpu", "footprint", "-n", "1", *SMALL],
        env={**memplate.environment, **gpu.environment}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        state = pathlib.Path(str(gpu.file) + ".state")
        deadline = time.monotonic() + 30
        while not list(state.glob("0.*.memory")) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.1)
        gpu.set()
        (variant,) = footprint(memplate, gpu, "-n", "1", "--loading", "lazy")["variants"]
        begin = variant["stages"][0]
        (process,) = begin["others"]
        assert process["bytes"] == begin["used_bytes"] > 64 * MB and not process["mps"]
        assert variant["context_bytes"] == 64 * MB
    finally:
        other.kill()
        other.wait()


def test_text_streambox_and_page(memplate, gpu, tmp_path):
    page = tmp_path / "footprint.html"
    gpu.set(devices=[{"name": "</script><b>{{title}}"}])
    options = ("gpu", "footprint", *SMALL, "-n", "2")
    text = memplate.run(*options, "--html", page, env=gpu.environment).stdout
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "RUNTIME" in text and f"page:  {page}" in text
    html = page.read_text()
    data = html.split('<script type="application/json" id="page">')[1].split("</script>")[0]
    (chart,) = json.loads(data)["charts"]
    assert chart["parts"] == ["context", "code", "model"]
    assert [bar["values"][0] for bar in chart["bars"]] == [64 * MB] * 2
    assert "<b>{{title}}" not in html

    lines = memplate.run(
        *options, "--loading", "lazy", "--format", "streambox", env=gpu.environment
    ).stdout.splitlines()
    assert lines[::4] == ["--Begin--", "--After torch init--", "--After model init--",
                          "context: 157.50 MiB"]  # fmt: skip
    assert lines[1:4] == ["used: 0.00 MiB", "free: 2048.00 MiB", "total: 2048.00 MiB"]
    assert lines[5] == "used: 128.00 MiB" and lines[9] == "used: 157.50 MiB"


def test_with_and_without_mps(memplate, gpu, mps):
    report = footprint(memplate, gpu, "-n", "2", *MPS, "--mps-thread-percentage", "10",
                       "--loading", "lazy", env=mps.environment)  # fmt: skip
    without, under = report["variants"]
    assert (without["mps"], without["context_bytes"]) == (False, 64 * MB)
    assert (under["mps"], under["context_bytes"]) == (True, 16 * MB)
    assert under["thread_percentage"] == 10 and "thread_percentage" not in without
    assert under["stages"][1]["processes"] == [16 * MB] * 2
    start, *commands, end = mps.log()
    uuid, pipe, log = start.split()[1:]
    assert uuid == report["gpu"]["devices"][0]["uuid"]
    assert pathlib.Path(pipe).parent.parent == mps.folder and pathlib.Path(log).parent.parent == mps.folder
    assert commands == ["command get_server_list", "command quit"] and end == "end"
    # Nobody's compute mode was changed for it.
    assert report["gpu"]["devices"][0]["compute_mode"] == "default"


def test_mps_gets_the_device_that_was_given_for_it(memplate, gpu, mps):
    gpu.set(devices=[{}, {"name": "second", "mps_context_mb": 20}])
    report = footprint(memplate, gpu, "-n", "1", "--device", "1", "--mps", "--loading", "lazy",
                       env=mps.environment)  # fmt: skip
    assert mps.log()[0].split()[1] == report["gpu"]["devices"][1]["uuid"]
    assert report["variants"][1]["context_bytes"] == 20 * MB


def test_mps_is_never_started_unasked(memplate, gpu, mps):
    footprint(memplate, gpu, "-n", "1", env=mps.environment)
    assert "--device" in error(memplate, gpu, "--mps", expect=2, env=mps.environment)
    assert mps.log() == []


def test_without_the_mps_program(memplate, gpu):
    line = error(memplate, gpu, *MPS, expect=3, env={**gpu.environment, "PATH": "/usr/bin"})
    assert "no nvidia-cuda-mps-control in PATH" in line


def test_a_daemon_that_does_not_start(memplate, gpu, mps):
    line = error(memplate, gpu, *MPS, expect=3, env={**mps.environment, "FAKE_MPS": "fails"})
    assert "ended at once: An instance of this daemon is already running" in line


def test_a_daemon_that_does_not_answer(memplate, gpu, mps):
    line = error(memplate, gpu, *MPS, "--timeout", "1", env={**mps.environment, "FAKE_MPS": "deaf"})
    assert "nvidia-cuda-mps-control does not answer" in line
    assert mps.log()[-1] == "terminated"


def test_interruption_while_a_command_to_the_daemon_hangs(memplate, gpu, mps):
    process = subprocess.Popen(
        [memplate.binary, "gpu", "footprint", "-n", "1", *MPS, "--loading", "lazy"],
        env={**memplate.environment, **mps.environment, "FAKE_MPS": "stuck"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while "command get_server_list" not in mps.log() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert mps.log()[-1] == "terminated"


def test_each_way_of_loading_has_a_daemon_of_its_own(memplate, gpu, mps):
    footprint(memplate, gpu, "-n", "1", *MPS, env=mps.environment)
    kinds = [line.split()[0] for line in mps.log()]
    assert kinds == ["start", "command", "command", "end"] * 2


def test_a_process_that_is_no_client(memplate, gpu, mps):
    line = error(memplate, gpu, *MPS, env={**mps.environment, "FAKE_MPS": "shy"})
    assert "did not become a client of the MPS daemon" in line
    assert mps.log()[-1] == "end"


def test_a_failure_under_mps_ends_the_daemon(memplate, gpu, mps):
    gpu.set(devices=[{"memory_mb": 70, "context_mb": 60}])
    line = error(memplate, gpu, "-n", "1", *MPS, "--loading", "lazy", env=mps.environment)
    assert "lazy, without MPS, process 1 of 1: " in line and mps.log() == []
    gpu.set(devices=[{"memory_mb": 70, "context_mb": 10, "mps_context_mb": 60}])
    line = error(memplate, gpu, "-n", "1", *MPS, "--loading", "lazy", env=mps.environment)
    assert "lazy, with MPS, process 1 of 1: cuMemAlloc_v2: out of memory" in line
    assert mps.log()[-1] == "end"


def test_exclusive_process_mode_needs_mps(memplate, gpu, mps):
    gpu.set(devices=[{"compute_mode": 3}])
    line = error(memplate, gpu, "-n", "2", expect=3)
    assert "compute mode is exclusive-process, which memplate does not change" in line
    report = footprint(memplate, gpu, "-n", "2", *MPS, "--loading", "lazy", env=mps.environment)
    assert [one["mps"] for one in report["variants"]] == [True]
    assert report["left_out"][0]["variant"] == "without MPS"
    assert footprint(memplate, gpu, "-n", "1", "--loading", "lazy")["left_out"] == []


def test_interruption_ends_processes_and_daemon(memplate, gpu, mps):
    gpu.set(calls={"cuMemcpyHtoD_v2": {"hang": True}}, devices=[{"compute_mode": 3}])
    process = subprocess.Popen(
        [memplate.binary, "gpu", "footprint", "-n", "2", *SMALL, *MPS],
        env={**memplate.environment, **mps.environment}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    state = pathlib.Path(str(gpu.file) + ".state")
    while not list(state.glob("0.*.mps-context")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert mps.log()[-1] == "end"


CALLS = [
    "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuModuleLoadData", "cuModuleGetFunction",
    "cuLaunchKernel", "cuMemAlloc_v2", "cuMemcpyHtoD_v2", "cuCtxSynchronize",
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_every_failing_call_is_named(memplate, gpu, call):
    gpu.set(calls={call: {"result": 999}})
    line = error(memplate, gpu, "-n", "2")
    assert "lazy, without MPS, process 1 of 2: " in line
    assert f"{call}: " in line and "CUDA_ERROR_UNKNOWN, 999" in line


@pytest.mark.parametrize("call", ["nvmlDeviceGetMemoryInfo", "nvmlDeviceGetComputeRunningProcesses_v3",
                                  "nvmlDeviceGetMPSComputeRunningProcesses_v3"])  # fmt: skip
def test_failing_hanging_and_crashing_nvml(memplate, gpu, call):
    for rule, part in (({"result": 999}, f"{call}: "), ({"hang": True}, f"hung in {call}"),
                       ({"crash": True}, f"in {call}")):  # fmt: skip
        gpu.set(calls={call: {**rule, "from": 2}})
        assert part in error(memplate, gpu, "--timeout", "1")


def test_processes_that_nvml_does_not_list(memplate, gpu):
    """An old NVML, and one that knows no memory of a process: the device's use is enough."""
    gpu.set(calls={"nvmlDeviceGetComputeRunningProcesses_v3": {"result": 3}})
    (variant,) = footprint(memplate, gpu, "-n", "2", "--loading", "lazy")["variants"]
    assert variant["context_bytes"] == 64 * MB
    assert all(stage["processes"] == [None, None] for stage in variant["stages"])


def test_without_nvml(memplate, gpu):
    gpu.replace(libnvidia_ml=None)
    assert "no NVML on this machine" in error(memplate, gpu, expect=3)


def test_a_hanging_and_a_crashing_call(memplate, gpu):
    gpu.set(calls={"cuModuleLoadData": {"hang": True}})
    line = error(memplate, gpu, "--timeout", "1")
    assert "process 1 of 4: the GPU worker hung in cuModuleLoadData" in line
    gpu.set(calls={"cuMemcpyHtoD_v2": {"crash": True}})
    assert "signal 6 (Aborted) in cuMemcpyHtoD_v2" in error(memplate, gpu)


def test_no_driver(memplate, gpu):
    gpu.replace(libcuda=None)
    assert "no CUDA driver on this machine" in error(memplate, gpu, expect=3)


def test_a_device_that_disappears(memplate, gpu):
    gpu.set(calls={"cuMemAlloc_v2": {"result": 100, "from": 2}, "nvmlDeviceGetMemoryInfo": {"result": 15, "from": 9}})  # fmt: skip
    assert "cuMemAlloc_v2: no CUDA-capable device" in error(memplate, gpu)


@pytest.mark.parametrize("options, part", [
    (["-n", "0"], "--processes"), (["--loading", "fast"], "--loading"), (["--loading", ""], "--loading"),
    (["--device", "2"], "device 2"), (["--mps-thread-percentage", "0"], "percentage"),
])  # fmt: skip
def test_usage(memplate, gpu, options, part):
    assert part in error(memplate, gpu, *options, expect=2)
