# SPDX-License-Identifier: Apache-2.0
"""`gpu ipc` on the fake GPU: real bytes between two processes by every transport, and what happens
when one of the two cannot go on. No times are judged: only that they add up and whose they are."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from fake_gpu import FakeGpu, kernels  # noqa: F401
from memory_groups import LIMIT, groups  # noqa: F401

pytestmark = pytest.mark.usefixtures("kernels")

COPIES = ["pipe", "unix", "tcp", "shm", "shm-pinned"]
HANDS_OVER = ["ipc", "ipc-kept", "vmm-fd", "streams"]
SIZE = 256 << 10


@pytest.fixture
def gpu(tmp_path):
    return FakeGpu(tmp_path)


def command(*options):
    return ("gpu", "ipc", "--runs", "2", "--warm-up", "1", *options)


def ipc(memplate, gpu, *options, **more):
    return memplate.json(*command(*options), env=gpu.environment, **more)


def error(memplate, gpu, *options, **more):
    return memplate.error(*command("--size", "64K", *options), env=gpu.environment, **more)


def test_every_transport_moves_every_byte(memplate, gpu):
    report = ipc(memplate, gpu, "--from", "4K", "--to", "1M")
    sizes = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20]
    names = COPIES + HANDS_OVER
    assert [(one["bytes"], one["transport"]) for one in report["results"]] == [
        (size, name) for size in sizes for name in names
    ]
    for one in report["results"]:
        assert one["verified_bytes"] == 3 * one["bytes"]  # the warm-up, too
        assert one["hands_over"] == (one["transport"] in HANDS_OVER)
    assert report["left_out"] == []


def test_phases_add_up_to_the_latency(memplate, gpu):
    for one in ipc(memplate, gpu, "--size", "64K")["results"]:
        phases = {phase["name"]: phase for phase in one["phases"]}
        path = [phase["ns"]["samples"] for phase in one["phases"] if phase["of_latency"]]
        assert [sum(run) for run in zip(*path)] == one["latency_ns"]["samples"]
        copy = phases["copy"]["ns"]["samples"] if one["hands_over"] else [0, 0]
        assert [a + b for a, b in zip(one["latency_ns"]["samples"], copy)] == one["owned_ns"]["samples"]
        assert one["gb_per_s"] == pytest.approx(one["bytes"] / one["owned_ns"]["p50"])
        assert {"first kernel", "second kernel", "third kernel"} <= set(phases)


PHASES = {
    "pipe": ["device to host", "transfer", "host to device"],
    "unix": ["device to host", "transfer", "host to device"],
    "tcp": ["device to host", "transfer", "host to device"],
    "shm": ["device to host", "notify", "host to device"],
    "shm-pinned": ["device to host", "notify", "host to device"],
    "ipc": ["get handle", "send handle", "open handle"],
    "ipc-kept": ["record event", "notify", "wait for event"],
    "vmm-fd": ["export", "send descriptor", "import", "map"],
    "streams": ["record event", "wait for event"],
}


def test_each_transport_has_its_phases(memplate, gpu):
    for one in ipc(memplate, gpu, "--size", "4K")["results"]:
        path = [phase["name"] for phase in one["phases"] if phase["of_latency"]]
        assert path == PHASES[one["transport"]]


@pytest.mark.parametrize(
    "call, transport, phase",
    [
        ("cuMemcpyDtoH_v2", "tcp", "device to host"),
        ("cuMemcpyHtoD_v2", "shm", "host to device"),
        ("cuIpcGetMemHandle", "ipc", "get handle"),
        ("cuIpcOpenMemHandle_v2", "ipc", "open handle"),
        ("cuIpcCloseMemHandle", "ipc", "close handle"),
        ("cuStreamWaitEvent", "ipc-kept", "wait for event"),
        ("cuMemImportFromShareableHandle", "vmm-fd", "import"),
        ("cuMemSetAccess", "vmm-fd", "map"),
        ("cuMemUnmap", "vmm-fd", "unmap and release"),
        ("cuEventRecord", "streams", "record event"),
        ("cuMemcpyDtoD_v2", "streams", "copy"),
    ],
)
def test_time_goes_to_the_phase_that_spends_it(memplate, gpu, call, transport, phase):
    gpu.set(calls={call: {"microseconds": 20_000}})
    (one,) = ipc(memplate, gpu, "--size", "4K", "--transports", transport)["results"]
    slow = {part["name"] for part in one["phases"] if part["ns"]["min"] >= 20e6}
    assert slow == {phase}


def test_what_is_set_up_once_is_timed_once(memplate, gpu):
    steps = ipc(memplate, gpu, "--size", "4K")["set_up"]
    names = {step["name"] for step in steps}
    assert {"shm-pinned: register", "ipc-kept: open memory handle", "vmm-fd: create and map",
            "ipc-kept: close memory handle", "shm-pinned: unregister"} <= names  # fmt: skip
    assert all(step["bytes"] == 4096 and step["end"] in ("sender", "receiver") for step in steps)


def test_text_fits_and_page_has_every_line(memplate, gpu, tmp_path):
    gpu.set(devices=[{"name": "</script><b>{{title}}"}])
    page = tmp_path / "ipc.html"
    done = memplate.run(*command("--to", "64K", "--html", page), env=gpu.environment)
    assert all(len(line) <= 100 for line in done.stdout.splitlines())
    assert f"page:  {page}" in done.stdout and "contents verified: 2.21 MiB" in done.stdout
    html = page.read_text()
    data = html.split('<script type="application/json" id="page">')[1].split("</script>")[0]
    charts = json.loads(data)["charts"]
    assert [chart["title"] for chart in charts] == ["Latency", "Bandwidth"]
    for chart in charts:
        assert [one["name"] for one in chart["series"]] == COPIES + HANDS_OVER
        assert all(len(one["points"]) == 3 for one in chart["series"])
    assert "<b>{{title}}" not in html


def test_streams_alone_make_a_page(memplate, gpu, tmp_path):
    page = tmp_path / "ipc.html"
    memplate.run(*command("--size", "4K", "--transports", "streams", "--html", page),
                 env=gpu.environment)  # fmt: skip
    assert "4 KiB by streams" in page.read_text()


def test_streambox_lines(memplate, gpu):
    text = memplate.run("gpu", "ipc", "--format", "streambox", env=gpu.environment).stdout
    number = r"\d+\.\d{6}"
    lines = [f"Time taken: {number} seconds", "size = 268.435456 MB"]
    lines += [f"{what} handle{j} time = {number} us" for what in ("get", "open") for j in (1, 2)]
    lines += [f"NO{k} kernel \\+ handle{j} time = {number} us" for j in (1, 2) for k in (1, 2, 3)]
    lines.append(f"end-to-end time = {number} us")
    assert re.fullmatch("\n".join(lines) + "\n", text)


def test_contents_that_arrive_wrong_fail(memplate, gpu):
    gpu.set(calls={"cuMemcpyDtoD_v2": {"skip": True}})
    assert "ipc: 16384 of 16384 words of a message of 65536 B arrived wrong" in error(
        memplate, gpu, "--transports", "ipc"
    )


def test_what_the_device_cannot_do_is_left_out(memplate, gpu):
    gpu.set(calls={"cuIpcGetMemHandle": {"result": 801}})
    report = ipc(memplate, gpu, "--size", "4K")
    assert {one["transport"] for one in report["results"]} == set(COPIES + ["vmm-fd", "streams"])
    assert {one["transport"] for one in report["left_out"]} == {"ipc", "ipc-kept"}
    assert all("CUDA_ERROR_NOT_SUPPORTED" in one["reason"] for one in report["left_out"])
    assert "ipc: cuIpcGetMemHandle" in error(memplate, gpu, "--transports", "ipc", expect=3)


def test_sizes_that_do_not_fit_are_left_out(memplate, gpu):
    gpu.set(devices=[{"memory_mb": 256}])
    report = ipc(memplate, gpu, "--size", "4K", "--size", "128M")
    assert {one["bytes"] for one in report["results"]} == {4096}
    (left,) = report["left_out"]
    assert left["bytes"] == 128 << 20 and "of device memory" in left["reason"]
    alone = memplate.error(*command("--size", "128M"), env=gpu.environment)
    assert "needs 640 MiB of device memory" in alone


def test_sizes_that_the_host_has_no_room_for_are_left_out(memplate, gpu, groups):
    folder = groups("memplate-ipc")
    (folder / LIMIT).write_text(str(128 << 20))
    enter = f"echo $$ > {folder}/cgroup.procs && exec \"$@\""
    done = subprocess.run(
        ["/bin/sh", "-c", enter, "sh", memplate.binary,
         *command("--size", "4K", "--size", "64M", "--transports", "shm", "--json")],
        env={**memplate.environment, **gpu.environment},
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {one["bytes"] for one in report["results"]} == {4096}
    (left,) = report["left_out"]
    assert left["bytes"] == 64 << 20 and "needs 192 MiB of host memory" in left["reason"]


CALLS = [
    "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuModuleGetFunction", "cuLaunchKernel",
    "cuMemGetInfo_v2", "cuMemAlloc_v2", "cuMemcpyHtoD_v2", "cuMemcpyDtoH_v2", "cuMemcpyDtoD_v2",
    "cuCtxSynchronize", "cuMemHostRegister_v2", "cuMemHostUnregister", "cuStreamCreate",
    "cuStreamSynchronize", "cuStreamWaitEvent", "cuEventCreate", "cuEventRecord",
    "cuIpcGetMemHandle", "cuIpcOpenMemHandle_v2", "cuIpcCloseMemHandle", "cuIpcGetEventHandle",
    "cuIpcOpenEventHandle", "cuMemGetAllocationGranularity", "cuMemCreate", "cuMemRelease",
    "cuMemAddressReserve", "cuMemAddressFree", "cuMemMap", "cuMemUnmap", "cuMemSetAccess",
    "cuMemExportToShareableHandle", "cuMemImportFromShareableHandle",
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_every_failing_call_is_named(memplate, gpu, call):
    gpu.set(calls={call: {"result": 999}})
    line = error(memplate, gpu)
    assert re.search(f"(sender|receiver): {call}: .*CUDA_ERROR_UNKNOWN, 999", line), line


# The first call is the set-up's; the third, a message's.
@pytest.mark.parametrize("call, end", [
    ("cuIpcOpenMemHandle_v2", "receiver"), ("cuMemExportToShareableHandle", "sender"),
    ("cuMemcpyDtoD_v2", "receiver"),
])  # fmt: skip
def test_a_hanging_call(memplate, gpu, call, end):
    gpu.set(calls={call: {"hang": True, "from": 2}})
    line = error(memplate, gpu, "--transports", "ipc,vmm-fd", "--timeout", "1")
    assert f"in {call}" in line and end in line


@pytest.mark.parametrize("call", ["cuIpcOpenMemHandle_v2", "cuMemExportToShareableHandle",
                                  "cuDevicePrimaryCtxRetain", "cuMemHostRegister_v2"])  # fmt: skip
def test_a_crashing_call(memplate, gpu, call):
    gpu.set(calls={call: {"crash": True}})
    line = error(memplate, gpu)
    assert "signal 6" in line and f"in {call}" in line


def test_a_call_that_fails_later(memplate, gpu):
    gpu.set(calls={"cuMemcpyHtoD_v2": {"result": 719, "from": 4}})
    assert "cuMemcpyHtoD_v2" in error(memplate, gpu, "--transports", "tcp")


def test_no_driver(memplate, gpu):
    gpu.replace(libcuda=None)
    assert "no CUDA driver on this machine" in error(memplate, gpu, expect=3)


def test_no_device(memplate, gpu):
    gpu.set(devices=[])
    assert "cuInit" in error(memplate, gpu, expect=3)


@pytest.mark.parametrize("options, part", [
    (["--size", "1022"], "--size 1022"), (["--size", "4G"], "--size 4G"),
    (["--size", "1026"], "whole floats"), (["--from", "8K", "--to", "4K"], "--to 4K"),
    (["--size", "4K", "--size", "4096"], "--size 4096: given twice"),
    (["--transports", "tcp,shm,tcp"], "--transports tcp: given twice"),
    (["--transports", "pigeon"], "pigeon"), (["--device", "3", "--size", "4K"], "device 3"),
])  # fmt: skip
def test_usage(memplate, gpu, options, part):
    assert part in memplate.error(*command(*options), expect=2, env=gpu.environment)


def test_interruption_ends_both_processes(memplate, gpu):
    gpu.set(calls={"cuCtxSynchronize": {"microseconds": 20_000}})
    process = subprocess.Popen(
        [memplate.binary, "gpu", "ipc", "--runs", "100000", "--size", "4K"],
        env={**memplate.environment, **gpu.environment}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    workers = []
    deadline = time.monotonic() + 30
    while len(workers) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
        listed = f"/proc/{process.pid}/task/{process.pid}/children"
        with open(listed) as children:
            workers = children.read().split()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert "interrupted" in process.stderr.read()
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
