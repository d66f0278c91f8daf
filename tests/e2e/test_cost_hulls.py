# SPDX-License-Identifier: Apache-2.0
"""`memplate cost hull` and `tune`: limits that follow a trace save memory and kill nobody; functracer's
hulls to the last digit."""

import json
import random

import pytest
from cost_session import STEPS, document, program, scratch  # noqa: F401
from memory_groups import LIMIT


def learn(memplate, scratch, command, *options):
    memplate.run("cost", "run", "--repeat", 2, "--csv", scratch / "t.csv", "--", *command)
    memplate.run("cost", "hull", scratch / "t-1.csv", scratch / "t-2.csv", *options,
                 "-o", scratch / "hull.json")
    return scratch / "hull.json"


def test_a_hull_as_it_comes_needs_no_intervention_on_its_own_trace(memplate, scratch, program):
    hull = learn(memplate, scratch, program(STEPS))
    dry = document(memplate, "cost", "tune", "--hull", hull, "--dry-run", scratch / "t-1.csv")
    assert dry["interventions"] == 0 and dry["saved_gb_seconds"] > 0


def test_tune_saves_memory_and_kills_nobody(memplate, scratch, program):
    hull = learn(memplate, scratch, program(STEPS), "--margin-mb", "8")
    command = program(STEPS + f"""
assert int(read("{LIMIT}")) < 150_000_000, read("{LIMIT}")
""")
    report = document(memplate, "cost", "tune", "--hull", hull, "--html", scratch / "p.html", "--", *command)
    assert report["oom_kills"] == 0 and "failure" not in report["run"]
    assert report["changes"] and report["peak_bytes"] >= 100_000_000
    assert report["flat_gb_seconds"] - report["tuned_gb_seconds"] == pytest.approx(
        report["saved_gb_seconds"])
    page = (scratch / "p.html").read_text()
    assert "limit set" in page and "maximum hull" in page
    dry = document(memplate, "cost", "tune", "--hull", hull, "--dry-run", scratch / "t-1.csv")
    assert dry["dry_run"] and dry["samples_above_limit"] == 0 and dry["saved_gb_seconds"] > 0


def test_a_hull_that_is_too_low_is_corrected_in_time(memplate, scratch, program):
    (scratch / "uhull.json").write_text('{"0.0": 12.0, "0.1": 15.5, "0.2": 0}')
    report = document(memplate, "cost", "tune", "--hull", scratch / "uhull.json", "--", *program(STEPS))
    assert "failure" not in report["run"] and report["oom_kills"] == 0
    assert report["interventions"] > 0 and report["peak_bytes"] >= 100_000_000
    assert {"near the limit", "memory pressure"} & {one["reason"] for one in report["changes"]}
    for change in report["changes"]:
        assert change["to_bytes"] >= change["use_bytes"]


def test_the_ceiling_is_kept(memplate, scratch, program):
    (scratch / "uhull.json").write_text('{"0.0": 30.0, "0.1": 0}')
    report = document(memplate, "cost", "tune", "--hull", scratch / "uhull.json",
                      "--ceiling", "60M", "--", *program(STEPS), expect=1)
    assert report["run"]["failure"] == "was killed by signal 9"
    assert report["oom_kills"] == 1 and report["peak_bytes"] <= 61 << 20


def functracer_rules(paths):
    """The hull by functracer's rules, in the language whose numbers it prints."""
    hull = {}
    for path in paths:
        first = None
        for row in path.read_text().splitlines():
            clock, memory = row.split(",")[:2]
            hours, minutes, seconds = clock.split(":")
            stamp = (int(hours) * 3600 + int(minutes) * 60 + int(seconds[:2])
                     + int(seconds[3:]) / 1000)
            first = stamp if first is None else first
            key = round(stamp - first, 1)
            hull[key] = max(hull.get(key, 0), int(memory) / 1048576)
    hull[max(hull) + 0.1] = 0
    keys = sorted(hull)
    for index, key in enumerate(keys[:-2]):
        hull[key] = max(hull[key], hull[keys[index + 2]])
    return json.dumps({key: hull[key] for key in keys})


def test_functracer_hulls_to_the_last_digit(memplate, scratch):
    numbers = random.Random(4)
    paths = []
    for run in range(5):
        path = scratch / f"raw-{run}.csv"
        at = numbers.randrange(0, 80_000_000)
        rows = []
        for _ in range(numbers.randrange(2, 300)):
            clock = f"{at // 3600000:02}:{at // 60000 % 60:02}:{at // 1000 % 60:02}.{at % 1000:03}"
            rows.append(f"{clock},{numbers.randrange(0, 1 << 30)}\n")
            at += numbers.randrange(0, 290)
        path.write_text("".join(rows))
        paths.append(path)
    out = memplate.run("cost", "hull", *paths, "--compat", "functracer", "-o", "-").stdout
    assert out.strip() == functracer_rules(paths)


def test_functracer_hull_of_its_own_trace(memplate, scratch):
    (scratch / "raw.csv").write_text(
        "23:59:59.900,0\n23:59:59.950,1048576\n00:00:00.050,3145728\n00:00:00.100,0\n")
    memplate.run("cost", "hull", scratch / "raw.csv", "--compat", "functracer",
                 "-o", scratch / "uhull.json")
    hull = json.loads((scratch / "uhull.json").read_text())
    assert list(hull)[0] == "0.0" and list(hull.values())[-1] == 0
    dry = document(memplate, "cost", "tune", "--hull", scratch / "uhull.json",
                        "--dry-run", scratch / "raw.csv")
    assert dry["duration_ns"] == 200_000_000
