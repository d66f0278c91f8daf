# SPDX-License-Identifier: Apache-2.0
"""`memplate trace` on real processes in cgroups of the test's own, and on a real restore: every
phase in its order and inside what the program itself stamped; it ends cleanly, and bad input is
one clear line. How it looks: test_trace_views.py."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import textwrap
import time

from conftest import build, request
from memory_groups import PEAK, ROOT, groups  # noqa: F401
from trace_session import Trace, probes_load, scratch, start_in  # noqa: F401

# Stamps its own steps with the clock of the trace.
SERVER = """
import json, os, socket, sys, time
stamps = {"entered": time.monotonic_ns()}
held = bytearray(40_000_000)
held[::4096] = b"x" * len(held[::4096])
server = socket.socket()
server.bind(("127.0.0.1", 0))
stamps["before_listen"] = time.monotonic_ns()
server.listen()
stamps["after_listen"] = time.monotonic_ns()
print(server.getsockname()[1], flush=True)
client, _ = server.accept()
stamps["accepted"] = time.monotonic_ns()
client.recv(1000)
stamps["before_answer"] = time.monotonic_ns()
client.send(b"hello")
stamps["after_answer"] = time.monotonic_ns()
client.close()
stamps["left"] = time.monotonic_ns()
print(json.dumps(stamps), flush=True)
sys.exit(7)
"""


def serve(folder):
    """The server from start to exit, with one request; its stamps."""
    server = start_in(folder, "/usr/bin/python3", "-c", SERVER, stdout=subprocess.PIPE)
    port = int(server.stdout.readline())
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.send(b"GET /")
        assert client.recv(100) == b"hello"
    stamps = json.loads(server.stdout.readline())
    assert server.wait(timeout=60) == 7
    return stamps


def test_phases_lie_inside_what_the_program_stamped(memplate, groups):
    trace = Trace(memplate, "trace", "start", "--cgroup", "/memplate-trace-*")
    before = time.monotonic_ns()
    folder = groups("memplate-trace-one")
    made = time.monotonic_ns()
    stamps = serve(folder)
    ended = trace.phase("ended")
    times = {name: trace.phase(name)["time_ns"] for name in
             ("made", "joined", "exec", "listening", "accepted", "answered", "ended")}
    assert before <= times["made"] <= made
    assert made <= times["joined"] <= times["exec"] <= stamps["entered"]
    assert stamps["before_listen"] <= times["listening"] <= stamps["after_listen"]
    # The connection is there before accept() returns it.
    assert stamps["after_listen"] <= times["accepted"] <= stamps["accepted"]
    assert stamps["before_answer"] <= times["answered"] <= stamps["after_answer"]
    assert stamps["left"] <= times["ended"]
    assert ended["detail"] == "exit status 7"
    assert ended["container"]["cgroup"] == "/memplate-trace-one"
    # The program is larger than the shell before it: its peak is the cgroup's, exactly.
    assert ended["peak_bytes"] == int((folder / PEAK).read_text())
    assert ended["peak_since_exec_exact"] and ended["peak_since_exec_bytes"] == ended["peak_bytes"]
    assert ended["peak_bytes"] > 40_000_000
    lines = trace.end()
    assert [line["type"] for line in lines[-2:]] == ["hist", "lost_events"]
    histograms = lines[-2]["data"]["@start_ms"]
    assert {key.split(",")[1] for key in histograms} == {"exec", "listening", "answered"}
    assert all(sum(bucket["count"] for bucket in one) == 1 for one in histograms.values())
    assert lines[-1]["data"] == {"events": 0}
    methods = {one["what"]: one["backend"] for one in lines[0]["data"]["methods"]}
    assert methods["start"] == "tracepoints"


def test_text_for_people(memplate, groups):
    process = memplate.start("trace", "start", "--name", "memplate-trace-*")
    assert process.stdout.readline().startswith("start by tracepoints")
    serve(groups("memplate-trace-text"))
    lines = []
    while not lines or "ended" not in lines[-1]:
        lines.append(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and errors == ""
    assert lines[0].split() == ["ms", "container", "phase"]
    assert [line.split()[2] for line in lines[1:]] == [
        "made", "joined", "exec", "listening", "accepted", "answered", "ended"]
    assert lines[3].endswith("/usr/bin/python3\n")
    assert re.search(r"exit status 7, peak \S+ MiB, \S+ MiB since exec$", lines[-1])
    assert "@start_ms[/memplate-trace-text,exec]:" in rest
    assert re.search(r"^\[\d+, \d+\) +1 \|@+ *\|$", rest, re.M)
    assert "lost 0 events" in rest and "start by tracepoints: " in rest


def test_filters_and_what_ran_before(memplate, groups):
    old = groups("memplate-trace-old")
    sleeper = start_in(old, "/bin/sleep", "1000")
    procs = old / "cgroup.procs"
    while "sleep" not in pathlib.Path(f"/proc/{sleeper.pid}/comm").read_text():
        time.sleep(0.01)
    assert procs.read_text()
    trace = Trace(memplate, "trace", "start", "--cgroup", "/memplate-trace-*",
                  "--command", "true")
    # An exec in one that runs already is no start; nor does another command pass.
    start_in(old, "/bin/true").wait()
    start_in(groups("memplate-trace-false"), "/bin/false").wait()
    start_in(groups("memplate-trace-true"), "/bin/true").wait()
    trace.phase("ended", "/memplate-trace-true")
    sleeper.kill()
    sleeper.wait()
    names = {line["data"]["container"]["name"] for line in trace.end() if line["type"] == "phase"}
    assert names == {"/memplate-trace-true"}


def test_nested_cgroups_count_to_their_container(memplate, groups):
    parent = ROOT / "docker"
    existed = parent.exists()
    docker = parent if existed else groups("docker")
    identity = "f00d" + "0" * 56 + "beef"
    trace = Trace(memplate, "trace", "start", "--name", identity[:12])
    outer = groups(f"docker/{identity}")
    inner = groups(f"docker/{identity}/init.scope")
    start_in(inner, "/bin/true").wait()
    ended = trace.phase("ended")
    assert docker.exists() and outer.exists()
    assert ended["container"]["engine"] == "docker" and ended["container"]["id"] == identity
    assert trace.phase("exec")["detail"] == "/bin/true"
    trace.end()


def test_churn_loses_nothing(memplate, scratch):
    trace = Trace(memplate, "trace", "start", "--cgroup", "/memplate-churn-*")
    script = textwrap.dedent(f"""
        for i in $(seq 50); do
            g={ROOT}/memplate-churn-$1-$i
            mkdir $g
            sh -c "echo \\$\\$ > $g/cgroup.procs; exec /bin/true"
            until rmdir $g 2>/dev/null; do :; done
        done
    """)
    workers = [subprocess.Popen(["/bin/sh", "-c", script, "sh", str(i)]) for i in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    lines = trace.end()
    phases = [line["data"] for line in lines if line["type"] == "phase"]
    for name in ("made", "joined", "exec", "ended"):
        names = [one["container"]["name"] for one in phases if one["phase"] == name]
        assert len(names) == 100 and len(set(names)) == 100, name
    assert lines[-1]["data"]["events"] == 0
    assert len(lines[-2]["data"]["@start_ms"]) <= 12 and "others,exec" in lines[-2]["data"]["@start_ms"]


def test_memory_tables_follow_each_other_in_a_pipe(memplate, groups, scratch):
    folder = groups("memplate-trace-memory")
    holder = start_in(folder, "/usr/bin/python3", "-c",
                      "import time; held = b'x' * 60_000_000; print(1, flush=True); time.sleep(1000)",
                      stdout=subprocess.PIPE)
    holder.stdout.readline()
    page, record = scratch / "page.html", scratch / "record.jsonl"
    arguments = ("trace", "memory", "--cgroup", folder, "--duration", 2, "--interval", 0.5)
    text = memplate.run(*arguments, "--html", page, "--record", record).stdout
    tables = text.split("\n\n")
    assert len(tables) >= 4 and "\x1b" not in text
    for table in tables[:-1]:
        status, header, row = table.splitlines()
        assert re.match(r"\d\d:\d\d:\d\d memory by \S+, lost 0 events$", status)
        assert header.split()[:3] == ["container", "now", "peak"]
        assert row.startswith("/memplate-trace-memory")
    maps = [json.loads(line) for line in memplate.run(*arguments, "--json").stdout.splitlines()]
    one = [line for line in maps if line["type"] == "map"][-1]["data"]["@memory"]
    usage = one["/memplate-trace-memory"]
    assert usage["peak_bytes"] == int((folder / PEAK).read_text())
    assert 60_000_000 < usage["bytes"] <= usage["peak_bytes"]
    assert usage["docker_stats_bytes"] == usage["bytes"] - usage["inactive_file_bytes"]
    holder.kill()
    holder.wait()
    html = page.read_text()
    assert "://" not in html.split('<script type="application/json"')[0]
    assert "/memplate-trace-memory" in html and "it ran before the trace began" in html
    again = memplate.run("trace", "memory", "--read", record).stdout
    assert "/memplate-trace-memory" in again and "lost 0 events" in again


def test_a_killed_recording_is_read_back_to_its_end(memplate, groups, scratch):
    record = scratch / "record.jsonl"
    process = memplate.start("trace", "start", "--cgroup", "/memplate-trace-*", "--record", record)
    process.stdout.readline()
    serve(groups("memplate-trace-killed"))
    while "ended" not in process.stdout.readline():
        pass
    process.kill()
    process.wait()
    with record.open("a") as file:
        file.write('{"type":"phase","data":{"ti')
    page = scratch / "page.html"
    text = memplate.run("trace", "start", "--read", record, "--html", page).stdout
    assert re.findall(r"memplate-trace-killed +(\w+)", text.split("@")[0]) == [
        "made", "joined", "exec", "listening", "accepted", "answered", "ended"]
    html = page.read_text()
    data = json.loads(re.search(r'id="page">(.*?)</script>', html, re.S).group(1))
    assert [phase["name"] for phase in data["charts"][0]["phases"]][-1] == "accepted → answered"
    (scratch / "bad.jsonl").write_text("hello\n")
    assert "bad.jsonl, line 1" in memplate.error("trace", "start", "--read", scratch / "bad.jsonl")


def test_faults_by_container_and_kind(memplate, groups):
    folder = groups("memplate-trace-faults")
    process = memplate.start("trace", "faults", "--cgroup", folder, "--interval", 0.2, "--json")
    assert json.loads(process.stdout.readline())["type"] == "attached_probes"
    pages = 2000
    start_in(folder, "/usr/bin/python3", "-c",
             f"import mmap; m = mmap.mmap(-1, {pages} * 4096, mmap.MAP_PRIVATE)\n"
             f"for i in range({pages}): m[i * 4096] = 1").wait()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    lines = [json.loads(line) for line in rest.splitlines()]
    faults = [line for line in lines if line["type"] == "map"][-1]["data"]["@faults"]
    written = faults["/memplate-trace-faults,minor,anonymous,-,write"]
    assert pages <= written < 20 * pages
    assert any(",file," in key for key in faults)


def test_a_restore_shows_its_phases(memplate, pool):
    build(memplate, pool, "hello")
    trace = Trace(memplate, "trace", "start", "--cgroup", "/memplate/*")
    instance = memplate.json("run", "hello", "--pool", pool)["instances"][0]
    assert request(instance)[0] == 200
    trace.phase("ready")
    trace.phase("answered")
    time.sleep(1)  # its template is told by a file that is read now and then
    memplate.run("stop", "--all")
    trace.phase("ended")
    data = [line["data"] for line in trace.end() if line["type"] == "phase"]
    names = [one["phase"] for one in data]
    order = [names.index(name) for name in ("made", "joined", "sandbox", "restore", "resume")]
    assert order == sorted(order) and names.index("resume") < names.index("ready")
    assert "exec" not in names
    container = data[-1]["container"]
    assert container["engine"] == "memplate" and container["name"] == instance["id"]
    assert container["image"] == "hello"


def test_a_cgroup_that_is_removed_ends_its_trace(memplate, groups):
    folder = groups("memplate-trace-gone")
    process = memplate.start("trace", "memory", "--cgroup", "/memplate-trace-gone", "--json")
    assert process.stdout.readline()
    folder.rmdir()
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors == "memplate: cgroup /memplate-trace-gone: removed, nothing is left to trace\n"
    assert json.loads(rest.splitlines()[-1])["type"] == "lost_events"


def test_a_closed_pipe_ends_it(memplate):
    process = memplate.start("trace", "memory", "--interval", 0.1)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) in (-signal.SIGPIPE, 1)
    process.stderr.close()


def test_bad_input_is_one_line(memplate):
    line = memplate.error("trace", "memory", "--cgroup", "/no/such")
    assert "/no/such" in line and "/proc/PID/cgroup" in line
    assert "--listen nonsense" in memplate.error("trace", "export", "--listen", "nonsense", expect=2)
    for arguments in (("trace",), ("trace", "start", "--duration", "-1"),
                      ("trace", "memory", "--interval", "0"), ("trace", "top", "--sort", "age"),
                      ("trace", "start", "--read", "a", "--record", "b"), ("trace", "start", "x")):
        memplate.error(*arguments, expect=2)
    assert "/no/such" in memplate.error("trace", "start", "--record", "/no/such/file")
    assert "/no/such" in memplate.error("trace", "start", "--read", "/no/such/file")


def test_without_permission_it_says_so(memplate):
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--clear-groups", "--bounding-set", "-all",
         memplate.binary, "trace", "start", "--duration", "0.1"],
        env=dict(os.environ, MEMPLATE_CONFIG="/dev/null"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert len(done.stderr.strip().splitlines()) == 1 and "root" in done.stderr
    assert done.stdout == ""
