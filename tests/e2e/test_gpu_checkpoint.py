# SPDX-License-Identifier: Apache-2.0
"""GPU state of a process to its host memory and back, against the fake driver: times, bytes and
contents, what is refused beforehand, and every call of the driver failing, hanging or crashing."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

import pytest
from conftest import REPOSITORY
from fake_gpu import FakeGpu

WEIGHTS = REPOSITORY / "tests" / "gpu" / "functions" / "weights"
MB = 1 << 20
CALLS = {
    "lock": "cuCheckpointProcessLock",
    "checkpoint": "cuCheckpointProcessCheckpoint",
    "restore": "cuCheckpointProcessRestore",
    "unlock": "cuCheckpointProcessUnlock",
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """The function `weights`, running natively."""

    def __init__(self, environment):
        self.port = free_port()
        self.process = subprocess.Popen(
            ["/usr/bin/python3", "main.py", str(self.port)],
            cwd=WEIGHTS,
            env={**os.environ, **environment},
            stderr=subprocess.PIPE,
        )
        self.pid = self.process.pid
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.process.stderr.read()
            with contextlib.suppress(OSError):
                if self.get("/ready") == "ready":
                    return
            time.sleep(0.02)
        raise AssertionError("not ready")

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return answer.read().decode().strip()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


class Gpu(FakeGpu):
    """A fake GPU of the test's own with the processes on it."""

    def __init__(self, folder):
        folder.mkdir()
        self.folder = folder
        # On disk: what is in memory would count as the processes' own.
        self.memory = tempfile.TemporaryDirectory(dir="/var/tmp", prefix="memplate-gpu-")
        self.processes = []
        super().__init__(folder)

    def set(self, **settings):
        super().set(state=self.memory.name, **settings)

    def start(self, **environment):
        variables = {**self.environment, "WEIGHTS_MB": "64", **environment}
        self.processes.append(Process(variables))
        return self.processes[-1]

    def stop(self):
        for process in self.processes:
            process.stop()
        self.memory.cleanup()


@pytest.fixture
def gpu(memplate):
    device = Gpu(memplate.folder / f"gpu-{time.monotonic_ns()}")
    yield device
    device.stop()


def park(memplate, gpu, process, *options):
    return memplate.json("gpu", "checkpoint", process.pid, *options, env=gpu.environment)


def resume(memplate, gpu, process, *options):
    return memplate.json("gpu", "restore", process.pid, *options, env=gpu.environment)


def state(memplate, gpu, process):
    return memplate.json("gpu", "checkpoint", "--state", process.pid, env=gpu.environment)


def error(memplate, gpu, *arguments, expect=1):
    return memplate.error("gpu", *arguments, expect=expect, env=gpu.environment)


def resident(process):
    with open(f"/proc/{process.pid}/statm", encoding="utf-8") as statm:
        return int(statm.read().split()[1]) * 4096


def test_device_memory_goes_to_the_host_and_comes_back(memplate, gpu):
    process = gpu.start()
    assert process.get("/verify") == "as loaded"
    process.get("/write?value=7")
    contents = process.get("/checksum")
    before = state(memplate, gpu, process)
    assert before["state"] == "running" and before["devices"][0]["bytes"] == (64 + 64) * MB

    parked = park(memplate, gpu, process)
    assert (parked["before"], parked["after"]) == ("running", "checkpointed")
    assert [step["name"] for step in parked["steps"]] == ["lock", "checkpoint"]
    moved = parked["steps"][1]
    # The weights and the context leave the device; on the host the weights are what is added.
    assert moved["device_bytes"] == 128 * MB
    assert abs(moved["host_bytes"] - 64 * MB) < 8 * MB
    assert moved["gb_per_s"] == pytest.approx(moved["device_bytes"] / moved["ms"] / 1e6)
    assert parked["ms"] == pytest.approx(sum(step["ms"] for step in parked["steps"]))
    assert parked["devices"] == before["devices"]
    now = state(memplate, gpu, process)
    assert now["state"] == "checkpointed" and now["devices"] == []
    assert now["needs"] == before["devices"]
    # Its own calls wait.
    answer = []
    waiting = threading.Thread(target=lambda: answer.append(process.get("/checksum")))
    waiting.start()
    time.sleep(0.3)
    assert not answer

    back = resume(memplate, gpu, process)
    assert (back["before"], back["after"]) == ("checkpointed", "running")
    assert [step["name"] for step in back["steps"]] == ["restore", "unlock"]
    assert back["steps"][0]["device_bytes"] == 128 * MB
    waiting.join()
    assert answer == [contents]
    assert process.get("/write?value=8") == "[7, 7, 7, 7]"
    assert state(memplate, gpu, process)["devices"] == before["devices"]
    assert list((memplate.state / "gpu").iterdir()) == []


def test_again_and_again(memplate, gpu):
    process = gpu.start()
    for value in range(3):
        process.get(f"/write?value={value}")
        park(memplate, gpu, process)
        resume(memplate, gpu, process)
        assert process.get(f"/write?value={value}") == f"[{value}, {value}, {value}, {value}]"


def test_tables_for_people(memplate, gpu):
    process = gpu.start()
    shown = memplate.run("gpu", "checkpoint", process.pid, env=gpu.environment).stdout
    lines = shown.splitlines()
    assert lines[0] == f"process {process.pid} (python3): checkpointed, was running"
    assert lines[1].split() == ["STEP", "TIME", "DEVICE", "HOST", "GB/S"]
    assert [line.split()[0] for line in lines[2:]] == ["lock", "checkpoint", "all"]
    assert "128 MiB" in lines[3]
    shown = memplate.run("gpu", "checkpoint", "--state", process.pid, env=gpu.environment).stdout
    assert shown == f"process {process.pid} (python3): checkpointed\n"
    shown = memplate.run("gpu", "restore", process.pid, env=gpu.environment).stdout
    assert shown.startswith(f"process {process.pid} (python3): running, was checkpointed\n")
    shown = memplate.run("gpu", "checkpoint", "--state", process.pid, env=gpu.environment).stdout
    assert shown.splitlines()[1].endswith("(Fake GPU): 128 MiB of 2 GiB")


def test_states_that_do_not_fit(memplate, gpu):
    process = gpu.start()
    assert "it is not checkpointed" in error(memplate, gpu, "restore", process.pid)
    park(memplate, gpu, process)
    assert "is checkpointed already" in error(memplate, gpu, "checkpoint", process.pid)
    resume(memplate, gpu, process)
    assert "no such process that uses CUDA" in error(memplate, gpu, "checkpoint", os.getpid())
    assert memplate.json(
        "gpu", "checkpoint", "--state", os.getpid(), env=gpu.environment)["state"] is None
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    assert "there is none" in error(memplate, gpu, "checkpoint", gone.pid)


def test_mig_and_mps_are_refused(memplate, gpu):
    gpu.set(devices=[{"mig": True}])
    process = gpu.start()
    assert "divided by MIG" in error(memplate, gpu, "checkpoint", process.pid, expect=3)
    assert state(memplate, gpu, process)["state"] == "running"
    gpu.set()
    pipes = gpu.folder / "mps"
    pipes.mkdir()
    (pipes / "control").touch()
    client = gpu.start(CUDA_MPS_PIPE_DIRECTORY=str(pipes))
    assert "client of an MPS server" in error(memplate, gpu, "checkpoint", client.pid, expect=3)
    assert state(memplate, gpu, client)["state"] == "running"


def test_memory_that_does_not_fit_on_the_host_is_refused(memplate, gpu):
    gpu.set(devices=[{"memory_mb": 1 << 24, "context_mb": 1 << 23}])
    process = gpu.start()
    message = error(memplate, gpu, "checkpoint", process.pid, expect=3)
    assert "do not fit in the host's memory" in message and "8 TiB" in message
    forced = memplate.run("gpu", "checkpoint", process.pid, "--force", env=gpu.environment)
    assert "do not fit in the host's memory" in forced.stderr


def test_shared_memory_is_refused_below_driver_610(memplate, gpu):
    shared = pathlib.Path(f"/dev/shm/cuda.shm.0.{os.getpid():x}.1")
    shared.write_bytes(bytes(4096))
    # As the driver does in a process that exports memory.
    (gpu.folder / "sitecustomize.py").write_text(
        f"import mmap\nfile = open('{shared}', 'r+b')\nshared = mmap.mmap(file.fileno(), 4096)\n"
    )
    try:
        process = gpu.start(PYTHONPATH=str(gpu.folder))
        message = error(memplate, gpu, "checkpoint", process.pid, expect=3)
        assert "CUDA IPC, which driver 580.00 cannot checkpoint; 610 can" in message
        gpu.set(driver="610.10")
        park(memplate, gpu, process)
        resume(memplate, gpu, process)
        assert process.get("/verify") == "as loaded"
    finally:
        shared.unlink()


def test_a_restore_that_cannot_succeed_is_refused(memplate, gpu):
    gpu.set(devices=[{"memory_mb": 200}])
    process = gpu.start()
    park(memplate, gpu, process)
    other = gpu.start()  # takes the room
    message = error(memplate, gpu, "restore", process.pid)
    assert "128 MiB of device memory are needed" in message and "72 MiB are free" in message
    assert state(memplate, gpu, process)["state"] == "checkpointed"
    other.stop()
    resume(memplate, gpu, process)
    assert process.get("/verify") == "as loaded"


def test_forced_out_of_memory_breaks_the_process_and_says_so(memplate, gpu):
    gpu.set(devices=[{"memory_mb": 200}])
    process = gpu.start()
    park(memplate, gpu, process)
    gpu.start()
    done = memplate.run("gpu", "restore", process.pid, "--force", expect=1, env=gpu.environment)
    assert "out of memory" in done.stderr and "lost" in done.stderr
    assert state(memplate, gpu, process)["state"] == "failed"
    assert "is lost since" in error(memplate, gpu, "restore", process.pid)


def test_a_process_that_somebody_else_checkpointed(memplate, gpu):
    process = gpu.start()
    park(memplate, gpu, process)
    for note in (memplate.state / "gpu").iterdir():
        note.unlink()
    assert "is not known" in error(memplate, gpu, "restore", process.pid)
    resume(memplate, gpu, process, "--force")
    assert process.get("/verify") == "as loaded"


def test_work_that_does_not_end_lets_the_process_run_on(memplate, gpu):
    gpu.set(calls={"cuMemcpyDtoH_v2": {"microseconds": 1500000}})
    process = gpu.start()
    answer = []
    working = threading.Thread(target=lambda: answer.append(process.get("/verify")))
    working.start()
    time.sleep(0.3)
    message = error(memplate, gpu, "checkpoint", process.pid, "--lock-timeout", "0.2")
    assert "could not be locked within 200 ms" in message and message.endswith("it runs on")
    working.join()
    assert answer == ["as loaded"]
    assert state(memplate, gpu, process)["state"] == "running"


@pytest.mark.parametrize("step", ["lock", "checkpoint"])
@pytest.mark.parametrize("fault", [{"result": 999}, {"hang": True}, {"crash": True}])
def test_a_failed_checkpoint_is_undone(memplate, gpu, step, fault):
    process = gpu.start()
    gpu.set(calls={CALLS[step]: fault})
    message = error(memplate, gpu, "checkpoint", process.pid, "--timeout", "0.5",
                    "--lock-timeout", "0.1")
    assert CALLS[step] in message and "runs on" in message, message
    gpu.set()
    assert state(memplate, gpu, process)["state"] == "running"
    assert process.get("/verify") == "as loaded"
    park(memplate, gpu, process)
    resume(memplate, gpu, process)
    assert process.get("/verify") == "as loaded"


def test_a_checkpoint_that_only_says_so(memplate, gpu):
    process = gpu.start()
    gpu.set(calls={CALLS["checkpoint"]: {"skip": True}})
    message = error(memplate, gpu, "checkpoint", process.pid)
    assert "and it is none" in message and message.endswith("it was unlocked and runs on")
    assert process.get("/verify") == "as loaded"


@pytest.mark.parametrize("fault", [{"result": 999}, {"hang": True}, {"crash": True}])
def test_a_failed_restore_leaves_it_checkpointed(memplate, gpu, fault):
    process = gpu.start()
    park(memplate, gpu, process)
    gpu.set(calls={CALLS["restore"]: fault})
    message = error(memplate, gpu, "restore", process.pid, "--timeout", "0.5")
    assert CALLS["restore"] in message and f"memplate gpu restore {process.pid}" in message
    gpu.set()
    resume(memplate, gpu, process)
    assert process.get("/verify") == "as loaded"


def test_a_failed_unlock(memplate, gpu):
    process = gpu.start()
    park(memplate, gpu, process)
    gpu.set(calls={CALLS["unlock"]: {"result": 999}})
    message = error(memplate, gpu, "restore", process.pid)
    assert CALLS["unlock"] in message and "is locked and could not be unlocked" in message
    gpu.set()
    assert state(memplate, gpu, process)["state"] == "locked"
    unlocked = resume(memplate, gpu, process)
    assert [step["name"] for step in unlocked["steps"]] == ["unlock"]
    assert process.get("/verify") == "as loaded"


def test_interrupted_in_the_middle(memplate, gpu):
    process = gpu.start()
    gpu.set(calls={CALLS["checkpoint"]: {"hang": True}})
    with subprocess.Popen(
        [memplate.binary, "gpu", "checkpoint", str(process.pid)],
        env={**memplate.environment, **gpu.environment},
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if state(memplate, gpu, process)["state"] == "locked":
                break
            time.sleep(0.05)
        command.send_signal(signal.SIGINT)
        message = command.communicate(timeout=30)[1]
    assert command.returncode == 130
    assert "unlocked and runs on" in message
    assert state(memplate, gpu, process)["state"] == "running"
    assert process.get("/verify") == "as loaded"


def test_machines_that_cannot(memplate, gpu):
    process = gpu.start()
    gpu.set(cuda=12040, driver="550.54")
    for verb in (["checkpoint"], ["restore"], ["checkpoint", "--state"]):
        message = error(memplate, gpu, *verb, process.pid, expect=3)
        assert "CUDA 12.4 has no process checkpoints" in message and "570" in message
    nothing = {"LD_LIBRARY_PATH": "", "FAKE_GPU": ""}
    message = memplate.error("gpu", "checkpoint", process.pid, expect=3, env=nothing)
    assert "no CUDA driver on this machine" in message
    gpu.set(calls={"cuInit": {"result": 100}})
    assert "no CUDA-capable device" in error(memplate, gpu, "checkpoint", process.pid, expect=3)
    for call in ("cuCheckpointProcessGetState", CALLS["lock"], CALLS["checkpoint"]):
        gpu.set(calls={call: {"result": 801}})
        message = error(memplate, gpu, "checkpoint", process.pid, expect=3)
        assert f"{call}: " in message and "within" not in message
        gpu.set()
        assert state(memplate, gpu, process)["state"] == "running"


def test_without_permission(memplate, gpu):
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    if subprocess.run([*nobody, "test", "-x", memplate.binary]).returncode != 0:
        pytest.skip("other users cannot run what was built here")
    process = gpu.start()
    for options in ([], ["--state"]):
        done = subprocess.run(
            [*nobody, memplate.binary, "gpu", "checkpoint", *options, str(process.pid)],
            env={**os.environ, **gpu.environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 3 and "no permission" in done.stderr, done.stderr
    assert state(memplate, gpu, process)["state"] == "running"


def test_nothing_is_locked_if_its_needs_cannot_be_kept(memplate, gpu):
    process = gpu.start()
    in_the_way = memplate.state / "gpu" / f"{process.pid}.json"
    in_the_way.mkdir(parents=True)
    try:
        assert "rename" in error(memplate, gpu, "checkpoint", process.pid)
        assert state(memplate, gpu, process)["state"] == "running"
    finally:
        in_the_way.rmdir()


def test_without_nvml_a_restore_must_be_forced(memplate, gpu):
    gpu.set(calls={"nvmlInit_v2": {"result": 9}})
    process = gpu.start()
    park(memplate, gpu, process)
    assert "NVML did not tell" in error(memplate, gpu, "restore", process.pid)
    resume(memplate, gpu, process, "--force")
    assert process.get("/verify") == "as loaded"
