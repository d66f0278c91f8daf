# SPDX-License-Identifier: Apache-2.0
"""Transfers and footprint on a real GPU: contents, and figures that make sense together. What fails
on purpose is tested on the fake GPU."""

import shutil

import pytest


def test_every_transport_that_the_device_has_moves_every_byte(memplate):
    report = memplate.json("gpu", "ipc", "--from", "64K", "--to", "64M", "--runs", "5", "--warm-up", "1")
    left_out = {one.get("transport", one.get("bytes", one.get("phase"))) for one in report["left_out"]}
    names = {one["transport"] for one in report["results"]}
    assert names | left_out >= {"pipe", "unix", "tcp", "shm", "shm-pinned", "ipc", "ipc-kept",
                                "vmm-fd", "streams"}  # fmt: skip
    for one in report["results"]:
        assert one["verified_bytes"] == 6 * one["bytes"]
        path = [phase["ns"]["samples"] for phase in one["phases"] if phase["of_latency"]]
        assert [sum(run) for run in zip(*path)] == one["latency_ns"]["samples"]


def test_streambox_experiments(memplate):
    text = memplate.run("gpu", "ipc", "--format", "streambox").stdout
    assert text.startswith("Time taken: ") and "NO3 kernel + handle2 time = " in text


def test_footprint(memplate):
    report = memplate.json("gpu", "footprint", "-n", "2", "--weights", "64M")
    lazy, eager = report["variants"]
    for variant in (lazy, eager):
        assert variant["context_bytes"] > 0 and variant["model_bytes"] >= 64 << 20
        assert 0 < variant["runtime_share"] < 1
    assert eager["code_bytes"] >= lazy["code_bytes"]


def test_footprint_under_mps(memplate, gpu_info):
    if shutil.which("nvidia-cuda-mps-control") is None:
        pytest.skip("nvidia-cuda-mps-control is not installed")
    report = memplate.json("gpu", "footprint", "-n", "2", "--weights", "64M", "--loading", "lazy",
                           "--device", "0", "--mps")  # fmt: skip
    assert [one["mps"] for one in report["variants"]] == [False, True]
    after = memplate.json("gpu", "info")
    modes = [[one["compute_mode"] for one in info["devices"]] for info in (gpu_info, after)]
    assert modes[0] == modes[1]
