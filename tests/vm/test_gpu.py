# SPDX-License-Identifier: Apache-2.0
"""`gpu cold-start -- COMMAND` on stock kernels, with the fake GPU: which backend each takes, and that
both see the same. A few minutes for each kernel under emulation, so only with MEMPLATE_VM_TESTS=1."""

import json
import os
import pathlib
import shutil
import tempfile

import pytest
from machine import BUILD, Machine

pytestmark = pytest.mark.skipif(
    os.environ.get("MEMPLATE_VM_TESTS") != "1", reason="boots machines: set MEMPLATE_VM_TESTS=1"
)

FILES = ["memplate-gpu-worker", "libmemplate-gpu-trace.so", "gpu/cuda_program", "gpu/fake"]
# Probes at many places at once came with Linux 6.6.
BACKENDS = {"6.1": ["inject"], "6.12": ["bpf", "inject"]}
NAMES = {"bpf": "uprobes", "inject": "injected library"}
USE = ("start", "alloc=1000000", "copy=1000000", "load", "launch=3", "memory")
CALLS = {
    "cuInit": 1,
    "cuDevicePrimaryCtxRetain": 1,
    "cuMemAlloc_v2": 1,
    "cuMemcpyHtoD_v2": 1,
    "cuModuleLoadData": 1,
    "cuLaunchKernel": 3,
    "cuMemGetInfo_v2": 1,
}


class Guest(Machine):
    def __init__(self, folder, kernel):
        for name in FILES:
            source = BUILD / name
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, folder / source.name)
        (folder / "gpu.json").write_text('{"state": "/run/fake-gpu"}')
        super().__init__(folder, "guest", kernel)
        self.kernel = kernel
        self.program = folder / "cuda_program"
        self.environment = [f"FAKE_GPU={folder}/gpu.json", f"LD_LIBRARY_PATH={folder}/fake"]

    def cold_start(self, *arguments, expect=0):
        command = (self.binary, "gpu", "cold-start", "--json", *arguments)
        return self.run("/usr/bin/env", *self.environment, *command, expect=expect)

    def trace(self, *arguments):
        report = json.loads(self.cold_start(*arguments)["output"])
        (start,) = report["starts"]
        assert start["failure"] == "" and start["lost"] == 0
        assert sum(start["activities"].values()) == pytest.approx(start["total_ms"])
        return report["method"], start


@pytest.fixture(scope="module", params=list(BACKENDS))
def guest(request):
    # Not in /tmp: machines have one of their own.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="memplate-gpu-", dir="/var/tmp"))
    machine = None
    try:
        machine = Guest(folder, request.param)
        yield machine
        machine.stop()
    finally:
        if machine is not None and machine.process.poll() is None:
            machine.kill()
        shutil.rmtree(folder)


@pytest.mark.parametrize("lookup", ["dlsym", "entry-points"])
def test_all_backends_see_the_same(guest, lookup):
    for backend in BACKENDS[guest.kernel]:
        method, start = guest.trace("--backend", backend, "--", guest.program, lookup, *USE)
        assert method["backend"] == NAMES[backend]
        seen = {call["name"]: call["count"] for call in start["calls"]}
        if lookup == "entry-points":
            # One that the fake names and does not export.
            seen["cuMemGetInfo_v2"] = seen["cuMemGetInfo"]
        assert {name: seen.get(name) for name in CALLS} == CALLS
        assert start["activities"]["link"] > 0


def test_the_best_backend_is_chosen_and_the_other_one_explained(guest):
    method, _ = guest.trace("--", guest.program, "dlsym", "start")
    assert method["backend"] == NAMES[BACKENDS[guest.kernel][0]]
    assert ("6.6" in method["reason"]) == (guest.kernel == "6.1")
    if guest.kernel == "6.1":
        done = guest.cold_start("--backend", "bpf", "--", guest.program, "dlsym", "start", expect=3)
        assert "Linux 6.6" in done["error"]


def test_imports_are_told_apart(guest):
    for backend in BACKENDS[guest.kernel]:
        python = ("/usr/bin/python3", "-I", "-c", "import http.server")
        _, start = guest.trace("--backend", backend, "--", *python)
        assert start["activities"]["import"] > 0
        assert start["gaps"][0]["code_files"] > 20


def test_another_pid_namespace_around_memplate(guest):
    if "bpf" not in BACKENDS[guest.kernel]:
        pytest.skip("no probes")
    done = guest.run(
        *("/usr/bin/env", *guest.environment, "unshare", "--pid", "--fork", "--mount-proc"),
        *(guest.binary, "gpu", "cold-start", "--json", "--backend", "bpf"),
        *("--", guest.program, "dlsym", *USE),
    )
    (start,) = json.loads(done["output"])["starts"]
    assert {call["name"]: call["count"] for call in start["calls"]}["cuLaunchKernel"] == 3
