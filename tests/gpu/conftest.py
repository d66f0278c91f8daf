# SPDX-License-Identifier: Apache-2.0
"""Tests on a real GPU: skipped, with the reason, where there is none. They share the fixtures of the
end-to-end tests, and like those leave nothing behind."""

import importlib.util
import json
import pathlib
import subprocess

import pytest

_FILE = pathlib.Path(__file__).resolve().parents[1] / "e2e" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("e2e_conftest", _FILE)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
globals().update({name: value for name, value in vars(_MODULE).items() if name[0] != "_"})


@pytest.fixture(scope="session", autouse=True)
def gpu_info():
    """What `memplate gpu info` tells."""
    done = subprocess.run([_MODULE.BUILD / "memplate", "gpu", "info", "--json"],
                          capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip().removeprefix("memplate: "))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
