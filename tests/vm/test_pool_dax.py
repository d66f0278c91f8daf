# SPDX-License-Identifier: Apache-2.0
"""Pools on device DAX, in virtual machines: one machine on each medium, and two machines with
different kernels on one persistent memory, of which the one that writes is killed again and again.
About a quarter of an hour under emulation, so only with MEMPLATE_VM_TESTS=1."""

import json
import os
import random
import struct
import time

import pytest

from machine import BUILD, COMMAND_SECONDS, Machine, kernel_module

pytestmark = pytest.mark.skipif(
    os.environ.get("MEMPLATE_VM_TESTS") != "1", reason="boots machines: set MEMPLATE_VM_TESTS=1"
)

POOL = "/dev/dax0.0"
PROGRAM = BUILD / "programs" / "threads"
FUNCTION = BUILD / "programs" / "threads.toml"
BUILD_TEMPLATE = ("template", "build", "--pool", POOL, "--function", FUNCTION, "--no-profile")
ANSWER = "threads 8, wrong 0\n"
PAGE = 4096
ZERO_PAGES = 100
KILLED_WRITERS = 25
KILLED_MACHINES = 5

# Leaves a checkpoint of PROGRAM in $1.
CHECKPOINT = f"""
mkdir "$1"
setsid {PROGRAM} 8099 </dev/null >/dev/null 2>&1 &
until curl -sf http://127.0.0.1:8099/; do sleep 0.1; done
criu dump --shell-job -t $! -D "$1" -v0 >&2
"""


class Images:
    """A checkpoint whose pages are changed, so that no instance can be made of it any more."""

    def __init__(self, folder):
        self.folder = folder
        self.file = folder / "pages-1.img"
        self.pages = bytearray(self.file.read_bytes())

    def clear(self, count):
        """Pages in the middle are the program's own memory."""
        middle = len(self.pages) // PAGE // 2 * PAGE
        self.pages[middle : middle + count * PAGE] = bytes(count * PAGE)
        self.file.write_bytes(self.pages)

    def change(self, number):
        """Makes all pages different from those of other numbers."""
        for at in range(0, len(self.pages), PAGE):
            self.pages[at : at + 4] = number.to_bytes(4, "little")
        self.file.write_bytes(self.pages)


@pytest.fixture
def machines(tmp_path):
    running = {}

    def boot(name, kernel, *options):
        running[name] = Machine(tmp_path, name, kernel, *options)
        return running[name]

    yield boot
    for machine in running.values():
        machine.stop()


def build(machine, name, *options):
    machine.memplate(*BUILD_TEMPLATE, name, *options)


def run(machine, name, engine):
    return machine.json("run", name, "--pool", POOL, "--engine", engine)["instances"][0]


def ask(machine, instance):
    done = machine.run("curl", "-sf", f"http://{instance['address']}:{instance['port']}/")
    assert done["output"] == ANSWER


def restore(machine, name, engine="copy"):
    """Starts an instance, asks it, and stops it."""
    instance = run(machine, name, engine)
    ask(machine, instance)
    machine.memplate("stop", instance["id"])


def is_whole(machine, templates):
    report = machine.json("pool", "verify", POOL)
    assert (report["whole"], report["damages"]) == (True, [])
    names = {template["name"] for template in machine.json("pool", "show", POOL)["templates"]}
    assert names in templates


@pytest.mark.parametrize(
    "kernel, medium",
    [
        ("6.1", ("nvdimm", "--dax-align", "4096")),
        ("6.12", ("nvdimm", "--dax-align", "2097152")),
        ("6.12", ("hmem",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value).replace("--dax-", ""),
)
def test_the_life_of_a_pool(machines, tmp_path, kernel, medium):
    machine = machines("a", kernel, "--dax", *medium)
    created = machine.json("pool", "create", "--dax", POOL, "/tmp/shared")
    assert (created["medium"], created["dedup"], created["used_bytes"]) == ("dax", True, 0)
    assert f"holds pool {created['uuid']} with 0 templates; --force" in machine.error(
        "pool", "create", "--dax", POOL
    )

    machine.shell(CHECKPOINT, tmp_path / "images")
    Images(tmp_path / "images").clear(ZERO_PAGES)
    build(machine, "imported", "--from-images", tmp_path / "images")
    build(machine, "first")
    once = machine.json("pool", "show", "/tmp/shared")
    build(machine, "second")
    twice = machine.json("pool", "show", "/tmp/shared")
    data = {template["name"]: template["data_bytes"] for template in twice["templates"]}
    assert twice["saved"]["zero_pages"] >= ZERO_PAGES
    # Two runs of one program: nearly all pages are the same.
    assert twice["used_bytes"] - once["used_bytes"] < data["second"] / 4
    saved = twice["saved"]["dedup_bytes"]
    assert data["second"] < saved < sum(data.values())
    text = machine.memplate("pool", "show", POOL)["output"]
    assert f"({twice['saved']['dedup_pages']} pages) equal to others" in text
    assert f"({twice['saved']['zero_pages']} pages) of zeros" in text
    is_whole(machine, [{"imported", "first", "second"}])

    machine.memplate("template", "rm", "first", "--pool", "/tmp/shared")
    assert "--no-other-hosts" in machine.error("pool", "gc", POOL, expect=2)
    freed = machine.json("pool", "gc", POOL, "--no-other-hosts")["freed_bytes"]
    assert 0 < freed < data["first"] / 4
    is_whole(machine, [{"imported", "second"}])
    restore(machine, "second")
    assert "engine mapped" in machine.error("run", "second", "--pool", POOL, "--engine", "mapped", expect=3)

    assert "--no-other-hosts" in machine.error("pool", "rm", "/tmp/shared", expect=2)
    machine.memplate("pool", "rm", "/tmp/shared", "--no-other-hosts")
    assert "not a pool" in machine.error("pool", "show", POOL)


def fix_of(line):
    """The command that an error names."""
    return line.split("`")[1]


def test_a_device_that_cannot_carry_a_pool_is_refused_with_the_command_that_changes_that(machines):
    machine = machines("a", "6.1", "--dax", "nvdimm")
    create = ("pool", "create", "--dax", POOL)

    machine.shell("ndctl create-namespace -f -e namespace0.0 -m devdax -a 4096 -M dev")
    refusal = machine.error(*create, expect=3)
    assert "keeps its page structures on the device itself" in refusal
    machine.shell(fix_of(refusal))
    # What the kernel had there.
    assert "holds data that is not a pool; --force" in machine.error(*create)
    machine.memplate(*create, "--force")

    machine.shell("daxctl reconfigure-device --mode=system-ram dax0.0")
    refusal = machine.error(*create, expect=3)
    assert "serves as system memory" in refusal
    machine.shell(fix_of(refusal))
    machine.memplate(*create, "--force", "--no-other-hosts")

    machine.shell("daxctl disable-device dax0.0")
    refusal = machine.error(*create, expect=3)
    assert "the device is disabled" in refusal
    machine.shell(fix_of(refusal))
    assert "holds pool" in machine.error(*create)

    machine.shell("ndctl create-namespace -f -e namespace0.0 -m fsdax -M mem")
    assert "is a block device" in machine.error("pool", "create", "--dax", "/dev/pmem0", expect=3)
    assert "no such device" in machine.error(*create, expect=3)
    assert "not a device DAX" in machine.error("pool", "create", "--dax", "/dev/null", expect=3)
    assert "is not a device" in machine.error("pool", "create", "--dax", "/etc/passwd", expect=2)


def test_cxl_memory_carries_a_pool(machines):
    """Emulated CXL memory takes a microsecond or more for each access: no template here."""
    machine = machines("a", "6.12", "--dax", "cxl")
    assert machine.json("pool", "create", "--dax", POOL)["medium"] == "dax"
    is_whole(machine, [set()])
    machine.memplate("pool", "rm", POOL, "--no-other-hosts")


class Lease:
    """The lease block of a pool, seen from outside of the machines (agent/src/pool/FORMAT.md)."""

    def __init__(self, file):
        self.file = open(file, "rb")
        self.place = self.file.read(4 << 20).index(b"MEMPLATE") + 8192

    def read(self):
        """Epoch, and whether it is held."""
        copies = [os.pread(self.file.fileno(), 512, self.place + at) for at in (0, 512)]
        whole = [copy for copy in copies if copy.startswith(b"MEMLEASE")]
        newest = max(whole, key=lambda copy: struct.unpack_from("<Q", copy, 260))
        return struct.unpack_from("<Q", newest, 8)[0], newest[16] == 1

    def wait_for_writer_after(self, epoch):
        deadline = time.monotonic() + COMMAND_SECONDS
        while self.read() <= (epoch, True):
            assert time.monotonic() < deadline, "no writer comes"
            time.sleep(0.005)

    def wait_for_end(self):
        deadline = time.monotonic() + COMMAND_SECONDS
        while self.read()[1]:
            assert time.monotonic() < deadline, "the writer does not end"
            time.sleep(0.005)


def test_one_machine_reads_while_the_other_that_writes_is_killed(machines, tmp_path):
    """A (6.1) writes, B (6.12) has the same memory and only reads. While A stores a template in
    place of another one, its memplate is killed 25 times, and then five times all of A, at seeded
    moments while the lease is held (30 boots would take too long under emulation). B verifies the
    pool during each of these writes, and its template afterwards; it restores that while A writes,
    and after every death of A, by the engines copy and attached, and one attached instance lives
    all the time. The next writer of A carries on after memplate was killed, and after A was killed
    when it is told to break the lease."""
    memory = tmp_path / "memory"
    medium = ("--dax", "nvdimm", "--pool", memory, "--dax-size", "256M")
    a = machines("a", "6.1", *medium)
    a.memplate("pool", "create", "--dax", POOL)
    build(a, "kept")
    (kept,) = a.json("pool", "show", POOL)["templates"]
    a.shell(CHECKPOINT, tmp_path / "images")
    images = Images(tmp_path / "images")
    b = machines("b", "6.12", *medium)
    b.shell(f"insmod {kernel_module('6.12')}")
    attached = run(b, "kept", "attached")
    a.start(a.binary, *BUILD_TEMPLATE, "new")
    restore(b, "kept")
    assert a.result()["status"] == 0
    restore(b, "new")
    a.memplate("template", "rm", "new", "--pool", POOL)

    lease = Lease(memory)
    moments = random.Random(3)
    rounds = 0

    def begin_round():
        """A begins to write and B to verify; returns when A has the lease."""
        nonlocal rounds
        rounds += 1
        images.change(rounds)
        epoch, _ = lease.read()
        b.start(b.binary, "--quiet", "pool", "verify", POOL)
        a.start(a.binary, *BUILD_TEMPLATE, "work", "--from-images", images.folder, "--replace")
        lease.wait_for_writer_after(epoch)

    def end_round(a):
        done = b.result()
        assert (done["status"], done["error"]) == (0, ""), done
        a.start(a.binary, "pool", "verify", POOL, "--json")
        b.memplate("template", "verify", "kept", "--pool", POOL)
        report = json.loads(a.result()["output"])
        assert (report["whole"], report["damages"]) == (True, [])

    begin_round()
    began = time.monotonic()
    lease.wait_for_end()
    whole_write = time.monotonic() - began
    assert a.result()["status"] == 0
    end_round(a)

    died_writing = 0
    while died_writing < KILLED_WRITERS:
        assert rounds < 4 * KILLED_WRITERS, "the writer is never killed while it writes"
        begin_round()
        time.sleep(moments.uniform(0, whole_write))
        a.kill_command()
        a.result()
        died_writing += lease.read()[1]
        end_round(a)
        a.memplate("pool", "gc", POOL, "--no-other-hosts")

    died_writing = 0
    while died_writing < KILLED_MACHINES:
        assert rounds < 8 * KILLED_WRITERS, "the machine is never killed while it writes"
        begin_round()
        time.sleep(moments.uniform(0, whole_write))
        a.kill()
        ask(b, attached)
        restore(b, "kept", "attached")
        restore(b, "kept")
        a = machines("a", "6.1", *medium)
        end_round(a)
        if lease.read()[1]:
            died_writing += 1
            refusal = a.error("pool", "gc", POOL, "--no-other-hosts")
            assert "take over with" in refusal
            a.run(a.binary, *fix_of(refusal).split()[1:])
        a.memplate("pool", "gc", POOL, "--no-other-hosts")

    ask(b, attached)
    b.memplate("stop", "--all")
    shown = b.json("pool", "show", POOL)
    assert shown["warnings"] == []
    # Ready for the next attach, B's memplate uses it still.
    assert {**kept, "in_use": True} in shown["templates"]
    assert {one["name"] for one in shown["templates"]} <= {"kept", "work"}
