# SPDX-License-Identifier: Apache-2.0
"""kill -9 and Ctrl-C at random moments: the next command finds a whole pool and cleans up."""

import os
import random
import signal
import time

import pytest
from conftest import FUNCTIONS, build, leftovers, request

KILLS = int(os.environ.get("MEMPLATE_KILLS", "8"))
HELLO = FUNCTIONS / "hello" / "function.toml"


def kill_at_random(process, longest, number):
    time.sleep(random.uniform(0, longest))
    process.send_signal(number)
    process.communicate(timeout=60)
    return process.returncode


@pytest.mark.parametrize("seed", range(KILLS))
def test_build_killed(memplate, shared_pool_with_hello, seed):
    random.seed(seed)
    pool = shared_pool_with_hello
    process = memplate.start("template", "build", "victim", "--replace", "--function", HELLO,
                             "--pool", pool)
    kill_at_random(process, 0.8, signal.SIGKILL)
    memplate.run("ps")  # the next command
    assert leftovers(memplate) == []
    memplate.run("pool", "verify", pool)
    instance = memplate.json("run", "hello", "--pool", pool)["instances"][0]
    assert request(instance)[0] == 200


@pytest.mark.parametrize("seed", range(KILLS))
def test_run_killed(memplate, shared_pool_with_hello, seed):
    random.seed(1000 + seed)
    pool = shared_pool_with_hello
    process = memplate.start("run", "hello", "--pool", pool, "-n", 4)
    kill_at_random(process, 0.35, signal.SIGKILL)
    # Instances handed over before the kill live on; nothing else does.
    for instance in memplate.instances():
        assert request(instance)[0] == 200
    memplate.run("stop", "--all", "--grace-ms", "0")
    assert leftovers(memplate) == []
    memplate.run("pool", "verify", pool)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [0.05, 0.3])
def test_interrupted(memplate, shared_pool_with_hello, number, after):
    process = memplate.start("template", "build", "victim", "--replace", "--function",
                             FUNCTIONS / "big-state" / "function.toml",
                             "--pool", shared_pool_with_hello)
    time.sleep(after)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    # On a busy machine the signal may arrive before main(): then nothing has begun.
    if process.returncode != -number or errors:
        assert process.returncode == 130, errors
        assert errors.strip().splitlines()[-1] == "memplate: interrupted"
    assert leftovers(memplate) == []


@pytest.fixture(scope="module")
def shared_pool_with_hello(session):
    path = session.folder / "kill-pool"
    session.run("pool", "create", path, "--size", "2G")
    build(session, path, "hello")
    return path
