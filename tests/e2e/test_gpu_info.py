# SPDX-License-Identifier: Apache-2.0
"""`gpu info` on the fake GPU: what it says, and what it says when the driver does not work."""

import subprocess

import pytest
from conftest import BUILD
from fake_gpu import LIBRARIES, gpu, memplate  # noqa: F401


def test_json_has_everything_that_changes_a_cold_start(memplate, gpu):
    gpu.set(
        cuda=12080,
        driver="570.11",
        devices=[
            {"name": "Fake A", "memory_mb": 1000, "persistence": False},
            {"name": "Fake B", "compute_mode": 3, "mig": True},
        ],
    )
    info = memplate.json("gpu", "info", env={**gpu.environment, "CUDA_MODULE_LOADING": "EAGER"})
    assert info["schema"] == 1
    assert info["driver"]["version"] == "570.11"
    assert info["driver"]["library"].startswith(str(LIBRARIES))
    assert (info["cuda"], info["cuda_text"]) == (12080, "12.8")
    assert info["module_loading"] == "eager"
    assert info["checkpoint"] == {"supported": True}
    assert info["nvml"] == {"available": True}
    assert info["mps"]["running"] is False
    assert info["environment"]["CUDA_MODULE_LOADING"] == "EAGER"
    first, second = info["devices"]
    assert (first["name"], first["memory_bytes"]) == ("Fake A", 1000 << 20)
    assert (first["compute_mode"], first["persistence"], first["mig"]) == ("default", False, False)
    assert (second["compute_mode"], second["mig"]) == ("exclusive-process", True)
    assert first["uuid"] == "GPU-00000000-0000-0000-0000-000000000000"
    assert second["uuid"] == "MIG-01000000-0000-0000-0000-000000000001"
    assert second["used_bytes"] == 0


def test_text_fits_a_terminal(memplate, gpu):
    gpu.set(devices=[{"name": "A fake GPU with a name that is longer than any real one is " * 2}])
    text = memplate.run("gpu", "info", env=gpu.environment).stdout
    table = text[text.index("DEVICE") :].splitlines()
    assert len(table) == 2 and all(len(line) <= 100 for line in table)
    assert "CUDA             13.0" in text


def test_without_nvml_the_rest_is_there(memplate, gpu):
    gpu.set(calls={"nvmlInit_v2": {"result": 9}})
    info = memplate.json("gpu", "info", env=gpu.environment)
    assert info["nvml"]["available"] is False
    assert "Driver Not Loaded" in info["nvml"]["reason"]
    assert "persistence" not in info["devices"][0]
    assert "?" in memplate.run("gpu", "info", env=gpu.environment).stdout


def test_no_driver(memplate, gpu):
    gpu.replace(libcuda=None)
    error = memplate.error("gpu", "info", expect=3, env=gpu.environment)
    assert "no CUDA driver on this machine" in error and "libcuda.so.1" in error


def test_a_driver_that_is_too_old(memplate, gpu):
    gpu.replace(libcuda=LIBRARIES / "libnvidia-ml.so.1")
    error = memplate.error("gpu", "info", expect=3, env=gpu.environment)
    assert "older than CUDA 11.2; update it" in error


@pytest.mark.parametrize("result", [100, 999])
def test_a_driver_that_does_not_start(memplate, gpu, result):
    gpu.set(calls={"cuInit": {"result": result}})
    error = memplate.error("gpu", "info", expect=3, env=gpu.environment)
    assert "cuInit: " in error and f", {result})" in error


def test_no_device(memplate, gpu):
    gpu.set(devices=[])
    error = memplate.error("gpu", "info", expect=3, env=gpu.environment)
    assert "no CUDA-capable device" in error


@pytest.mark.parametrize(
    "call",
    ["cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceTotalMem_v2"],
)
def test_every_failing_call_is_named(memplate, gpu, call):
    gpu.set(calls={call: {"result": 999}})
    error = memplate.error("gpu", "info", env=gpu.environment)
    assert f"{call}: " in error and "CUDA_ERROR_UNKNOWN, 999" in error


def test_a_hanging_call_is_named(memplate, gpu):
    gpu.set(calls={"cuInit": {"hang": True}})
    error = memplate.error("gpu", "info", "--timeout", "0.5", env=gpu.environment)
    assert "hung in cuInit" in error and "--timeout" in error


@pytest.mark.parametrize(
    "call",
    ["cuModuleGetLoadingMode", "nvmlInit_v2", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetMigMode",
     "nvmlDeviceGetMemoryInfo"],
)
def test_hanging_calls_whose_errors_do_not_matter_are_named(memplate, gpu, call):
    gpu.set(calls={call: {"hang": True}})
    error = memplate.error("gpu", "info", "--timeout", "0.5", env=gpu.environment)
    assert f"hung in {call}" in error


def test_a_worker_that_does_not_end(memplate, tmp_path):
    # As when the driver hangs while it ends: memplate's socket is closed, the process stays.
    worker = tmp_path / "worker"
    worker.write_text("#!/bin/bash\nexec 3<&- 4<&- >/dev/null 2>&1\nexec sleep 600\n")
    worker.chmod(0o755)
    error = memplate.error("gpu", "info", "--timeout", "0.5", timeout=60,
                           env={"MEMPLATE_GPU_WORKER": str(worker)})
    assert "hung at its end" in error and "--timeout" in error


def test_a_crashing_call_is_named(memplate, gpu):
    gpu.set(calls={"cuInit": {"crash": True}})
    error = memplate.error("gpu", "info", env=gpu.environment)
    assert "signal 6" in error and "in cuInit" in error


def test_a_worker_that_is_not_there(memplate, gpu, tmp_path):
    missing = str(tmp_path / "no-worker")
    error = memplate.error(
        "gpu", "info", env={**gpu.environment, "MEMPLATE_GPU_WORKER": missing}
    )
    assert missing in error and "MEMPLATE_GPU_WORKER" in error


def test_the_worker_is_no_command_of_its_own(memplate):
    done = subprocess.run([BUILD / "memplate-gpu-worker"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "memplate-gpu-worker is started by memplate\n"
