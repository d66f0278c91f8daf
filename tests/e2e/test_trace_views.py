# SPDX-License-Identifier: Apache-2.0
"""What `memplate trace` shows while it runs: metrics to scrape, a terminal redrawn in place."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import urllib.request

import pytest

from memory_groups import PEAK, groups  # noqa: F401
from trace_session import probes_load, start_in  # noqa: F401


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def scrape(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return answer.read().decode()


def wait_for_metric(port, pattern, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        text = scrape(port)
        if found := re.search(pattern, text, re.M):
            return found, text
        assert time.monotonic() < deadline, text
        time.sleep(0.1)


def test_export_is_scraped(memplate, groups):
    process = memplate.start("trace", "export", "--listen", "127.0.0.1:0", "--interval", 0.2,
                             "--cgroup", "/memplate-trace-*", "--keep", 1)
    line = process.stdout.readline()
    port = int(re.fullmatch(r"serving http://127.0.0.1:(\d+)/metrics; Ctrl-C ends it\n", line)[1])
    wait_for_metric(port, r"^memplate_method_info\{")
    folder = groups("memplate-trace-export")
    holder = start_in(folder, "/bin/sleep", "1000")
    found, text = wait_for_metric(
        port, r'^memplate_container_memory_peak_bytes\{container="/memplate-trace-export".*\} (\S+)$')
    assert float(found[1]) == int((folder / PEAK).read_text())
    _, text = wait_for_metric(
        port, r'^memplate_start_seconds_count\{.*phase="exec"\} 1$')
    for name in re.findall(r"^(memplate_\w+?)(?:_bucket|_sum|_count)?[{ ]", text, re.M):
        assert f"# HELP {name} " in text and f"# TYPE {name} " in text
    assert "memplate_lost_events_total 0" in text
    assert 'memplate_build_info{version="' in text
    # The port is taken: one clear line.
    assert f"127.0.0.1:{port}" in memplate.error("trace", "export", "--listen",
                                                 f"127.0.0.1:{port}")
    holder.kill()
    holder.wait()
    folder.rmdir()
    deadline = time.monotonic() + 60
    while 'container="/memplate-trace-export"' in scrape(port):
        assert time.monotonic() < deadline, "its series stay"
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and errors == ""


def in_terminal(memplate, rows, columns, seconds, *arguments):
    """What a terminal of that size is shown."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {key: value for key, value in memplate.environment.items() if key != "COLUMNS"}
    process = subprocess.Popen(
        [memplate.binary, *map(str, arguments)], stdin=slave, stdout=slave, stderr=slave,
        env=dict(environment, TERM="xterm"), start_new_session=True)
    os.close(slave)
    shown = b""
    deadline = time.monotonic() + seconds
    interrupted = False
    while True:
        ready, _, _ = select.select([master], [], [], 0.1)
        if ready:
            try:
                part = os.read(master, 65536)
            except OSError:  # closed by its last process
                break
            if not part:
                break
            shown += part
        if not interrupted and time.monotonic() > deadline:
            process.send_signal(signal.SIGINT)
            interrupted = True
        assert time.monotonic() < deadline + 60
    os.close(master)
    assert process.wait(timeout=60) == 0
    return shown.decode()


@pytest.mark.parametrize("columns", [100, 60, 40, 20])
def test_top_is_redrawn_in_place_and_fits(memplate, groups, columns):
    holders = [start_in(groups(f"memplate-trace-top-{i}"), "/bin/sleep", "1000") for i in range(12)]
    shown = in_terminal(memplate, 10, columns, 2.5, "trace", "top", "--interval", 0.3,
                        "--cgroup", "/memplate-trace-top-*")
    for holder in holders:
        holder.kill()
        holder.wait()
    frames = shown.split("\x1b[J")
    assert len(frames) >= 3
    assert "\x1b[?1049h" not in shown and "\x1b[2J" not in shown  # the screen is left alone
    for frame in frames[1:-1]:
        lines = plain(frame).replace("\r", "").split("\n")
        assert all(len(line) <= columns for line in lines), lines
        assert len(lines) <= 10
        assert any(line.startswith("/mem") for line in lines)
        assert any(line.startswith("and ") for line in lines)
    # The next frame begins where the one before began.
    drawn = frames[0].count("\n")
    assert re.search(r"\x1b\[(\d+)A\r$", frames[0])[1] == str(drawn)
    assert "lost 0 events" in plain(frames[-1])


def test_columns_are_obeyed_in_a_pipe(memplate, groups):
    holder = start_in(groups("memplate-trace-narrow"), "/bin/sleep", "1000")
    arguments = ("trace", "top", "--cgroup", "/memplate-trace-narrow", "--duration", 0.3)
    narrow = memplate.run(*arguments, env={"COLUMNS": "44"}).stdout.split("\n\n")[0]
    wide = memplate.run(*arguments, env={"COLUMNS": "100"}).stdout.split("\n\n")[0]
    holder.kill()
    holder.wait()
    assert max(map(len, narrow.splitlines())) <= 44 < max(map(len, wide.splitlines())) <= 100
    assert "memory" in narrow and "trend" not in narrow and "trend" in wide
