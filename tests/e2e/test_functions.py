# SPDX-License-Identifier: Apache-2.0
"""Every function and program: built, restored by each engine, and all answers compared."""

import tomllib

import pytest
from conftest import build, function_file, request

FUNCTIONS = [
    "hello", "json-serde", "js-json-serde", "dynamic-html", "image-processing", "pyaes", "crypto",
    "big-state",
]
PROGRAMS = ["tree", "threads", "shared", "dontneed", "mremap_grow", "wipeonfork"]


def check_answers(instance, name):
    """The warm-up requests of the function file with the answers it expects."""
    function = tomllib.loads(function_file(name).read_text())
    requests = list(function["warmup"])
    if "touch" in function:
        requests.append(function["touch"])
    for entry in requests:
        status, body = request(instance, entry.get("path", "/"), entry.get("method", "GET"))
        assert status == entry.get("expect_status", 200), (name, entry)
        if "expect_body" in entry:
            assert body == entry["expect_body"], (name, entry)
        assert entry.get("expect_contains", "") in body, (name, entry)


@pytest.fixture(scope="session")
def templates():
    return {}


def built(memplate, pool, templates, name):
    if name not in templates:
        templates[name] = build(memplate, pool, name)
    return templates[name]


@pytest.mark.parametrize("name", FUNCTIONS + PROGRAMS)
@pytest.mark.parametrize("engine", ["auto", "copy", "lazy"])
def test_restored_instances_answer_right(memplate, shared_pool, templates, name, engine):
    built(memplate, shared_pool, templates, name)
    document = memplate.json("run", name, "--pool", shared_pool, "-n", 2, "--engine", engine)
    assert len(document["instances"]) == 2
    assert len({instance["address"] for instance in document["instances"]}) == 2
    for instance in document["instances"]:
        check_answers(instance, name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_mapped_and_mostly_shared(memplate, shared_pool, templates, name):
    template = built(memplate, shared_pool, templates, name)
    assert memplate.json("run", name, "--pool", shared_pool)["engine"] == "mapped"
    # crypto rewrites most of its heap in every request; the others share far more than this.
    assert template["pages"]["shared"] > template["pages"]["stored"] / 5
    assert template["profile"]["written_pages"] > 0


def test_a_process_tree_and_threads_come_back_whole(memplate, shared_pool, templates):
    assert built(memplate, shared_pool, templates, "tree")["processes"] == 4
    built(memplate, shared_pool, templates, "threads")
    inspected = memplate.json("template", "inspect", "threads", "--pool", shared_pool)
    assert inspected["template"]["processes"][0]["threads"] >= 8
    node = memplate.json("run", "js-json-serde", "--pool", shared_pool)["instances"][0]
    with open(f"/proc/{node['pid']}/status", encoding="utf-8") as status:
        threads = next(line for line in status if line.startswith("Threads:"))
    built(memplate, shared_pool, templates, "js-json-serde")
    inspected = memplate.json("template", "inspect", "js-json-serde", "--pool", shared_pool)
    assert int(threads.split()[1]) == inspected["template"]["processes"][0]["threads"]


def test_jemalloc_is_copied_unless_forced(memplate, shared_pool, templates):
    template = built(memplate, shared_pool, templates, "jemalloc_calloc")
    hazards = [hazard for hazard in template["hazards"] if hazard["whole_process"]]
    assert hazards and "jemalloc" in hazards[0]["evidence"]
    document = memplate.json("run", "jemalloc_calloc", "--pool", shared_pool)
    assert document["engine"] == "copy" and "jemalloc" in document["reason"]
    for instance in document["instances"]:
        check_answers(instance, "jemalloc_calloc")
    forced = memplate.run("run", "jemalloc_calloc", "--pool", shared_pool, "--engine", "mapped")
    assert "may corrupt memory" in forced.stderr


def test_clones_differ(memplate, shared_pool, templates):
    built(memplate, shared_pool, templates, "hello")
    instances = memplate.json("run", "hello", "--pool", shared_pool, "-n", 4)["instances"]
    randoms = {request(instance, "/random")[1] for instance in instances}
    identities = {request(instance, "/identity")[1] for instance in instances}
    assert len(randoms) == 4 and len(identities) == 4


def test_ten_instances_share_memory_and_nothing_else(memplate, shared_pool, templates):
    template = built(memplate, shared_pool, templates, "big-state")
    data = template["pages"]["stored"] * 4096
    assert data >= 200 << 20
    memplate.run("run", "big-state", "--pool", shared_pool, "-n", 10)
    instances = memplate.instances()
    # Ten copies would add ten times the data; these add what they wrote.
    assert sum(instance["private_bytes"] for instance in instances) <= 0.05 * 10 * data

    assert request(instances[0], "/write?id=17&value=mine", "PUT") == (200, "initial-17\n")
    assert "mine" in request(instances[0], "/record?id=17")[1]
    for other in instances[1:]:
        assert '"value": "initial-17"' in request(other, "/record?id=17")[1]
    assert request(instances[0], "/write?id=17&value=initial-17", "PUT")[1] == "mine\n"
    for instance in instances:
        check_answers(instance, "big-state")


def test_limits_hold_after_the_start(memplate, shared_pool, templates):
    built(memplate, shared_pool, templates, "hello")
    instance = memplate.json(
        "run", "hello", "--pool", shared_pool, "--memory", "64M", "--cpus", "0.5"
    )["instances"][0]
    with open(f"/proc/{instance['pid']}/cgroup", encoding="utf-8") as file:
        groups = [line.strip().split(":") for line in file]
    group = next(path for _, _, path in groups if path.startswith("/memplate/"))
    values = []
    for name in ("memory/{}/memory.limit_in_bytes", "{}/memory.max"):
        try:
            with open("/sys/fs/cgroup/" + name.format(group.strip("/")), encoding="utf-8") as file:
                values.append(int(file.read()))
        except FileNotFoundError:
            continue
    assert values == [64 << 20]
    check_answers(instance, "hello")
