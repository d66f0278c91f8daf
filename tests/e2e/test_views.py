# SPDX-License-Identifier: Apache-2.0
"""What people and scripts see: tables, JSON with a schema number, help, completion."""

import json

import pytest
from conftest import FUNCTIONS, build


@pytest.fixture(scope="module")
def hello_pool(session):
    path = session.folder / "views-pool"
    session.run("pool", "create", path, "--size", "2G")
    build(session, path, "hello")
    build(session, path, "json-serde")
    return path


@pytest.mark.parametrize("verb", ["show", "inspect", "profile", "verify"])
def test_template_views(memplate, hello_pool, verb):
    text = memplate.run("template", verb, "hello", "--pool", hello_pool).stdout
    assert text and max(len(line) for line in text.splitlines()) <= 100
    assert memplate.json("template", verb, "hello", "--pool", hello_pool)["schema"] == 1


def test_inspect_accounts_for_every_page(memplate, hello_pool):
    template = memplate.json("template", "show", "hello", "--pool", hello_pool)["template"]
    inspected = memplate.json("template", "inspect", "hello", "--pool", hello_pool)["template"]
    by_class = {"shared": 0, "precopied": 0, "copied": 0}
    for process in inspected["processes"]:
        for area in process["areas"]:
            for name, pages in area["delivered"].items():
                by_class[name] += pages
    for name, pages in by_class.items():
        assert template["pages"][name] == pages
    assert sum(inspected["pages_by_owner"].values()) == template["pages"]["stored"]


def test_diff(memplate, hello_pool):
    same = memplate.json("template", "diff", "hello", "hello", "--pool", hello_pool)["diff"]
    assert same["pages"]["changed"] == 0 and same["pages"]["same"] > 0
    other = memplate.json("template", "diff", "hello", "json-serde", "--pool", hello_pool)["diff"]
    assert other["pages"]["changed"] + other["pages"]["only_a"] + other["pages"]["only_b"] > 0
    assert "OWNER" in memplate.run("template", "diff", "hello", "json-serde", "--pool",
                                   hello_pool).stdout


def test_list_and_remove(memplate, pool):
    build(memplate, pool, "hello", "--no-profile")
    before = memplate.json("pool", "show", pool)
    instance = memplate.json("run", "hello", "--pool", pool)["instances"][0]
    kept = memplate.json("template", "rm", "hello", "--pool", pool)
    assert kept["freed_pages"] == 0 and kept["still_in_use_pages"] > 0
    memplate.run("stop", instance["id"])
    memplate.run("pool", "gc", pool)
    after = memplate.json("pool", "show", pool)
    assert json.dumps(before) != json.dumps(after)
    assert memplate.json("template", "list", "--pool", pool)["templates"] == []
    memplate.run("pool", "verify", pool)


def test_help_names_every_verb(memplate):
    text = memplate.run("--help").stdout
    for verb in ("check", "pool", "template", "run", "ps", "stop", "bench", "criu"):
        assert verb in text
    assert "complete" in memplate.run("completion", "bash").stdout


def test_bench_report(memplate):
    out = memplate.folder / "report.json"
    page = memplate.folder / "report.html"
    memplate.run("bench", "restore", "--function", FUNCTIONS / "hello" / "function.toml",
                 "--methods", "cold,copy,lazy,mapped", "--runs", 2, "--instances", 2,
                 "--json", out, "--html", page)
    report = json.loads(out.read_text())
    assert report["schema"] == 1 and report["answers_wrong"] == 0 and report["answers_checked"] > 0
    methods = report["functions"][0]["methods"]
    assert set(methods) == {"cold", "copy", "lazy", "mapped"}
    for method in methods.values():
        assert len(method["ready_ms"]["samples"]) == 2
        assert method["first_answer_ms"]["p50"] >= method["ready_ms"]["min"]
    assert methods["mapped"]["memory10_mb"]["idle_pss"] > 0
    text = page.read_text()
    assert text.startswith("<!") and "http://" not in text.replace("http://www.w3.org", "")


def test_logs(memplate, hello_pool):
    instance = memplate.json("run", "hello", "--pool", hello_pool)["instances"][0]
    memplate.run("logs", instance["id"])
