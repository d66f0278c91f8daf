# SPDX-License-Identifier: Apache-2.0
"""The fake GPU of tests/gpu/fake for one test: its settings and the environment that selects it."""

import json
import os

import pytest
from conftest import BUILD, Memplate

LIBRARIES = BUILD / "gpu" / "fake"


class FakeGpu:
    def __init__(self, folder):
        self.file = folder / "gpu.json"
        self.libraries = folder / "libraries"
        self.set()

    def set(self, **settings):
        """What the fake is like from now on (tests/gpu/fake/README.md has the keys)."""
        temporary = self.file.with_suffix(".new")
        temporary.write_text(json.dumps(settings))
        os.rename(temporary, self.file)

    @property
    def environment(self):
        folder = self.libraries if self.libraries.exists() else LIBRARIES
        return {"FAKE_GPU": str(self.file), "LD_LIBRARY_PATH": str(folder)}

    def replace(self, **files):
        """Other libraries in place of the fake's: name up to ".so" → a path, or None for a file that
        is no library. The others stay."""
        self.libraries.mkdir()
        for path in LIBRARIES.iterdir():
            (self.libraries / path.name).symlink_to(path)
        for name, path in files.items():
            for soname in self.libraries.glob(f"{name.replace('_', '-')}.so*"):
                soname.unlink()
                if path is None:
                    soname.touch()
                else:
                    soname.symlink_to(path)


@pytest.fixture
def memplate(tmp_path):
    """In place of conftest's: no test of the GPU has instances that could be left behind."""
    return Memplate(tmp_path)


@pytest.fixture
def gpu(tmp_path):
    return FakeGpu(tmp_path)


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """Skips where memplate was built without nvcc, so that it has nothing to launch."""
    folder = tmp_path_factory.mktemp("kernels")
    info = Memplate(folder).json("gpu", "info", env=FakeGpu(folder).environment)
    if not info["kernels"]:
        pytest.skip("memplate was built without nvcc")
