# SPDX-License-Identifier: Apache-2.0
"""Cold starts on a real GPU: every variant to its verified result, and phases that add up."""

import pytest
from conftest import Memplate


@pytest.fixture
def memplate(tmp_path):
    """In place of conftest's: there are no instances here that could be left behind."""
    return Memplate(tmp_path)


@pytest.fixture(scope="module")
def kernels(gpu_info):
    if not gpu_info["kernels"]:
        pytest.skip("memplate was built without nvcc")


def test_every_variant(memplate, kernels):
    report = memplate.json("gpu", "cold-start", "-n", "3", "--page-cache", "warm,cold",
                           "--weights", "64M")  # fmt: skip
    names = {variant["label"] for variant in report["variants"]}
    assert names == {"base", "ptx", "ptx-uncached", "eager", "pinned", "cold"}
    for variant in report["variants"]:
        phases = {phase["name"]: phase["ms"]["samples"] for phase in variant["phases"]}
        assert all(len(samples) == 3 for samples in phases.values()), phases
        totals = variant["total_ms"]["samples"]
        for run, total in enumerate(totals):
            assert sum(samples[run] for samples in phases.values()) == pytest.approx(total)


def test_code_that_must_be_compiled_is_cached_where_the_driver_may(memplate, kernels):
    report = memplate.json("gpu", "cold-start", "-n", "2", "--module", "ptx,ptx-uncached",
                           "--loading", "lazy", "--copy", "pageable", "--page-cache", "warm",
                           "--libraries", "none", "--weights", "1M")  # fmt: skip
    cached, uncached = report["variants"]
    assert cached["jit_cache_bytes"] != uncached["jit_cache_bytes"]
