# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: the built memplate with a state directory, cache, bridge and
network of its own, so that a test run meets no instance of the host, and a check after every test
that nothing is left behind."""

import json
import os
import pathlib
import subprocess
import time
import urllib.error
import urllib.request

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MEMPLATE_BUILD", REPOSITORY / "build" / "agent"))
FUNCTIONS = REPOSITORY / "tests" / "functions"
PROGRAMS = BUILD / "programs"
BRIDGE = "memplate-e2e"
SCRATCH = pathlib.Path("/dev/shm/memplate-e2e")


class Memplate:
    """Runs the command line; keeps its configuration."""

    def __init__(self, folder):
        self.folder = folder
        self.state = folder / "state"
        self.cache = folder / "cache"
        self.config = folder / "config.toml"
        self.config.write_text(
            f'state_dir = "{self.state}"\ncache_dir = "{self.cache}"\n'
            f'bridge = "{BRIDGE}"\nsubnet = "10.214.0.0/16"\n'
        )
        self.environment = dict(os.environ, MEMPLATE_CONFIG=str(self.config))
        self.binary = str(BUILD / "memplate")

    def start(self, *arguments, **options):
        return subprocess.Popen(
            [self.binary, *map(str, arguments)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *arguments, expect=0, env=None, timeout=180):
        done = subprocess.run(
            [self.binary, *map(str, arguments)],
            env={**self.environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stderr}{done.stdout}"
        return done

    def json(self, *arguments, **options):
        return json.loads(self.run(*arguments, "--json", **options).stdout)

    def error(self, *arguments, expect=1, **options):
        """The one line with which a command fails."""
        done = self.run("--quiet", *arguments, expect=expect, **options)
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("memplate: "), done.stderr
        return lines[0]

    def instances(self):
        return self.json("ps")["instances"]


def request(instance, path="/", method="GET", timeout=60):
    """Status and body of one request to an instance (a dictionary with address and port)."""
    url = f"http://{instance['address']}:{instance['port']}{path}"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, method=method), timeout=timeout
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def control_groups():
    return [
        path
        for path in pathlib.Path("/sys/fs/cgroup").glob("**/memplate/*")
        if path.is_dir()
    ]


def keepers(state):
    """Host pids of keepers that hold an instance of this state directory."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "comm").read_text().strip() != "memplate-keeper":
                continue
            if any(str(state) in os.readlink(fd) for fd in (entry / "fd").iterdir()):
                found.append(entry.name)
        except OSError:
            continue
    return found


def leftovers(memplate):
    """Everything of this test run's instances that is still there."""
    found = []
    instances = memplate.state / "instances"
    if instances.exists():
        found += [str(path) for path in instances.iterdir()]
    build = memplate.cache / "build"
    if build.exists():
        found += [str(path) for path in build.iterdir()]
    links = pathlib.Path("/sys/class/net")
    if (links / BRIDGE).exists():
        found.append(BRIDGE)
    mounts = pathlib.Path("/proc/self/mounts").read_text()
    found += [line for line in mounts.splitlines() if str(memplate.folder) in line]
    found += [f"keeper {pid}" for pid in keepers(memplate.state)]
    return found


@pytest.fixture(scope="session", autouse=True)
def needs_root():
    if os.geteuid() != 0:
        pytest.exit("the end-to-end tests need root", returncode=1)


@pytest.fixture(scope="session")
def session(tmp_path_factory):
    SCRATCH.mkdir(exist_ok=True)
    folder = SCRATCH / f"run-{os.getpid()}"
    folder.mkdir()
    memplate = Memplate(folder)
    memplate.before = set(control_groups())
    yield memplate
    memplate.run("stop", "--all")
    remains = leftovers(memplate)
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    assert remains == []


@pytest.fixture
def memplate(session):
    """Each test begins and ends without instances."""
    yield session
    session.run("stop", "--all", "--grace-ms", "0")
    assert leftovers(session) == []
    deadline = time.monotonic() + 5
    while set(control_groups()) - session.before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(control_groups()) - session.before == set()


@pytest.fixture
def pool(memplate):
    """A fresh pool file."""
    path = memplate.folder / f"pool-{time.monotonic_ns()}"
    memplate.run("pool", "create", path, "--size", "4G")
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def shared_pool(session):
    """A pool for tests that only add templates of their own names."""
    path = session.folder / "shared-pool"
    session.run("pool", "create", path, "--size", "8G")
    return path


def function_file(name):
    path = FUNCTIONS / name / "function.toml"
    return path if path.exists() else PROGRAMS / f"{name}.toml"


def build(memplate, pool, name, *options):
    return memplate.json(
        "template", "build", name, "--function", function_file(name), "--pool", pool, *options
    )["template"]
