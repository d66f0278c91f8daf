# SPDX-License-Identifier: Apache-2.0
"""`gpu cold-start` on the fake GPU. No times are judged: only that they add up and whose they are."""

import json
import signal
import subprocess
import time

import pytest
from fake_gpu import gpu, kernels, memplate  # noqa: F401

pytestmark = pytest.mark.usefixtures("kernels")

WORKER = ["clone", "exec", "link", "set_up", "library_load"]
DEVICE = ["cuinit", "context", "module_load", "function", "allocation"]
USE = ["first_launch", "second_launch", "host_weights", "copy"]
BLAS = ["cublas_load", "cublas_create", "product"]
DNN = ["cudnn_load", "cudnn_create"]
PHASES = WORKER + DEVICE + USE + BLAS + DNN + ["answer"]
ONE = ("--module", "sass", "--loading", "lazy", "--copy", "pageable", "--page-cache", "warm")
SMALL = ("--weights", "1M")


def cold_start(memplate, gpu, *options, **more):
    return memplate.json("gpu", "cold-start", *SMALL, *options, env=gpu.environment, **more)


def test_the_phases_add_up_to_the_time_measured_outside(memplate, gpu):
    report = cold_start(memplate, gpu, "-n", "3", *ONE)
    (variant,) = report["variants"]
    names = [phase["name"] for phase in variant["phases"]]
    if "exec_and_link" in names:  # perf events are not permitted
        at = names.index("exec_and_link")
        names[at : at + 1] = ["exec", "link"]
    assert names == PHASES
    totals = variant["total_ms"]["samples"]
    assert len(totals) == report["runs"] == 3
    for run, total in enumerate(totals):
        phases = [phase["ms"]["samples"][run] for phase in variant["phases"]]
        assert all(ms >= 0 for ms in phases)
        assert sum(phases) == pytest.approx(total)


def test_time_goes_to_the_phase_that_spends_it(memplate, gpu):
    spent = {"cuInit": "cuinit", "cuModuleLoadData": "module_load", "cublasCreate_v2": "cublas_create"}
    gpu.set(calls={call: {"microseconds": 20_000} for call in spent})
    (variant,) = cold_start(memplate, gpu, "-n", "1", *ONE)["variants"]
    slow = {phase["name"] for phase in variant["phases"] if phase["ms"]["min"] >= 20}
    assert slow >= set(spent.values())


def test_the_report_says_what_it_ran_on(memplate, gpu):
    gpu.set(driver="575.57", devices=[{"name": "Fake A"}, {"name": "Fake B"}])
    report = cold_start(memplate, gpu, "-n", "1", "--device", "1", *ONE)
    assert report["schema"] == 1 and report["device"] == 1
    assert report["gpu"]["driver"]["version"] == "575.57"
    assert report["gpu"]["devices"][1]["name"] == "Fake B"
    assert report["weights_bytes"] == 1 << 20
    assert report["libraries"]["cublas"]["version"] == 130000
    assert report["libraries"]["cudnn"]["library"].endswith("libcudnn.so.9")
    assert "kernel" in report["environment"]


def test_variants_are_what_they_say(memplate, gpu):
    report = cold_start(memplate, gpu, "-n", "2")
    variants = {one["label"]: one for one in report["variants"]}
    assert list(variants) == ["base", "ptx", "ptx-uncached", "eager", "pinned", "cold"]
    assert report["module_loading"] == {"lazy": "lazy", "eager": "eager"}
    # Every start with an empty cache compiles; with the cache none does.
    cache = {label: one["jit_cache_bytes"] for label, one in variants.items()}
    assert cache["ptx-uncached"]["before"] == 0 < cache["ptx-uncached"]["after"]
    assert 0 < cache["ptx"]["before"] == cache["ptx"]["after"]
    assert variants["cold"]["page_cache_bytes"]["cached"] > 0
    assert "page_cache_bytes" not in variants["base"]
    assert all(one["total_ms"]["n"] == 2 for one in variants.values())


def test_machine_code_is_not_compiled(memplate, gpu):
    gpu.set(calls={"jit": {"result": 218}})
    cold_start(memplate, gpu, "-n", "1", "--module", "sass")
    error = memplate.error(
        "gpu", "cold-start", *SMALL, "-n", "1", "--module", "sass,ptx", env=gpu.environment
    )
    assert "ptx-lazy-pageable-warm: cuModuleLoadData: " in error and "218" in error


def test_all_combinations(memplate, gpu):
    options = ("--combine", "--module", "ptx", "--copy", "pinned,pageable", "--loading", "eager,lazy",
               "--page-cache", "warm", "--libraries", "none")  # fmt: skip
    report = cold_start(memplate, gpu, "-n", "1", *options)
    assert [one["label"] for one in report["variants"]] == [
        "base", "lazy", "pageable", "lazy+pageable",
    ]  # fmt: skip
    assert not {"cublas_load", "cudnn_load"} & {one["name"] for one in report["variants"][0]["phases"]}


def test_what_the_kernel_keeps_in_the_page_cache_is_said(memplate, gpu):
    # memplate itself uses the C library that a start maps.
    text = memplate.run(
        "gpu", "cold-start", *SMALL, "-n", "1", "--page-cache", "warm,cold", "--module", "sass",
        "--loading", "lazy", "--copy", "pageable", env=gpu.environment,
    ).stdout  # fmt: skip
    assert "cold: the kernel kept " in text


def test_text(memplate, gpu):
    text = memplate.run("gpu", "cold-start", *SMALL, "-n", "6", env=gpu.environment).stdout
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "OUTLIERS" in text and "95 % INTERVAL" in text and "cuInit" in text
    assert "all results verified" in text


def test_streambox_statistics(memplate, gpu):
    options = ("gpu", "cold-start", *SMALL, "-n", "4", *ONE)
    text = memplate.run(*options, "--stats", "streambox", env=gpu.environment).stdout
    assert "MEDIAN" in text and "AVERAGE" in text and "DROPPED" in text and "P95" not in text


def test_page(memplate, gpu, tmp_path):
    page = tmp_path / "start.html"
    gpu.set(devices=[{"name": "</script><b>{{title}}"}])
    done = memplate.run(
        "gpu", "cold-start", *SMALL, "-n", "2", "--html", page, env=gpu.environment
    )
    assert f"page:  {page}" in done.stdout
    html = page.read_text()
    data = html.split('<script type="application/json" id="page">')[1].split("</script>")[0]
    assert [bar["name"] for bar in json.loads(data)["bars"]][:2] == ["base", "ptx"]
    assert "<b>{{title}}" not in html


@pytest.mark.parametrize("library", ["libcublas", "libcudnn"])
def test_without_a_library_the_rest_is_measured(memplate, gpu, library):
    gpu.replace(**{library: None})
    # A file that is no library ends the search; other versions are not to be found either.
    for version in (8, 11, 12):
        (gpu.libraries / f"{library}.so.{version}").touch()
    report = cold_start(memplate, gpu, "-n", "1", *ONE)
    name = library.removeprefix("lib")
    assert "missing" in report["libraries"][name]
    assert any(note.startswith(f"without {name}: ") for note in report["notes"])
    assert f"{name}_create" not in [one["name"] for one in report["variants"][0]["phases"]]


CALLS = [
    "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuModuleLoadData", "cuModuleGetFunction",
    "cuMemAlloc_v2", "cuLaunchKernel", "cuCtxSynchronize", "cuMemAllocHost_v2", "cuMemcpyHtoD_v2",
    "cuMemcpyDtoH_v2",
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_every_failing_call_is_named(memplate, gpu, call):
    gpu.set(calls={call: {"result": 2}})
    error = memplate.error(
        "gpu", "cold-start", *SMALL, "-n", "1", "--copy", "pinned", env=gpu.environment
    )
    assert f"{call}: out of memory (CUDA_ERROR_OUT_OF_MEMORY, 2)" in error


@pytest.mark.parametrize("call", ["cublasCreate_v2", "cublasSgemm_v2", "cudnnCreate"])
def test_failing_libraries_are_named(memplate, gpu, call):
    gpu.set(calls={call: {"result": 3}})
    error = memplate.error("gpu", "cold-start", *SMALL, "-n", "1", env=gpu.environment)
    assert f"{call}: status 3" in error


def test_a_hanging_call(memplate, gpu):
    gpu.set(calls={"cuModuleLoadData": {"hang": True}})
    error = memplate.error("gpu", "cold-start", *SMALL, "--timeout", "1", env=gpu.environment)
    assert "hung in cuModuleLoadData" in error


def test_a_crashing_call(memplate, gpu):
    gpu.set(calls={"cublasCreate_v2": {"crash": True}})
    error = memplate.error("gpu", "cold-start", *SMALL, env=gpu.environment)
    assert "signal 6" in error and "in cublasCreate_v2" in error


def test_weights_that_do_not_fit(memplate, gpu):
    gpu.set(devices=[{"memory_mb": 200}])
    error = memplate.error("gpu", "cold-start", "--weights", "1G", env=gpu.environment)
    assert "cuMemAlloc_v2: out of memory" in error


def test_no_driver(memplate, gpu):
    gpu.replace(libcuda=None)
    error = memplate.error("gpu", "cold-start", expect=3, env=gpu.environment)
    assert "no CUDA driver on this machine" in error


def test_a_device_that_disappears(memplate, gpu):
    """The device goes while starts are measured: no machine without a GPU, but a failure."""
    gpu.set(calls={"cuInit": {"microseconds": 20_000}})
    process = start_measuring(memplate, gpu)
    gpu.set(devices=[])
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "cuInit: no CUDA-capable device" in errors and "was there when" in errors


def test_interruption(memplate, gpu):
    process = start_measuring(memplate, gpu)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def start_measuring(memplate, gpu):
    """Returns when memplate says that it measures, and some starts later."""
    process = subprocess.Popen(
        [memplate.binary, "gpu", "cold-start", *SMALL, "-n", "1000", *ONE],
        env={**memplate.environment, **gpu.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "cold starts" in line:
            break
    time.sleep(0.5)
    assert process.poll() is None
    return process


@pytest.mark.parametrize(
    "options",
    [
        ("--module", "spirv"),
        ("--copy", "pinned,pinned"),
        ("--weights", "3"),
        ("--weights", "0"),
        ("-n", "0"),
        ("--stats", "mean"),
        ("--libraries", "cufft"),
        ("--device", "1"),
    ],
)
def test_wrong_usage(memplate, gpu, options):
    memplate.run("gpu", "cold-start", *options, expect=2, env=gpu.environment)
