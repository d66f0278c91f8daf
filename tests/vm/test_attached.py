# SPDX-License-Identifier: Apache-2.0
"""Engine attached on stock kernels: templates that the module brings into real processes restored by
real CRIU. One machine for each kernel, its tests in their order."""

import json
import os
import pathlib
import shutil
import tempfile

import pytest
from attached_guest import CONFIGURATION, DEBUG, POOL, Guest
from machine import BUILD, kernel_module

# Not wipeonfork: Debian's CRIU does not record that advice, whatever the engine.
PROGRAMS = ["tree", "threads", "shared", "dontneed", "jemalloc_calloc", "mremap_grow"]


@pytest.fixture(scope="module", params=["6.1", "6.12"])
def guest(request):
    module = kernel_module(request.param)
    # Not in /tmp: machines have one of their own.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="memplate-attached-", dir="/var/tmp"))
    machine = None
    try:
        machine = Guest(folder, request.param, module)
        yield machine
        machine.stop()
    finally:
        if machine is not None and machine.process.poll() is None:
            machine.kill()
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def nothing_is_left(guest):
    yield
    guest.memplate("stop", "--all", "--grace-ms", "0")
    assert guest.json("ps")["instances"] == []
    complaints = "BUG|WARNING|Oops|Bad rss|Bad page|leak|blocked for more|general protection"
    assert guest.text(f"dmesg | grep -E '{complaints}' || true") == ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_answers_right(guest, name):
    guest.build(name, "--no-profile")
    document = guest.json("run", name, "--pool", POOL)
    # Also where mapping would corrupt: this is anonymous memory.
    assert document["engine"] == "attached"
    assert document["reason"] == "the module pseudo_mm is loaded"
    guest.answers_right(document["instances"][0], name)


def test_engines_side_by_side(guest):
    name = guest.build("tree", "--no-profile")
    started = {
        engine: guest.start_instances(name, engine=engine)[0]
        for engine in ("attached", "mapped", "copy")
    }
    before = guest.ask(started["attached"], "/")
    assert before == guest.ask(started["mapped"], "/") == guest.ask(started["copy"], "/")
    # What one writes, no other sees.
    guest.ask(started["attached"], "/change")
    changed = guest.ask(started["attached"], "/")
    assert changed != before
    assert guest.ask(started["mapped"], "/") == guest.ask(started["copy"], "/") == before
    guest.ask(started["copy"], "/change")
    assert guest.ask(started["copy"], "/") == changed


def test_ten_instances_are_as_large_as_one(guest):
    name = guest.build("tree", "--no-profile")
    shown = guest.json("template", "show", name, "--pool", POOL)["template"]
    data = shown["pages"]["stored"] * 4096
    assert data > 40 << 20
    guest.empty_module()
    instances = guest.start_instances(name, "-n", 10)
    assert len({instance["address"] for instance in instances}) == 10
    for instance in instances:
        guest.answers_right(instance, name)
    listed = guest.json("ps")["instances"]
    private = sum(instance["private_bytes"] for instance in listed)
    assert private < 0.1 * data, "ten times what each has written"
    assert sum(instance["pss_bytes"] for instance in listed) < 1.05 * data + private
    # One set of pages, however many instances.
    assert len(guest.rows("pools")) == 1
    guest.ask(instances[3], "/change")
    assert guest.ask(instances[3], "/") != guest.ask(instances[4], "/")
    guest.answers_right(instances[4], name)


def test_commands_share_what_the_first_one_brought(guest):
    name = guest.build("tree", "--no-profile")
    guest.empty_module()
    for _ in range(2):
        guest.start_instances(name)
    assert [row[1] for row in guest.rows("pools")] == ["used"]
    templates = guest.rows("templates")
    assert len(templates) == 4 and all(row[5:7] == ["2", "0"] for row in templates)
    # Whoever keeps it may die: instances keep their pages, and the module stays.
    guest.shell("[ $(pgrep -fc [h]old-module-templates) = 1 ]; pkill -9 -f [h]old-module-templates")
    guest.until(f"grep -q lingers {DEBUG}/pools")
    assert "in use" in guest.run("/usr/sbin/rmmod", "pseudo_mm", expect=1)["error"]
    for instance in guest.json("ps")["instances"]:
        guest.answers_right(instance, name)
    third = guest.start_instances(name)[0]
    assert sorted(row[1] for row in guest.rows("pools")) == ["lingers", "used"]
    guest.answers_right(third, name)


def test_a_template_is_removed_under_its_instances(guest):
    name = guest.build("threads", "--no-profile")
    guest.empty_module()
    instance = guest.start_instances(name)[0]
    guest.memplate("template", "rm", name, "--pool", POOL)
    assert [row[1] for row in guest.rows("pools")] == ["lingers"]
    assert guest.rows("templates") == []
    guest.answers_right(instance, name)
    del guest.functions[POOL, name]
    guest.memplate("stop", "--all")
    guest.until_no_pools()


def test_what_is_not_used_leaves_the_module(guest):
    name = guest.build("threads", "--no-profile")
    guest.empty_module()
    guest.configured("short", "hold_seconds = 6", "run", name, "--pool", POOL)
    guest.shell("sleep 7")
    assert len(guest.rows("templates")) > 0, "kept while an instance uses it"
    guest.memplate("stop", "--all")
    guest.until_no_pools()
    guest.until("! pgrep -f [h]old-module-templates >/dev/null")
    # Nothing is kept at all.
    guest.configured("none", "hold_seconds = 0", "run", name, "--pool", POOL)
    assert guest.rows("templates") == []
    guest.memplate("stop", "--all")
    guest.until_no_pools()


def test_an_attached_instance_is_checkpointed_again(guest):
    name = guest.build("tree", "--no-profile")
    instance = guest.start_instances(name)[0]
    guest.ask(instance, "/change")
    changed = guest.ask(instance, "/")
    inside = guest.text(f"grep NSpid /proc/{instance['pid']}/status").split()[-1]
    images = f"/var/tmp/{instance['id']}"
    keeper = instance.get("keeper") or guest.json("ps")["instances"][0]["keeper"]
    guest.shell(
        f"nsenter -t {keeper} -m -p -n -i -u -- /bin/sh -ec '"
        f"mkdir {images}; criu dump -t {inside} -D {images} -o dump.log --file-locks "
        f"--link-remap --manage-cgroups=ignore --leave-running || tail -n 20 {images}/dump.log >&2'"
    )
    guest.shell(f"cp -r /proc/{keeper}/root{images} {images}")
    assert guest.ask(instance, "/") == changed, "it goes on"
    guest.memplate(
        "template", "build", "again", "--from-images", images, "--pool", POOL,
        "--function", guest.function_files[name], "--no-profile",
    )
    for engine in ("copy", "attached"):
        assert guest.ask(guest.start_instances("again", engine=engine)[0], "/") == changed


def varint(number):
    text = bytearray()
    while number > 127:
        text.append(number % 128 + 128)
        number //= 128
    text.append(number)
    return bytes(text)


def field(number, value):
    """One field of a protobuf message: an integer or bytes."""
    if isinstance(value, int):
        return varint(number * 8) + varint(value)
    return varint(number * 8 + 2) + varint(len(value)) + value


def test_a_failing_attach_ends_the_restore(guest):
    name = guest.build("tree", "--no-profile")
    guest.start_instances(name)
    guest.memplate("stop", "--all")
    plan = guest.text("ls -d /run/memplate-test/cache/*/attached-*/attach.plan").split()
    for path in plan:
        pid = guest.text(f"ls {os.path.dirname(path)} | sed -n 's/^mm-\\(.*\\).img/\\1/p'").split()
        # The last process gets one page where nothing is mapped: all others are filled by then.
        extent = field(1, 0x600000000000) + field(2, 1) + field(3, 0)
        process = field(2, field(1, int(max(pid))) + field(2, extent))
        guest.shell(f"cp {path} {path}.whole; printf '"
                    + "".join(f"\\x{byte:02x}" for byte in process) + f"' >>{path}")
    error = guest.error("run", name, "--pool", POOL, "--engine", "attached", "-n", "2")
    assert "the template has pages where it has no memory area, at 0x600000000000" in error
    assert guest.json("ps")["instances"] == []
    guest.until("! pgrep -f programs/[t]ree >/dev/null")
    for path in plan:
        guest.shell(f"mv {path}.whole {path}")
    guest.answers_right(guest.start_instances(name)[0], name)


def test_limits_of_the_module(guest):
    name = guest.build("threads", "--no-profile")
    guest.empty_module()
    limit = "/sys/module/pseudo_mm/parameters/max_pool_pages"
    before = guest.text(f"cat {limit}").strip()
    guest.shell(f"echo 10 >{limit}")
    error = guest.error("run", name, "--pool", POOL, "--engine", "attached")
    assert "raise max_pools or max_pool_pages in /sys/module/pseudo_mm/parameters" in error
    # Who did not insist gets another engine, and is told why.
    done = guest.memplate("run", name, "--pool", POOL, "--json")
    assert '"engine": "mapped"' in done["output"]
    assert "engine attached was not possible" in done["error"]
    guest.answers_right(guest.json("ps")["instances"][0], name)
    guest.shell(f"echo {before} >{limit}")
    guest.answers_right(guest.start_instances(name)[0], name)


def test_an_agent_killed_before_it_attached(guest):
    name = guest.build("tree", "--no-profile")
    guest.empty_module()
    path = guest.folder.parent / "none.toml"
    path.write_text(CONFIGURATION + "hold_seconds = 0\n")
    # Until all four processes have their templates: CRIU has still to be started then.
    seen = guest.text(
        f"export MEMPLATE_CONFIG={path}; {guest.binary} run {name} --pool {POOL} "
        "--engine attached >/dev/null 2>&1 & pid=$!; "
        f"until mapfile -t rows <{DEBUG}/templates; [ ${{#rows[@]}} = 5 ]; do [ -d /proc/$pid ]; done; "
        "kill -9 $pid; wait $pid || true; printf '%s\\n' \"${rows[@]:1}\""
    )
    assert [row.split()[5] for row in seen.splitlines()] == ["0"] * 4, "attached already"
    guest.until_no_pools()
    assert guest.json("ps")["instances"] == []
    guest.until("! pgrep -f programs/[t]ree >/dev/null")
    guest.answers_right(guest.start_instances(name)[0], name)


def test_what_is_learnt_is_used(guest):
    """While it learns, the agent has pages delivered at the first touch."""
    guest.build("tree", name="learnt")
    profile = guest.json("template", "profile", "learnt", "--pool", POOL)["profile"]
    assert 0 < profile["written_pages"] < profile["read_pages"] / 10
    instances = guest.start_instances("learnt", "-n", 2)
    assert sum(int(row[3]) for row in guest.rows("templates") if int(row[3]) > 0) >= 4
    for instance in instances:
        guest.answers_right(instance, "learnt")
    assert all(i["private_bytes"] < 4 << 20 for i in guest.json("ps")["instances"])


def test_untouched_pages_come_when_they_are_touched(guest):
    """A template that has shown that it needs little gets the rest later."""

    def touch_nothing(text):
        head, _, tail = text.partition("[[warmup]]")
        nothing = '[[warmup]]\npath = "/nothing"\nexpect_status = 404\n\n[touch]'
        return head + nothing + tail.partition("[touch]")[2]

    name = guest.build("tree", name="lazy", change=touch_nothing)
    wanted = guest.ask(guest.start_instances(name, engine="copy")[0], "/")
    guest.configured("large", 'lazy_above = "1M"', "run", name, "--pool", POOL, "-n", 2)
    lazy = [row for row in guest.rows("templates") if int(row[4]) > 0]
    assert len(lazy) == 4 and sum(int(row[4]) for row in lazy) > 9000
    instances = [i for i in guest.json("ps")["instances"] if i["engine"] == "attached"]
    assert len(instances) == 2
    for instance in instances:
        assert instance["pss_bytes"] < 4 << 20
        assert guest.ask(instance, "/") == wanted
    listed = guest.json("ps")["instances"]
    assert all(i["pss_bytes"] > 10 << 20 for i in listed)
    assert all(i["private_bytes"] < 4 << 20 for i in listed if i["engine"] == "attached")


def test_a_pool_on_a_device_is_shared_in_place(guest):
    device = "/dev/dax0.0"
    guest.memplate("pool", "create", "--dax", device)
    name = guest.build("tree", "--no-profile", name="device", pool=device)
    instances = guest.start_instances(name, "-n", 2, pool=device)
    for instance in instances:
        guest.answers_right(instance, name, device)
    assert "device" in [row[2] for row in guest.rows("pools")]
    error = guest.error("run", name, "--pool", device, "--engine", "mapped", expect=3)
    assert "engine mapped is not possible" in error
    # Pages that instances use are not given to others, whoever says that no other host uses them.
    removed = guest.json("template", "rm", name, "--pool", device)
    assert removed["freed_pages"] == 0 and removed["other_hosts_pages"] > 8000
    kept = guest.json("pool", "gc", device, "--no-other-hosts")
    assert kept["freed_bytes"] == 0 and kept["still_in_use_bytes"] > 32 << 20
    for instance in instances:
        guest.answers_right(instance, name, device)
    guest.memplate("stop", "--all")
    guest.until(f"! grep -q device {DEBUG}/pools")
    freed = guest.json("pool", "gc", device, "--no-other-hosts")
    assert freed["freed_bytes"] > 32 << 20 and freed["still_in_use_bytes"] == 0
    guest.memplate("pool", "rm", device, "--no-other-hosts")


def test_all_ways_of_the_benchmark_deliver_the_same(guest):
    """It compares every page itself."""
    done = guest.memplate("--json", "bench", "attach", "--size", "4M", "--runs", 2)
    assert [run["variant"] for run in json.loads(done["output"])["runs"]] == [
        "attached", "attached-0.1", "attached-0.1-in-one", "attached-lazy", "memfd-populate", "memfd-lazy", "copy",
    ]


def test_the_benchmark_starts_instances_by_the_module(guest):
    guest.empty_module()
    report = guest.folder.parent / "restore.json"
    guest.memplate(
        "bench", "restore", "--function", BUILD / "programs" / "tree.toml",
        "--methods", "copy,attached", "--runs", 1, "--instances", 2, "--json", report,
    )
    report = json.loads(report.read_text())
    assert report["answers_wrong"] == 0 < report["answers_checked"]
    (function,) = report["functions"]
    assert "skipped" not in function and set(function["methods"]) == {"copy", "attached"}
    for method in function["methods"].values():
        assert len(method["ready_ms"]["samples"]) == len(method["touch_ms"]["samples"]) == 1
    # Only the module lets two instances have one set of pages.
    private = {name: m["memory10_mb"]["idle_private"] for name, m in function["methods"].items()}
    assert private["attached"] < 0.2 * private["copy"]
    guest.until_no_pools()


def test_without_the_module(guest):
    name = guest.build("threads", "--no-profile")
    guest.empty_module()
    guest.shell("rmmod pseudo_mm")
    error = guest.error("run", name, "--pool", POOL, "--engine", "attached", expect=3)
    assert error == (
        "memplate: pseudo_mm: the kernel module is not loaded (no /dev/pseudo_mm); "
        "modprobe pseudo_mm, or build it first with make kmod"
    )
    assert guest.json("run", name, "--pool", POOL)["engine"] == "mapped"
    guest.shell(f"insmod {guest.module}")
    guest.answers_right(guest.start_instances(name)[0], name)
