# SPDX-License-Identifier: Apache-2.0
"""A machine for the tests of engine attached."""

import os
import tomllib

from machine import BUILD, Machine

POOL = "/dev/shm/pool"
DEBUG = "/sys/kernel/debug/pseudo_mm"
CONFIGURATION = """
state_dir = "/run/memplate-test/state"
cache_dir = "/run/memplate-test/cache"
"""


class Guest(Machine):
    """A machine with the module loaded and a pool, and what these tests ask it."""

    def __init__(self, folder, kernel, module):
        self.module = module
        self.function_files = {}
        self.functions = {}
        configuration = folder / "memplate.toml"
        configuration.write_text(CONFIGURATION)
        os.environ["MEMPLATE_CONFIG"] = str(configuration)
        try:
            super().__init__(folder, "guest", kernel, "--memory", "3G", "--dax", "nvdimm")
        finally:
            del os.environ["MEMPLATE_CONFIG"]
        self.first_cgroup("first")
        self.run("insmod", module)
        self.memplate("pool", "create", POOL, "--size", "1G")

    def configured(self, name, line, *arguments, **options):
        """memplate with one more line of configuration."""
        path = self.folder.parent / f"{name}.toml"
        path.write_text(CONFIGURATION + line + "\n")
        return self.run(
            "/usr/bin/env", f"MEMPLATE_CONFIG={path}", self.binary, *arguments, **options
        )

    def text(self, script):
        return self.shell(script)["output"]

    def build(self, program, *options, name=None, pool=POOL, change=lambda text: text):
        """A template of a program, built once; `change` edits its function file."""
        name = name or program
        if (pool, name) in self.functions:
            return name
        text = change((BUILD / "programs" / f"{program}.toml").read_text())
        path = self.folder.parent / f"{name}.toml"
        path.write_text(text)
        self.function_files[name] = path
        self.functions[pool, name] = tomllib.loads(text)
        self.memplate("template", "build", name, "--function", path, "--pool", pool, *options)
        return name

    def start_instances(self, name, *options, engine="attached", pool=POOL):
        document = self.json("run", name, "--pool", pool, "--engine", engine, *options)
        assert document["engine"] == engine
        return document["instances"]

    def ask(self, instance, *paths):
        """The bodies of some requests."""
        url = f"http://{instance['address']}:{instance['port']}"
        script = "".join(
            f"curl -s --max-time 60 -X {path[0]} '{url}{path[1]}'; printf '\\0';"
            for path in (("GET", path) if isinstance(path, str) else path for path in paths)
        )
        return self.text(script).split("\0")[:-1]

    def answers_right(self, instance, name, pool=POOL):
        requests = list(self.functions[pool, name]["warmup"])
        requests.append(self.functions[pool, name]["touch"])
        bodies = self.ask(instance, *((r.get("method", "GET"), r["path"]) for r in requests))
        for wanted, body in zip(requests, bodies, strict=True):
            assert body == wanted.get("expect_body", body), (name, wanted)
            assert wanted.get("expect_contains", "") in body, (name, wanted)

    def rows(self, what):
        """A table of debugfs, without its head."""
        return [line.split() for line in self.text(f"cat {DEBUG}/{what}").splitlines()[1:]]

    def until(self, condition, seconds=30):
        self.shell(
            f"for i in $(seq {seconds * 5}); do if {condition}; then exit 0; fi; sleep 0.2; done; false"
        )

    def until_no_pools(self):
        self.until(f"[ $(wc -l <{DEBUG}/pools) = 1 ]")

    def empty_module(self):
        """Ends the processes that keep module templates; no instance may be there."""
        self.shell("pkill -f [h]old-module-templates || true")
        self.until_no_pools()
