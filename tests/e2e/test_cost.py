# SPDX-License-Identifier: Apache-2.0
"""`memplate cost` on real processes in real cgroups: what it reports is what the kernel counted and
the program itself saw, in every format; bad input and bad luck are one clear line each. Hulls:
test_cost_hulls.py."""

import json
import pathlib
import signal
import subprocess
import textwrap
import time

import pytest
from cost_session import PREAMBLE, STEPS, document, program, scratch  # noqa: F401
from memory_groups import PEAK, ROOT, V2

ID = "f00d" + "0" * 56 + "beef"


@pytest.fixture
def cgroup():
    """A container's cgroup as docker makes it."""
    parent = ROOT / "docker"
    existed = parent.exists()
    path = parent / ID
    path.mkdir(parents=True)
    if V2:
        for folder in (ROOT, parent):
            (folder / "cgroup.subtree_control").write_text("+memory")
    yield path
    for folder in [path] + ([] if existed else [parent]):
        if folder.exists():
            folder.rmdir()


def start_in(path, code):
    enter = f"import os; open({str(path / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
    return subprocess.Popen(["/usr/bin/python3", "-c", enter + textwrap.dedent(code)])


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def samples(path):
    rows = [line.split(",") for line in path.read_text().splitlines()[3:]]
    return [(int(row[0]), int(row[1])) for row in rows if row[1] and not row[5]]


def test_golden_prices(memplate):
    bill = document(memplate, "cost", "price", "--profile", "aws-2020", "--memory-bytes", 810766336,
                         "--duration-ms", 3652, "--requests", 1000000)
    assert (bill["memory_mb"], bill["billed_memory_mb"], bill["billed_units"]) == (774, 832, 37)
    assert bill["cost"] == 50.298
    assert round(bill["net_cost"], 6) == 46.200978
    assert round(bill["overhead_cost"], 6) == 4.097022
    assert round(bill["memory_increase_percent"], 6) == 7.461101
    assert round(bill["time_increase_percent"], 6) == 1.308659
    assert (bill["wasted_ms"], bill["wasted_mb"]) == (48, 58)
    text = memplate.run("cost", "price", "--profile", "aws-2020", "--memory-bytes", 50 << 20,
                        "--duration-ms", 105, "--reserve", "256M").stdout
    for part in ("$1.03", "$0.29", "$0.75", "+123.40 %", "+27.10 %", "206 MB, 95 ms"):
        assert part in text


def test_unverified_constants_are_named_in_every_output(memplate):
    arguments = ("cost", "price", "--memory-bytes", 1, "--duration-ms", 1, "--profile")
    assert "not verified      effective, time" in memplate.run(*arguments, "azure-flex").stdout
    bill = document(memplate, *arguments, "azure-flex")
    assert bill["profile"]["unverified"] == ["effective", "time"]
    assert len(document(memplate, *arguments, "all")["bills"]) == 11


def test_run_reports_what_the_kernel_and_the_program_saw(memplate, scratch, program):
    command = program(STEPS + f"""
json.dump({{"entered": entered, "left": time.monotonic_ns(), "peak": int(read("{PEAK}"))}},
          open(sys.argv[1], "w"))
""")
    done = memplate.run("cost", "run", "--json", scratch / "r.json", "--csv", scratch / "t.csv",
                        "--html", scratch / "p.html", "--", *command, scratch / "truth.json")
    report = json.loads((scratch / "r.json").read_text())
    truth = json.loads((scratch / "truth.json").read_text())
    run = report["runs"][0]
    # Writing the truth may have cost a page more.
    assert truth["peak"] <= run["peak_bytes"] <= truth["peak"] + (1 << 20)
    assert run["peak_bytes"] >= 100_000_000
    assert run["ended"] and not run["followed"]
    trace = samples(scratch / "t.csv")
    rows = (scratch / "t.csv").read_text().splitlines()
    exec_ns = int([row for row in rows if ",exec," in row][0].split(",")[0])
    exit_ns = int([row for row in rows if ",exit," in row][0].split(",")[0])
    assert exec_ns <= truth["entered"] and truth["left"] <= exit_ns
    assert run["duration_ns"] == exit_ns - exec_ns
    assert max(level for _, level in trace) <= run["peak_bytes"]
    assert max(level for _, level in trace) >= 0.9 * run["peak_bytes"]
    bill = run["bills"][0]
    assert bill["memory_mb"] == -(-run["peak_bytes"] // (1 << 20))
    assert bill["duration_ms"] == run["duration_ms"]
    assert report["method"]["backend"] == "poll" and report["method"]["accuracy"]
    assert "method            poll: " in done.stdout
    page = (scratch / "p.html").read_text()
    assert "://" not in page.split('<script type="application/json"')[0]
    assert "Memory over time" in page


def test_descendants_count_and_do_not_outlive_the_run(memplate, scratch, program):
    command = program(PREAMBLE + """
if os.fork() == 0:
    held = b"x" * 80_000_000
    open(sys.argv[1], "w").write(str(os.getpid()))
    time.sleep(1000)
while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read():
    time.sleep(0.01)
""")
    report = document(memplate, "cost", "run", "--", *command, scratch / "pid")
    assert report["runs"][0]["peak_bytes"] > 80_000_000
    stat = pathlib.Path("/proc", (scratch / "pid").read_text(), "stat")
    assert not stat.exists() or stat.read_text().split(") ")[1][0] == "Z"


def test_failure_of_the_command_is_reported(memplate, scratch):
    done = memplate.run("cost", "run", "--", "/bin/sh", "-c", "echo sa''id; exit 3", expect=1)
    assert "the command       exited with status 3" in done.stdout
    assert "said" in done.stderr and "said" not in done.stdout
    killed = memplate.run("cost", "run", "--", "/bin/sh", "-c", "kill -9 $$", expect=1)
    assert "was killed by signal 9" in killed.stdout


def test_repeat_and_functracer_formats(memplate, scratch, program):
    command = program("import time; held = b'x' * 50_000_000; time.sleep(0.05)")
    done = memplate.run("cost", "run", "--repeat", 2, "--format", "functracer",
                        "--csv", scratch / "x-rawresults.csv", "--dat", scratch / "x-results.dat",
                        "--", *command)
    assert done.stdout.count("Max memory usage: ") == 2
    rows = (scratch / "x-results.dat").read_text().splitlines()
    assert len(rows) == 2
    for number, row in enumerate(rows, 1):
        used_ms, used_mb, units, billed_mb, cost, net, overhead = row.split()
        assert int(units) == -(-int(used_ms) // 100) and int(billed_mb) == 128
        price = int(units) * 0.208 + 0.2
        assert float(cost) == pytest.approx(price) and float(cost) - float(net) == pytest.approx(
            float(overhead))
        raw = (scratch / f"x-rawresults-{number}.csv").read_text().splitlines()
        assert raw[0].endswith(",0") and raw[-1].endswith(",0") and len(raw) > 3
    report = document(memplate, "cost", "run", "--repeat", 3, "--", "/bin/true")
    assert len(report["runs"]) == 3 and report["summary"]["duration_ms"]["n"] == 3


def test_a_killed_recording_is_readable_to_its_end(memplate, scratch, program):
    command = program(PREAMBLE + """
held = []
while True:
    held.append(b"x" * 100_000); time.sleep(0.01)
""")
    trace = scratch / "t.csv"
    process = memplate.start("cost", "run", "--csv", trace, "--", *command)
    wait_for(lambda: trace.exists() and len(trace.read_text().splitlines()) > 60)
    process.send_signal(signal.SIGKILL)
    killed_ns = time.monotonic_ns()
    process.wait()
    summary = memplate.run("cost", "hull", trace, "-o", scratch / "hull.json").stdout
    assert "cut short" in summary
    assert killed_ns - samples(trace)[-1][0] < 2_000_000_000
    # The command ends with it, and its cgroup is removed by the next run.
    groups = lambda: list((ROOT / "memplate").glob(f"cost-{process.pid}"))
    wait_for(lambda: not groups() or not (groups()[0] / "cgroup.procs").read_text())
    memplate.run("cost", "run", "--", "/bin/true")
    assert groups() == []


def test_interrupting_a_run_leaves_nothing(memplate, scratch):
    process = memplate.start("cost", "run", "--csv", scratch / "t.csv", "--", "/bin/sleep", "1000")
    wait_for(lambda: (scratch / "t.csv").exists() and samples(scratch / "t.csv"))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert not list((ROOT / "memplate").glob("cost-*"))


def test_following_a_container_until_it_ends(memplate, scratch, cgroup):
    container = start_in(cgroup, "import time; held = b'x' * 60_000_000; time.sleep(1000)")
    process = memplate.start("cost", "run", "--container", ID[:12], "--json", "-",
                             "--csv", scratch / "t.csv")
    wait_for(lambda: (scratch / "t.csv").exists() and
             any(level > 60_000_000 for _, level in samples(scratch / "t.csv")))
    container.kill()
    container.wait()
    out, _ = process.communicate(timeout=60)
    report = json.loads(out)
    assert process.returncode == 0
    assert report["runs"][0]["followed"] and report["runs"][0]["ended"]
    assert report["runs"][0]["peak_bytes"] > 60_000_000


def test_functracers_trace_of_what_is_followed(memplate, scratch, cgroup):
    process = memplate.start("cost", "run", "--cgroup", cgroup, "--format", "functracer",
                             "--csv", scratch / "raw.csv")
    wait_for((scratch / "raw.csv").exists)
    start_in(cgroup, "import time; time.sleep(0.5)").wait()
    process.communicate(timeout=60)
    assert process.returncode == 0
    raw = (scratch / "raw.csv").read_text().splitlines()
    assert raw[0].endswith(",0") and raw[-1].endswith(",0") and len(raw) > 3
    assert any(int(row.split(",")[1]) > 0 for row in raw)


def test_a_size_that_is_not_sold_leaves_the_measurement(memplate, program):
    command = program("held = b'x' * 80_000_000")
    report = document(memplate, "cost", "run", "--reserve", "64M", "--", *command)
    assert report["runs"][0]["peak_bytes"] > 80_000_000
    assert "below the" in report["runs"][0]["bills"][0]["error"]
    assert "below the" in memplate.run("cost", "run", "--reserve", "64M", "--", *command).stdout


@pytest.mark.parametrize("target", ["--cgroup", "--container"])
def test_a_container_that_vanishes_ends_the_measurement(memplate, scratch, cgroup, target):
    process = memplate.start("cost", "run", target, ID if target == "--container" else cgroup,
                             "--json", "-", "--csv", scratch / "t.csv")
    wait_for(lambda: (scratch / "t.csv").exists() and samples(scratch / "t.csv"))
    cgroup.rmdir()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and json.loads(out)["runs"][0]["ended"]
    assert "no such container" in memplate.error("cost", "run", "--container", ID)
    assert "no memory cgroup of that path" in memplate.error("cost", "run", "--cgroup", cgroup)


def test_what_a_killed_measurement_left_is_ended(memplate, scratch):
    """It would stay under a limit that nobody raises any more."""
    numbers = scratch / "pid"
    process = memplate.start("cost", "run", "--", "sh", "-c",
                             f"setsid sleep 1000 & echo $! >{numbers}; sleep 1000")
    wait_for(lambda: numbers.exists() and numbers.read_text().strip())
    process.kill()
    process.wait()
    left = pathlib.Path("/proc") / numbers.read_text().strip()
    assert left.exists()
    group = ROOT / "memplate" / f"cost-{process.pid}"
    assert group.exists()
    memplate.run("cost", "run", "--", "true")
    assert not group.exists()
    wait_for(lambda: not left.exists())


def test_a_measurement_in_another_pid_namespace_is_not_taken_for_a_dead_one(memplate, scratch):
    started = scratch / "started"
    process = memplate.start("cost", "run", "--", "sh", "-c", f"touch {started}; sleep 3; exit 5")
    wait_for(started.exists)
    # There, no process has the first one's number.
    subprocess.run(["unshare", "--pid", "--fork", memplate.binary, "cost", "run", "--", "true"],
                   env=memplate.environment, check=True, capture_output=True, timeout=60)
    output, error = process.communicate(timeout=60)
    assert "exited with status 5" in output, output + error


@pytest.mark.parametrize("arguments, words", [
    (["--interval-ms", "nan"], "not a time that can be waited"),
    (["--duration", "1e300"], "not a time that can be waited"),
    (["--dat", "rows.dat"], "--dat needs --format functracer"),
    (["--format", "functracer", "--profile", "aws-x86"], "units of 100 ms, profile aws-x86"),
])
def test_options_of_run_that_make_no_sense(memplate, arguments, words):
    assert words in memplate.error("cost", "run", *arguments, "--", "true", expect=2)


FAKE_PODMAN = f"""#!/usr/bin/python3
import os, pathlib, subprocess, sys
words = [word for word in sys.argv[1:] if word != "--cgroup-manager=cgroupfs"]
state = pathlib.Path(__file__).parent / "state"
if words[0] == "create":
    if "nosuch" in words:
        sys.exit("Trying to pull nosuch...\\nError: nosuch: no such image")
    state.write_text("\\n".join(words[words.index("--cgroup-parent") + 1:]))
    print("{ID}")
elif words[0] == "start":
    parent, image, *command = state.read_text().split("\\n")
    group = pathlib.Path("{ROOT}" + parent) / "libpod-{ID}"
    if {V2}:
        (group.parent / "cgroup.subtree_control").write_text("+memory")
    (group.parent / "libpod-conmon-{ID}").mkdir()
    group.mkdir()
    def enter():
        (group / "cgroup.procs").write_text(str(os.getpid()))
    code = subprocess.run(command, preexec_fn=enter).returncode
    group.rmdir()
    (group.parent / "libpod-conmon-{ID}").rmdir()
    sys.exit(code)
elif words[0] == "rm":
    state.with_name("removed").write_text(words[-1])
"""


def test_image_through_podman(memplate, scratch):
    binaries = scratch / "bin"
    binaries.mkdir()
    (binaries / "podman").write_text(FAKE_PODMAN)
    (binaries / "podman").chmod(0o755)
    path = {"PATH": f"{binaries}:/usr/bin:/bin"}
    report = document(memplate, "cost", "run", "--image", "python", "--", "/usr/bin/python3", "-c",
                           "import time; held = b'x' * 70_000_000; time.sleep(0.3)", env=path)
    assert report["runs"][0]["peak_bytes"] > 70_000_000
    assert (binaries / "removed").read_text() == ID
    assert "no such image" in memplate.error("cost", "run", "--image", "nosuch", env=path)
    assert "podman: not found" in memplate.error("cost", "run", "--image", "python", expect=3,
                                                 env={"PATH": "/nowhere"})


def test_bad_input_is_one_line_each(memplate, scratch):
    bad = scratch / "bad"
    bad.write_text("{")
    assert "not a hull" in memplate.error(
        "cost", "tune", "--hull", bad, "--", "/bin/true", expect=2)
    assert "no sample" in memplate.error("cost", "hull", bad, "-o", "-", expect=2)
    bad.write_text("{\n")
    assert "not a trace" in memplate.error("cost", "hull", bad, "-o", "-", expect=2)
    assert "bad" in memplate.error("cost", "tune", "--hull", scratch / "nosuch-bad", "--dry-run", bad)
    assert "not valid TOML" in memplate.error("cost", "price", "--prices", bad, "--memory-bytes", 1,
                                              "--duration-ms", 1, expect=2)
    assert "known: " in memplate.error("cost", "price", "--profile", "aws", "--memory-bytes", 1,
                                       "--duration-ms", 1, expect=2)
    assert "nothing to measure" in memplate.error("cost", "run", expect=2)
    assert "exclude" in memplate.error("cost", "run", "--cgroup", "a", "--container", "b", expect=2)
    assert "cannot execute /no/such" in memplate.error("cost", "run", "--", "/no/such")
    assert "either" in memplate.error("cost", "tune", "--hull", bad, expect=2)
    assert "/nowhere" in memplate.error("cost", "run", "--csv", "/nowhere/t.csv", "--", "/bin/true")
    (scratch / "back.csv").write_text("10:00:05.000,0\n10:00:01.000,5\n")
    assert "clock goes back" in memplate.error(
        "cost", "hull", scratch / "back.csv", "-o", scratch / "h", expect=2)
    (scratch / "good.json").write_text('{"0.0": 30.0, "0.1": 0}')
    (scratch / "good.csv").write_text("10:00:00.000,0\n10:00:00.100,5\n")
    for option in ("--step-ms", "--quantile", "--margin-mb", "--lookahead-ms"):
        assert "nan" in memplate.error("cost", "hull", scratch / "good.csv", "-o", "-", option, "nan",
                                       expect=2)
    tune = ("cost", "tune", "--hull", scratch / "good.json", "--dry-run", scratch / "good.csv")
    assert "--headroom" in memplate.error(*tune, "--headroom", 2**64 - 1, expect=2)
    assert "below the headroom" in memplate.error(*tune, "--ceiling", 0, expect=2)
    assert "--cpus" in memplate.error("cost", "price", "--memory-bytes", 1, "--duration-ms", 1,
                                      "--cpus", 1, expect=2)
    full = memplate.error("cost", "run", "--csv", "/dev/full", "--", "/bin/true")
    assert "/dev/full" in full
