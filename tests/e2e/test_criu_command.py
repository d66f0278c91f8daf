# SPDX-License-Identifier: Apache-2.0
"""memplate criu as a drop-in: a dump and restores of an ordinary host process."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import pytest
from conftest import PROGRAMS, BUILD


def ask(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        return answer.read().decode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def dumped(memplate):
    """Images of an eight-thread program, dumped from the host through the wrapper."""
    images = memplate.folder / "images"
    images.mkdir()
    port = free_port()
    # A low number, as on a machine that has just started.
    pathlib.Path("/proc/sys/kernel/ns_last_pid").write_text("2000")
    program = subprocess.Popen(
        [str(PROGRAMS / "threads"), str(port)], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        try:
            answer = ask(port)
            break
        except OSError:
            time.sleep(0.02)
    time.sleep(0.1)
    memplate.run("criu", "--", "dump", "-t", program.pid, "-D", images, "-o", "dump.log", "-v4")
    program.wait(timeout=30)
    yield images, program.pid, port, answer
    try:
        os.kill(program.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    shutil.rmtree(images)


@pytest.mark.parametrize("engine", ["copy", "mapped", "auto"])
def test_restore_through_an_engine(memplate, dumped, engine):
    images, pid, port, answer = dumped
    memplate.run("criu", "--", "restore", "-D", images, "-d", "-o", "restore.log",
                 "--pidfile", "pid", env={"MEMPLATE_ENGINE": engine})
    assert ask(port) == answer
    assert (images / "restore.log").exists() and int((images / "pid").read_text()) == pid
    maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
    assert bool(re.search("memfd:memplate-template", maps)) == (engine != "copy")
    os.kill(pid, signal.SIGKILL)
    for _ in range(100):
        if not list(memplate.cache.glob("criu-*")):
            break
        time.sleep(0.02)
    assert list(memplate.cache.glob("criu-*")) == []


def test_images_become_a_template(memplate, dumped, pool):
    images, _, port, answer = dumped
    function = memplate.folder / "from-images.toml"
    function.write_text(
        f'name = "threads"\ncommand = ["{PROGRAMS / "threads"}", "{port}"]\nport = {port}\n'
        f'[[warmup]]\npath = "/"\nexpect_body = """{answer}"""\n')
    memplate.run("template", "build", "imported", "--function", function, "--pool", pool,
                 "--from-images", images)
    for engine in ("mapped", "copy"):
        instance = memplate.json("run", "imported", "--pool", pool, "--engine", engine)["instances"][0]
        url = f"http://{instance['address']}:{port}/"
        with urllib.request.urlopen(url, timeout=30) as reply:
            assert reply.read().decode() == answer


def test_other_commands_pass_through(memplate):
    assert "Version:" in memplate.run("criu", "--", "--version").stdout
    memplate.run("criu", "--", "check")


def test_failure_is_passed_on(memplate):
    done = memplate.run("criu", "--", "restore", "-D", "/nowhere", expect=1,
                        env={"MEMPLATE_ENGINE": "copy"})
    assert done.returncode == 1
