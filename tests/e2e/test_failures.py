# SPDX-License-Identifier: Apache-2.0
"""Bad input and bad luck: one clear line each, the right exit code, nothing left behind."""

import os
import pathlib
import shutil
import subprocess
import textwrap

import pytest
from conftest import FUNCTIONS, build, request

HELLO = FUNCTIONS / "hello" / "function.toml"


def write_function(folder, command, extra=""):
    folder.mkdir(exist_ok=True)
    path = folder / "function.toml"
    words = ", ".join(f'"{word}"' for word in command)
    path.write_text(f'name = "broken"\ncommand = [{words}]\nport = 8080\n{extra}')
    return path


@pytest.fixture
def folder(memplate):
    path = memplate.folder / "broken"
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_unreadable_function_file(memplate, pool):
    line = memplate.error(
        "template", "build", "x", "--function", "/nowhere.toml", "--pool", pool, expect=2)
    assert "/nowhere.toml" in line


def test_malformed_function_file_names_the_line(memplate, pool, folder):
    path = write_function(folder, ["/bin/true"], "colour = 3\n")
    line = memplate.error("template", "build", "x", "--function", path, "--pool", pool, expect=2)
    assert "function.toml:4" in line and "colour" in line


def test_function_that_never_gets_ready(memplate, pool, folder):
    path = write_function(folder, ["/bin/sleep", "1000"], "[readiness]\ntimeout_ms = 400\n")
    line = memplate.error("template", "build", "x", "--function", path, "--pool", pool)
    assert "not ready within" in line
    assert pathlib.Path(line.rsplit(": ", 1)[1]).exists()


def test_function_that_ends_early(memplate, pool, folder):
    path = write_function(folder, ["/bin/sh", "-c", "echo broken on purpose >&2; exit 7"])
    line = memplate.error("template", "build", "x", "--function", path, "--pool", pool)
    assert "exited with status 7" in line
    log = pathlib.Path(line.rsplit(": ", 1)[1])
    assert "broken on purpose" in log.read_text()


def test_missing_program(memplate, pool, folder):
    path = write_function(folder, ["/no/such/program"])
    line = memplate.error("template", "build", "x", "--function", path, "--pool", pool)
    assert "/no/such/program" in line


def test_occupied_port(memplate, pool, folder):
    (folder.mkdir(exist_ok=True), (folder / "main.py").write_text(textwrap.dedent("""
        import socket
        first = socket.socket()
        first.bind(("0.0.0.0", 8080))
        second = socket.socket()
        second.bind(("0.0.0.0", 8080))
        """)))
    path = write_function(folder, ["/usr/bin/python3", "main.py"])
    line = memplate.error("template", "build", "x", "--function", path, "--pool", pool)
    log = pathlib.Path(line.rsplit(": ", 1)[1])
    assert "Address already in use" in log.read_text()


def test_process_that_criu_cannot_checkpoint(memplate, pool, folder):
    folder.mkdir(exist_ok=True)
    # An io_uring instance: CRIU knows of none.
    (folder / "main.py").write_text(textwrap.dedent("""
        import ctypes, http.server
        parameters = (ctypes.c_char * 120)()
        ring = ctypes.CDLL(None, use_errno=True).syscall(425, 8, parameters)
        assert ring >= 0, ctypes.get_errno()
        http.server.HTTPServer(("0.0.0.0", 8080), http.server.BaseHTTPRequestHandler).serve_forever()
        """))
    path = write_function(folder, ["/usr/bin/python3", "main.py"])
    line = memplate.error("template", "build", "x", "--function", path, "--pool", pool)
    assert "criu could not checkpoint it" in line
    assert pathlib.Path(line.rsplit(": ", 1)[1]).exists()
    assert memplate.json("template", "list", "--pool", pool)["templates"] == []


def test_wrong_answer_stops_the_build(memplate, pool, folder):
    shutil.copytree(FUNCTIONS / "hello", folder)
    text = (folder / "function.toml").read_text() + '\n[[warmup]]\npath = "/"\nexpect_body = "no"\n'
    (folder / "function.toml").write_text(text.replace("main.py", str(FUNCTIONS / "hello/main.py")))
    line = memplate.error(
        "template", "build", "x", "--function", folder / "function.toml", "--pool", pool)
    assert "GET /" in line


def test_existing_template_is_not_overwritten(memplate, pool):
    build(memplate, pool, "hello", "--no-profile")
    line = memplate.error(
        "template", "build", "hello", "--function", HELLO, "--pool", pool, expect=2)
    assert "--replace" in line
    build(memplate, pool, "hello", "--no-profile", "--replace")


def test_a_copied_pool_is_another_pool(memplate, pool):
    """A copied file has the UUID of the first, and its next template the same number."""
    copy = pool.with_name(pool.name + "-copy")
    shutil.copy(pool, copy)
    build(memplate, pool, "hello", "--no-profile")
    memplate.run("template", "build", "hello", "--no-profile", "--pool", copy,
                 "--function", FUNCTIONS / "dynamic-html" / "function.toml")
    try:
        for engine in ("mapped", "copy"):
            for path, word in ((pool, "hello, world"), (copy, "<html")):
                run = memplate.json("run", "hello", "--pool", path, "--engine", engine)
                assert word in request(run["instances"][0])[1]
    finally:
        memplate.run("stop", "--all")
        memplate.run("pool", "rm", copy)


def test_reclaimed_templates_leave_the_cache(memplate, pool):
    cached = lambda: set((memplate.folder / "cache").glob("*-*-*/mapped-*"))
    before = cached()
    build(memplate, pool, "hello", "--no-profile")
    memplate.run("run", "hello", "--pool", pool)
    build(memplate, pool, "hello", "--no-profile", "--replace")
    assert len(cached() - before) == 1
    memplate.run("pool", "gc", pool)
    assert len(cached() - before) == 1, "it is in use"
    memplate.run("stop", "--all")
    memplate.run("pool", "gc", pool)
    assert cached() == before


def test_unknown_names(memplate, pool):
    assert "nosuch" in memplate.error("run", "nosuch", "--pool", pool)
    assert "nosuch" in memplate.error("template", "show", "nosuch", "--pool", pool)
    assert "nosuch" in memplate.error("stop", "nosuch")
    assert "turbo" in memplate.error("run", "x", "--pool", pool, "--engine", "turbo", expect=2)
    memplate.error("stop", expect=2)
    memplate.error("run", expect=2)


def test_flipped_byte_is_found_and_refused(memplate, pool):
    build(memplate, pool, "hello")
    memplate.run("run", "hello", "--pool", pool)
    memplate.run("stop", "--all")
    size = os.path.getsize(pool)
    with open(pool, "r+b") as file:
        # The data of the template: the last bytes in use that are not zero.
        position = None
        for offset in range(size - 4096, 0, -4096):
            try:
                if os.lseek(file.fileno(), offset, os.SEEK_DATA) != offset:
                    continue
            except OSError:  # nothing but holes from here on
                continue
            file.seek(offset)
            page = file.read(4096)
            if any(page):
                position = offset + next(i for i in range(4096) if page[i])
                break
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x40]))
    done = memplate.run("pool", "verify", pool, expect=1)
    assert "hello" in done.stdout + done.stderr
    line = memplate.error("run", "hello", "--pool", pool)
    assert "hello" in line and "damaged" in line
    memplate.run("template", "verify", "hello", "--pool", pool, expect=1)
    assert memplate.instances() == []


def test_not_a_pool(memplate, pool):
    foreign = memplate.folder / "foreign"
    foreign.write_bytes(b"just a file" * 10000)
    assert "not a" in memplate.error("pool", "verify", foreign)
    truncated = memplate.folder / "truncated"
    subprocess.run(["cp", "--sparse=always", str(pool), str(truncated)], check=True)
    os.truncate(truncated, 100000)
    assert "truncated" in memplate.error("pool", "verify", truncated)
    os.truncate(truncated, 0)
    assert "empty" in memplate.error("pool", "verify", truncated)
    assert "no such pool" in memplate.error("run", "hello", "--pool", "/nowhere")
    assert "exists" in memplate.error("pool", "create", pool, "--size", "1G")


def test_one_writer_and_free_readers(memplate, pool):
    build(memplate, pool, "hello", "--no-profile")
    writer = memplate.start(
        "template", "build", "big-state", "--function",
        FUNCTIONS / "big-state" / "function.toml", "--pool", pool)
    try:
        while "starting" not in writer.stderr.readline():
            pass
        line = memplate.error("template", "rm", "hello", "--pool", pool)
        assert f"pid {writer.pid}" in line and "template build" in line
        instance = memplate.json("run", "hello", "--pool", pool)["instances"][0]
        assert request(instance)[0] == 200
    finally:
        writer.communicate(timeout=120)
    assert writer.returncode == 0
    names = [t["name"] for t in memplate.json("template", "list", "--pool", pool)["templates"]]
    assert names == ["big-state", "hello"]


def test_missing_criu_is_exit_code_3(memplate, pool):
    config = memplate.folder / "no-criu.toml"
    config.write_text(memplate.config.read_text() + 'criu_root = "/nowhere"\n')
    line = memplate.error("run", "x", "--pool", pool, expect=3, env={"MEMPLATE_CONFIG": str(config)})
    assert "install-deps" in line


def test_not_root(memplate, pool):
    binary = memplate.folder / "bin"
    binary.mkdir(exist_ok=True)
    for name in ("memplate", "memplate-keeper"):
        shutil.copy(pathlib.Path(memplate.binary).parent / name, binary / name)
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", str(binary / "memplate"), "-q", "ps"],
        env={**memplate.environment}, capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 3 and len(lines) == 1, done.stderr
    assert "need root" in lines[0]
