# SPDX-License-Identifier: Apache-2.0
"""`gpu cold-start -- COMMAND` on the fake GPU: programs that know nothing of memplate, seen by uprobes
where this kernel has them and by the injected library. No times are judged: only whose they are."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
from conftest import BUILD, REPOSITORY
from fake_gpu import FakeGpu, gpu, memplate  # noqa: F401

PROGRAMS = BUILD / "gpu"
DLSYM = (PROGRAMS / "cuda_program", "dlsym")
ENTRY_POINTS = (PROGRAMS / "cuda_program", "entry-points")
LINKED = (PROGRAMS / "cuda_program_linked", "linked")
USE = ("start", "alloc=1000000", "copy=1000000", "load", "launch=3", "share", "memory")
CALLS = {
    "cuInit": 1,
    "cuDeviceGet": 1,
    "cuDevicePrimaryCtxRetain": 1,
    "cuCtxSetCurrent": 1,
    "cuMemAlloc_v2": 1,
    "cuMemcpyHtoD_v2": 1,
    "cuModuleLoadData": 1,
    "cuModuleGetFunction": 1,
    "cuLaunchKernel": 3,
    "cuStreamSynchronize": 1,
    "cuMemcpyDtoH_v2": 1,
    "cuIpcGetMemHandle": 1,
    "cuIpcOpenMemHandle_v2": 1,
    "cuMemGetInfo_v2": 1,
}
# Python finds the driver as any program does.
PYTHON = """
import ctypes, sys
driver = ctypes.CDLL("libcuda.so.1")
assert driver.cuInit(0) == 0
count = ctypes.c_int()
assert driver.cuDeviceGetCount(ctypes.byref(count)) == 0
import http.server
assert driver.cuDriverGetVersion(ctypes.byref(count)) == 0
open(sys.argv[1], "rb").read()
"""


@pytest.fixture(params=["bpf", "inject"])
def backend(request, memplate, gpu):
    done = subprocess.run(
        [memplate.binary, "gpu", "cold-start", "--backend", request.param, "--", "/bin/true"],
        env={**memplate.environment, **gpu.environment},
        capture_output=True,
        text=True,
    )
    if done.returncode == 3:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    return request.param


@pytest.fixture
def traced(memplate, gpu, backend):
    def run(*command, options=(), expect=0):
        arguments = ("gpu", "cold-start", "--json", "--backend", backend, *options, "--", *command)
        done = memplate.run(*arguments, env=gpu.environment, expect=expect)
        return json.loads(done.stdout)

    return run


def only(report):
    (start,) = report["starts"]
    assert start["lost"] == 0
    return start


def calls_of(start):
    return {call["name"]: call for call in start["calls"]}


def counts(start):
    return {name: call["count"] for name, call in calls_of(start).items()}


# Its child and the linked program number the driver's functions differently.
FORKING = """
import ctypes, os, subprocess, sys
driver = ctypes.CDLL("libcuda.so.1")
child = os.fork()
if child == 0:
    subprocess.run([sys.argv[1], "linked", "start"], check=True)
    sys.exit(driver.cuInit(0))
sys.exit(os.waitpid(child, 0)[1])
"""


def test_a_forked_process_has_its_parents_names(traced):
    report = traced("python3", "-c", FORKING, LINKED[0])
    calls = {call["name"]: call["count"] for call in report["starts"][0]["calls"]}
    start = {name: CALLS[name] for name in ("cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent")}
    assert calls == {"cuInit": 2, **start}


@pytest.fixture
def other_driver(tmp_path):
    """Another file than the one that memplate expects."""
    folder = tmp_path / "other driver"
    folder.mkdir()
    shutil.copy(PROGRAMS / "fake" / "libcuda.so.1", folder)
    return ("/usr/bin/env", f"LD_LIBRARY_PATH={folder}")


def test_the_expected_driver_holds_nobody(traced):
    start = only(traced(*DLSYM, *USE))
    assert start["activities"].get("held by memplate", 0) == 0
    assert counts(start) == CALLS


def test_another_driver_is_seen_as_well(traced, other_driver, backend):
    start = only(traced(*other_driver, *DLSYM, *USE))
    assert (start["activities"].get("held by memplate", 0) > 0) == (backend == "bpf")
    assert counts(start) == CALLS


def test_both_drivers_in_one_program(traced, other_driver):
    script = f"'{DLSYM[0]}' dlsym start && {other_driver[0]} '{other_driver[1]}' '{DLSYM[0]}' dlsym start"
    calls = {call["name"]: call["count"] for call in traced("sh", "-c", script)["starts"][0]["calls"]}
    names = ("cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent")
    assert calls == dict.fromkeys(names, 2)


def test_what_the_program_leaves_behind_goes_on(memplate, gpu, backend, other_driver, tmp_path):
    """Also what maps the driver in the moment in which the trace ends."""
    program = f"{other_driver[0]} '{other_driver[1]}' {PROGRAMS / 'cuda_program'} dlsym start"
    starts = f"for start in $(seq 40); do {program}; done"
    script = (
        f"for i in 1 2 3 4; do ( {starts}; touch {tmp_path}/done-$i ) > /dev/null 2>&1 & done; sleep 0.3"
    )
    # A session of its own: else the kernel lets stopped ones go on when memplate ends, by SIGHUP.
    subprocess.run(
        [memplate.binary, "gpu", "cold-start", "--json", "--backend", backend, "--", "sh", "-c", script],
        env={**memplate.environment, **gpu.environment},
        capture_output=True,
        start_new_session=True,
        check=True,
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("done-*"))) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("program", [DLSYM, LINKED], ids=["dlsym", "linked"])
def test_every_call_is_seen_and_does_what_it_did(traced, program):
    start = only(traced(*program, *USE))
    assert start["failure"] == ""
    assert counts(start) == CALLS
    assert calls_of(start)["cuMemAlloc_v2"]["bytes"] == 1_000_000
    assert calls_of(start)["cuMemcpyHtoD_v2"]["bytes"] == 1_000_000
    assert calls_of(start)["cuIpcOpenMemHandle_v2"]["failed"] == 1
    assert start["launches"]["kernels"] == 1 and start["launches"]["later"] == 2
    assert start["processes"] == 1


def test_entry_points_that_the_driver_names_are_seen(traced):
    seen = counts(only(traced(*ENTRY_POINTS, *USE)))
    assert seen.pop("cuGetProcAddress_v2") >= len(CALLS)
    # The fake names one that it does not export; uprobes see the exported one that it calls, too.
    assert seen.pop("cuMemGetInfo") == 1
    seen.pop("cuMemGetInfo_v2", None)
    assert seen == {name: n for name, n in CALLS.items() if name != "cuMemGetInfo_v2"}


def test_the_activities_add_up_to_the_time_measured_outside(traced):
    began = time.monotonic()
    start = only(traced(*DLSYM, "start", "sleep=30", "alloc=1000", "synchronize"))
    outside = (time.monotonic() - began) * 1000
    assert sum(start["activities"].values()) == pytest.approx(start["total_ms"])
    assert sum(start["driver"].values()) == pytest.approx(start["activities"]["driver"])
    assert 30 <= start["activities"]["user code"] <= start["total_ms"] <= outside


def test_time_goes_to_who_spends_it(traced, gpu, tmp_path):
    gpu.set(calls={"cuInit": {"microseconds": 50_000}, "cuMemcpyHtoD_v2": {"microseconds": 40_000}})
    weights = tmp_path / "weights.bin"
    weights.write_bytes(os.urandom(3_000_000))
    start = only(
        traced(*DLSYM, "start", "alloc=1000", f"read={weights}", "copy=1000", "compute=60", "memory")
    )
    assert start["driver"]["initialise"] >= 50
    assert start["driver"]["copies"] >= 40
    assert start["activities"]["user code"] >= 60
    gaps = {(gap["after"], gap["before"]): gap for gap in start["gaps"]}
    reading = gaps["cuMemAlloc_v2", "cuMemcpyHtoD_v2"]
    assert reading["bytes_read"] == 3_000_000 and reading["largest"] == str(weights)
    assert 0 < reading["parts"]["disk"] <= start["activities"]["disk"]
    assert gaps["cuMemcpyHtoD_v2", "cuMemGetInfo_v2"]["parts"]["user code"] >= 60
    assert [stone["name"] for stone in start["milestones"]] == [
        *("exec", "linked", "driver loaded", "first call", "initialised", "context"),
        *("first memory", "first copy to the device", "end"),
    ]


def test_python_imports_are_told_apart(traced, tmp_path):
    data = tmp_path / "data.bin"
    data.write_bytes(bytes(100_000))
    start = only(traced("/usr/bin/python3", "-I", "-c", PYTHON, data))
    assert counts(start) == {"cuInit": 1, "cuDeviceGetCount": 1, "cuDriverGetVersion": 1}
    gaps = {(gap["after"], gap["before"]): gap for gap in start["gaps"]}
    importing = gaps["cuDeviceGetCount", "cuDriverGetVersion"]
    assert importing["code_files"] >= 20 and importing["parts"]["import"] > 0
    assert importing["parts"]["import"] > importing["parts"]["user code"]
    assert gaps["cuDriverGetVersion", ""]["largest"] == str(data)


def test_failing_calls(traced, gpu):
    gpu.set(calls={"cuMemAlloc_v2": {"result": 2}})
    start = only(traced(*DLSYM, "start", "alloc=1000", expect=1))
    assert start["failure"] == "exited with status 9"
    call = calls_of(start)["cuMemAlloc_v2"]
    assert (call["failed"], call["first_error"], call["bytes"]) == (1, 2, 0)


def test_a_program_that_crashes_in_a_call(traced, gpu):
    gpu.set(calls={"cuModuleLoadData": {"crash": True}})
    start = only(traced(*DLSYM, "start", "load", expect=1))
    assert start["failure"] == "was killed by signal 6"
    assert calls_of(start)["cuModuleLoadData"]["unfinished"] == 1


def test_a_call_that_hangs_ends_with_the_duration(traced, gpu):
    gpu.set(calls={"cuMemAlloc_v2": {"hang": True}})
    start = only(traced(*DLSYM, "start", "alloc=1000", options=("--duration", "1")))
    assert start["cut"] and start["failure"] == ""
    call = calls_of(start)["cuMemAlloc_v2"]
    assert call["unfinished"] == 1 and call["total_ms"] > 0


def test_processes_below_the_command_are_seen(traced):
    command = " ".join(map(str, DLSYM))
    script = f"{command} start & {command} start memory; wait"
    start = only(traced("/bin/bash", "-c", script))
    assert start["processes"] == 2
    assert counts(start)["cuInit"] == 2 and counts(start)["cuMemGetInfo_v2"] == 1


def test_a_fork_keeps_its_calls(traced):
    start = only(traced(*DLSYM, "fork", "start", "memory"))
    assert counts(start)["cuInit"] == 1 and counts(start)["cuMemGetInfo_v2"] == 1


def test_labels_of_streambox(memplate, gpu, backend):
    steps = ("start", "synchronize", "alloc=1000", "synchronize", "alloc=9000", "copy=9000", "synchronize")
    done = memplate.run(
        *("gpu", "cold-start", "-n", "2", "--backend", backend, "--labels", "streambox"),
        *("--", *DLSYM, *steps),
        env=gpu.environment,
    )
    labels = [line.split(":  ") for line in done.stdout.splitlines()]
    names = ["Context Initialization Time", "Tensor1 Allocation Time", "Model Load Time"]
    assert [label for label, _ in labels] == names * 2
    assert all(value.endswith(" ms") and float(value[:-3]) > 0 for _, value in labels)


def test_several_starts_are_counted(traced):
    report = traced(*DLSYM, "start", options=("-n", "3"))
    assert report["runs"] == report["total_ms"]["n"] == 3
    assert report["activities"]["driver"]["n"] == 3
    totals = report["total_ms"]["samples"]
    assert totals[report["typical"]] == sorted(totals)[1]


def test_text_and_page(memplate, gpu, backend, tmp_path):
    page = tmp_path / "page.html"
    done = memplate.run(
        *("gpu", "cold-start", "--backend", backend, "--html", page, "--", *DLSYM, *USE),
        env=gpu.environment,
    )
    lines = done.stdout.splitlines()
    assert all(len(line) <= 100 for line in lines)
    for row in ("cuLaunchKernel", "  initialise", "total", "between calls of the driver, ms"):
        assert any(line.startswith(row) for line in lines), row
    html = page.read_text()
    assert "cuLaunchKernel" in html and not re.search(r"(src|href)=.?(https?:|/)", html)


def test_output_of_the_program_goes_to_standard_error(memplate, gpu, backend):
    done = memplate.run(
        *("gpu", "cold-start", "--json", "--backend", backend, "--", "/bin/echo", "hello"),
        env=gpu.environment,
    )
    assert "hello" in done.stderr.splitlines()
    assert json.loads(done.stdout)["starts"][0]["calls"] == []


def test_the_benchmark_of_what_it_costs(memplate, gpu, backend, tmp_path):
    bench = [REPOSITORY / "tests" / "bench" / "gpu_trace_overhead.py", "--memplate", memplate.binary]
    environment = {**memplate.environment, **gpu.environment}
    done = subprocess.run(
        [*bench, "--runs", "2", "--json", tmp_path / "o.json", "--", *DLSYM, *USE],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "o.json").read_text())
    assert {"untraced", {"bpf": "uprobes", "inject": "injected library"}[backend]} <= set(report["ms"])
    assert all(len(case["samples"]) == 2 and case["p99"] > 0 for case in report["ms"].values())
    assert "Fake GPU, driver 580.00; 2 runs" in done.stdout
    failed = subprocess.run([*bench, "--", "/bin/false"], env=environment, capture_output=True, text=True)
    assert failed.returncode == 1 and "exited with status 1" in failed.stderr


def test_interrupted(memplate, gpu, backend):
    command = ("gpu", "cold-start", "--backend", backend, "--", *DLSYM, "start", "sleep=60000")
    process = subprocess.Popen(
        [memplate.binary, *map(str, command)],
        env={**memplate.environment, **gpu.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    deadline = time.monotonic() + 30
    below = []
    while not below and time.monotonic() < deadline:
        time.sleep(0.05)
        with open(children) as file:
            below = [
                pid
                for pid in file.read().split()
                if "sleep=60000" in open(f"/proc/{pid}/cmdline").read()
            ]
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert below and not any(os.path.exists(f"/proc/{pid}") for pid in below)


@pytest.mark.parametrize("end", ["interrupted", "cut"])
def test_what_left_its_parent_is_ended_too(memplate, gpu, tmp_path, end):
    left = tmp_path / "left"
    script = f"setsid sleep 60000 & echo $! > {left}.new; mv {left}.new {left}"
    duration = ("--duration", "2") if end == "cut" else ()
    process = subprocess.Popen(
        [memplate.binary, "gpu", "cold-start", *duration, "--", "/bin/sh", "-c",
         f"/bin/sh -c '{script}'; exec sleep 60000"],
        env={**memplate.environment, **gpu.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not left.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    if end == "interrupted":
        process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == (130 if end == "interrupted" else 0), error
    assert not os.path.exists(f"/proc/{left.read_text().strip()}")


def test_what_does_not_belong_together_is_refused(memplate, gpu):
    def refused(*arguments):
        return memplate.error("gpu", "cold-start", *arguments, expect=2, env=gpu.environment)

    assert "--weights" in refused("--weights", "1M", "--", "/bin/true")
    assert "--backend" in refused("--backend", "inject")


def test_without_a_driver_the_command_is_not_started(memplate, gpu, tmp_path):
    environment = {**gpu.environment, "LD_LIBRARY_PATH": "/nowhere"}
    mark = tmp_path / "mark"
    error = memplate.error("gpu", "cold-start", "--", "/bin/touch", mark, expect=3, env=environment)
    assert "no CUDA driver" in error and not mark.exists()


def test_commands_that_cannot_be_executed(memplate, gpu, backend):
    error = memplate.error(
        *("gpu", "cold-start", "--backend", backend, "--", "/no/such/program"), env=gpu.environment
    )
    assert "/no/such/program" in error


def test_a_missing_library_is_said(memplate, gpu):
    environment = {**gpu.environment, "MEMPLATE_GPU_TRACE_LIBRARY": "/nowhere/trace.so"}
    error = memplate.error(
        *("gpu", "cold-start", "--backend", "inject", "--", "/bin/true"), expect=3, env=environment
    )
    assert "/nowhere/trace.so" in error


def test_a_static_program_does_not_take_the_library(memplate, gpu):
    if not os.access("/sbin/ldconfig", os.X_OK):
        pytest.skip("/sbin/ldconfig, a static program, is not here")
    done = memplate.run(
        *("gpu", "cold-start", "--backend", "inject", "--", "/sbin/ldconfig", "--version"),
        expect=3,
        env=gpu.environment,
    )
    assert "statically" in done.stderr.splitlines()[-1]


def test_without_rights_the_library_is_taken(memplate):
    """As somebody else than root, from folders that everybody may read."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o777)
        gpu = FakeGpu(pathlib.Path(folder))

        def run(backend):
            done = subprocess.run(
                ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", memplate.binary]
                + ["gpu", "cold-start", "--json", "--backend", backend, "--", *DLSYM, "start"],
                env={**memplate.environment, **gpu.environment},
                capture_output=True,
                text=True,
            )
            if done.returncode == 127 or "ermission denied" in done.stderr:
                pytest.skip(f"not readable for others: {BUILD}")
            return done

        done = run("bpf")
        assert done.returncode == 3 and "run as root" in done.stderr, done.stderr
        done = run("auto")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["method"]["backend"] == "injected library"
        assert "run as root" in report["method"]["reason"]
        assert counts(only(report))["cuInit"] == 1
