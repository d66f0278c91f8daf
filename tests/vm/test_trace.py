# SPDX-License-Identifier: Apache-2.0
"""Tracing on stock kernels, with real runc and crun: what the probes tell against what the traced
programs stamp themselves and the kernel's own files say; what tracing costs, in instructions. A few
minutes for each kernel under emulation, so only with MEMPLATE_VM_TESTS=1."""

import collections
import json
import os
import pathlib
import shutil
import tempfile

import pytest
from machine import BUILD, REPOSITORY, Machine

pytestmark = pytest.mark.skipif(
    os.environ.get("MEMPLATE_VM_TESTS") != "1", reason="boots machines: set MEMPLATE_VM_TESTS=1"
)

LEVEL_ERROR = 512 << 10
CONTAINERS = 400
PORT = 7801
# Files of tests/programs, of the unit tests and of tests/bench.
PROGRAMS = [
    "programs/stamps",
    "programs/steps",
    "programs/trace_events",
    "bench/trace_overhead",
    "unit/test_trace",
]

# Runs $2… while $1 traces: prints what both said, and when the command began and ended.
TRACED = """
import json, subprocess, sys, time
with open("/run/events", "w") as file:
    tracer = subprocess.Popen([sys.argv[1], "memory"], stdin=subprocess.PIPE, stdout=file)
while not open("/run/events").read().endswith("\\n"):
    assert tracer.poll() is None
    time.sleep(0.05)
before = time.monotonic_ns()
done = subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL, capture_output=True, text=True)
after = time.monotonic_ns()
time.sleep(0.1)
tracer.stdin.close()
assert tracer.wait() == 0
methods, *events, end = map(json.loads, open("/run/events"))
print(json.dumps({"methods": methods, "events": events, "lost": end["lost"], "before": before,
                  "after": after, "status": done.returncode, "output": done.stdout,
                  "error": done.stderr}))
"""

# Four at a time: a cgroup, a process that moves itself in and becomes another program, the end.
CHURN = """
import os, sys
for worker in range(4):
    if os.fork() == 0:
        for number in range(worker, int(sys.argv[1]), 4):
            group = f"/sys/fs/cgroup/memplate-trace/c{number}"
            os.mkdir(group)
            child = os.fork()
            if child == 0:
                with open(group + "/cgroup.procs", "w") as file:
                    file.write("0")
                os.execv("/bin/true", ["true"])
            os.waitpid(child, 0)
            while True:
                try:
                    os.rmdir(group)
                    break
                except OSError:
                    pass
        os._exit(0)
for worker in range(4):
    assert os.wait()[1] == 0
"""

# A container of bundle $2 by runtime $1, named $3; its memory.peak is read before its cgroup goes.
LIFE = """
$1 create --bundle $2 $3
$1 start $3
until $1 state $3 | grep -q '"status": "stopped"'; do sleep 0.05; done
echo "peak 0 0 $(cat /sys/fs/cgroup/memplate-trace/$3/memory.peak)"
$1 delete $3
"""


class Guest(Machine):
    def __init__(self, folder, kernel, *options):
        for program in PROGRAMS:
            shutil.copy2(BUILD / program, folder)
        shutil.copytree(REPOSITORY / "agent" / "prices", folder / "prices")
        super().__init__(folder, "guest", kernel, *options)
        self.first_cgroup("memplate-trace")
        self.shell(
            "echo +memory >/sys/fs/cgroup/memplate-trace/cgroup.subtree_control; ip link set lo up"
        )

    def program(self, name):
        return self.folder.parent / name

    def traced(self, *command):
        done = self.run("/usr/bin/python3", "-c", TRACED, self.program("trace_events"), *command)
        traced = json.loads(done["output"])
        assert traced["status"] == 0, traced["error"]
        assert traced["lost"] == 0
        assert traced["methods"]["memory"] == "page_counter"
        return traced

    def bundle(self, name, *arguments):
        """A container with nothing but this repository's test programs in it."""
        path = f"/run/bundles/{name}"
        namespaces = ["pid", "mount", "ipc", "uts", "cgroup"]
        config = {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": False,
                "user": {"uid": 0, "gid": 0},
                "args": list(arguments),
                "env": ["PATH=/"],
                "cwd": "/",
            },
            "root": {"path": "rootfs", "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                {
                    "destination": "/sys/fs/cgroup",
                    "type": "cgroup",
                    "source": "cgroup",
                    "options": ["ro"],
                },
            ],
            "linux": {
                "cgroupsPath": f"/memplate-trace/{name}",
                "namespaces": [{"type": kind} for kind in namespaces],
            },
        }
        self.shell(
            'mkdir -p "$1/rootfs/proc" "$1/rootfs/dev" "$1/rootfs/sys/fs/cgroup"; cp "$3" "$4" "$1/rootfs"; '
            'printf %s "$2" >"$1/config.json"',
            path,
            json.dumps(config),
            self.program("stamps"),
            self.program("steps"),
        )
        return path


def boot(kernel, *options):
    # Not in /tmp: machines have one of their own.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="memplate-trace-", dir="/var/tmp"))
    machine = None
    try:
        machine = Guest(folder, kernel, *options)
        yield machine
        machine.stop()
    finally:
        if machine is not None and machine.process.poll() is None:
            machine.kill()
        shutil.rmtree(folder)


@pytest.fixture(params=["6.1", "6.12"])
def counting_guest(request):
    yield from boot(request.param, "--icount")


@pytest.fixture(scope="module", params=["6.1", "6.12"])
def guest(request):
    yield from boot(request.param)


def test_tracing_costs_little(counting_guest):
    guest = counting_guest
    # Programs of the host are slow to start.
    guest.shell('cp "$1" /run/stamps', guest.program("stamps"))
    done = guest.run(guest.program("trace_overhead"), "/run/stamps", "--json")
    print(done["output"])
    both = json.loads(done["output"])["start+memory"]
    assert both["fork+exec"]["percent"] <= 3
    assert both["page fault"]["percent"] <= 1
    assert abs(both["null syscall"]["percent"]) < 0.2
    assert abs(both["null write"]["percent"]) < 0.2


def lines_of(output):
    return [
        (what, int(first), int(before), int(after))
        for what, first, before, after in (line.split() for line in output.splitlines())
    ]


def of(traced, kind, cgroup=None):
    return [
        event
        for event in traced["events"]
        if event["kind"] == kind and cgroup in (None, event["cgroup"])
    ]


def cgroup_of(traced, name):
    made = [e for e in of(traced, "cgroup_made") if e["text"] == f"/memplate-trace/{name}"]
    assert len(made) == 1, made
    return made[0]["cgroup"]


def within(event, before, after):
    assert before <= event["time_ns"] <= after, event


def check_stamps(traced, cgroup, inner):
    """Every stamp of the probes lies within those of the program."""
    kinds = {
        "exec": "executed",
        "listen": "listening",
        "fork": "forked",
        "accept": "accepted",
        "answer": "answered",
    }
    lines = lines_of(traced["output"])
    assert [what for what, *_ in lines] == list(kinds)
    for what, pid, before, after in lines:
        told = [
            event
            for event in of(traced, kinds[what], cgroup)
            # The runtime's own children and programs are there before.
            if event["time_ns"] >= lines[0][2]
        ]
        within(told[0], before, after)
        if what != "accept":
            assert told[0]["inner_pid" if inner else "pid"] == pid, what
        if what in ("listen", "accept", "answer"):
            assert told[0]["value"] == PORT


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_containers_stamp_what_is_told(guest, runtime):
    bundle = guest.bundle(f"{runtime}-stamps", "/stamps", str(PORT))
    traced = guest.traced(runtime, "run", "--bundle", bundle, f"{runtime}-stamps")
    cgroup = cgroup_of(traced, f"{runtime}-stamps")
    check_stamps(traced, cgroup, inner=True)
    made = of(traced, "cgroup_made", cgroup)[0]
    gone = of(traced, "cgroup_gone", cgroup)[0]
    within(made, traced["before"], traced["after"])
    within(gone, made["time_ns"], traced["after"])
    entry = [e for e in of(traced, "executed", cgroup) if e["text"] == "/stamps"]
    assert [e["inner_pid"] for e in entry] == [1, 1]
    within(entry[0], made["time_ns"], lines_of(traced["output"])[0][2])
    joined = of(traced, "joined", cgroup)
    # crun's first process is born inside: nobody is moved.
    assert joined if runtime == "runc" else of(traced, "forked", cgroup)
    for event in joined:
        within(event, made["time_ns"], entry[0]["time_ns"])
    ends = [e for e in of(traced, "exited", cgroup) if e["inner_pid"] == 1]
    assert ends[-1]["value"] == 0 and ends[-1]["command"] == "stamps"


def test_processes_that_are_moved_in_stamp_what_is_told(guest):
    group = "/sys/fs/cgroup/memplate-trace/moved"
    script = f"mkdir {group}; (echo $BASHPID >{group}/cgroup.procs; exec $1 {PORT}); rmdir {group}"
    traced = guest.traced("/bin/bash", "-euc", script, "bash", guest.program("stamps"))
    cgroup = cgroup_of(traced, "moved")
    assert len(of(traced, "joined", cgroup)) == 1
    check_stamps(traced, cgroup, inner=False)


def level_at(levels, time_ns):
    found = [event["bytes"] for event in levels if event["time_ns"] <= time_ns]
    return found[-1] if found else 0


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_peak_is_the_kernels_and_steps_are_seen(guest, runtime):
    name = f"{runtime}-steps"
    bundle = guest.bundle(name, "/steps", "/sys/fs/cgroup/memory.current")
    traced = guest.traced("/bin/bash", "-euc", LIFE, "bash", runtime, bundle, name)
    cgroup = cgroup_of(traced, name)
    *lines, (_, _, _, peak) = [
        (what, int(a), int(b), int(c))
        for what, a, b, c in (line.split() for line in traced["output"].splitlines())
    ]
    assert len(lines) == 25
    levels = of(traced, "level", cgroup)
    for what, _, after, level in lines:
        assert abs(level_at(levels, after) - level) <= LEVEL_ERROR, (what, level)
    gone = of(traced, "cgroup_gone", cgroup)
    assert [event["peak"] for event in gone] == [peak]
    assert max(event["peak"] for event in levels) == peak
    assert max(event["bytes"] for event in levels) >= peak - LEVEL_ERROR


def recorded(guest, backend, *options):
    """Levels and report of `cost run`, and what the program itself read."""
    command = f'exec {guest.program("steps")} /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.current'
    csv = guest.folder / f"{backend}.csv"
    done = guest.memplate(
        *("cost", "run", "--backend", backend, *options, "--csv", csv, "--json", "-"),
        *("--", "/bin/bash", "-c", command),
    )
    lines = [line.split() for line in done["error"].splitlines()]
    steps = [(line[0], int(line[2]), int(line[3])) for line in lines if len(line) == 4]
    assert len(steps) == 25
    levels = []
    for line in csv.read_text().splitlines():
        fields = line.split(",")
        if fields[0].isdigit() and fields[1].isdigit():
            levels.append({"time_ns": int(fields[0]), "bytes": int(fields[1])})
    return json.loads(done["output"]), levels, steps


def missed(levels, steps):
    return [
        what
        for what, time_ns, level in steps
        if abs(level_at(levels, time_ns) - level) > LEVEL_ERROR
    ]


def test_cost_run_is_told_what_polling_misses(guest):
    report, levels, steps = recorded(guest, "auto")
    assert report["method"]["backend"] == "bpf"
    assert report["method"]["level"] == "page_counter"
    assert missed(levels, steps) == []
    report, levels, steps = recorded(guest, "poll", "--interval-ms", "100")
    assert report["method"]["backend"] == "poll"
    lost = collections.Counter(missed(levels, steps))
    print(f"polling every 100 ms missed {dict(lost)} of 10 up, 5 burst, 10 down")
    assert lost["burst"] > 0


def test_a_churn_of_containers_loses_nothing(guest):
    traced = guest.traced("/usr/bin/python3", "-c", CHURN, str(CONTAINERS))
    made = {
        event["cgroup"]
        for event in of(traced, "cgroup_made")
        if event["text"].startswith("/memplate-trace/c")
    }
    assert len(made) == CONTAINERS
    for kind in ("cgroup_gone", "joined", "executed", "exited"):
        told = collections.Counter(e["cgroup"] for e in of(traced, kind) if e["cgroup"] in made)
        assert told == dict.fromkeys(made, 1), kind


def test_unit_tests_with_all_programs(guest):
    done = guest.run(guest.program("test_trace"), "--gtest_filter=TraceProbes.*")
    assert "[  SKIPPED ]" not in done["output"], done["output"]


def test_what_is_missing_is_said(guest):
    events = guest.program("trace_events")
    # The kernel's own image would do too.
    hide = "for i in /sys/kernel/btf /lib/modules /boot; do mount --bind /run/empty $i; done; exec $1"
    done = guest.shell(
        'mkdir -p /run/empty; exec unshare -m /bin/bash -euc "$1" bash "$2"', hide, events, expect=3
    )
    assert done["error"].count("\n") == 1 and "CONFIG_DEBUG_INFO_BTF" in done["error"]
    done = guest.shell('exec setpriv --reuid=65534 --clear-groups "$1"', events, expect=3)
    assert done["error"].count("\n") == 1 and "run as root" in done["error"]
