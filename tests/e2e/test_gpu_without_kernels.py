# SPDX-License-Identifier: Apache-2.0
"""What is left of memplate's GPU verbs when it was built without nvcc: all that launches nothing."""

import pytest
from fake_gpu import gpu, memplate  # noqa: F401

REASON = "built without the CUDA toolkit"


@pytest.fixture(autouse=True)
def no_kernels(memplate, gpu):
    if memplate.json("gpu", "info", env=gpu.environment)["kernels"]:
        pytest.skip("memplate was built with nvcc")


def test_cold_start_says_what_is_missing(memplate, gpu):
    error = memplate.error("gpu", "cold-start", "-n", "1", expect=3, env=gpu.environment)
    assert REASON in error and "nvcc" in error


def test_footprint_and_transfers_leave_the_kernels_out(memplate, gpu):
    footprint = memplate.json("gpu", "footprint", "-n", "1", env=gpu.environment)
    transfers = memplate.json("gpu", "ipc", "--size", "4K", "--runs", "1", env=gpu.environment)
    assert all(REASON in variant["code"]["kernels"] for variant in footprint["variants"])
    assert any(REASON in one["reason"] for one in transfers["left_out"])
    assert all(one["verified_bytes"] > 0 for one in transfers["results"])
