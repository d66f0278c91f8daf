# SPDX-License-Identifier: Apache-2.0
"""Virtual machines that a test steers step by step (scripts/vm and guest_agent.py)."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MEMPLATE_BUILD", REPOSITORY / "build" / "agent"))
BOOT_SECONDS = 300
COMMAND_SECONDS = 600


def kernel_module(kernel):
    """The path of pseudo_mm.ko, built for this kernel of scripts/vm."""
    vm = [REPOSITORY / "scripts" / "vm", "--print-kdir", "--kernel", kernel]
    found = subprocess.run(vm, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        pytest.skip(f"no kernel {kernel} to boot: {found.stderr.strip()}")
    headers = found.stdout.strip()
    make = ["make", "--no-print-directory", "-s", "-C", REPOSITORY, "kmod", f"KDIR={headers}"]
    done = subprocess.run(make, capture_output=True, text=True, check=True)
    return REPOSITORY / done.stdout.strip().splitlines()[-1].removeprefix("built ")


class Machine:
    """One virtual machine; `folder` is shared with it and exists on the host."""

    def __init__(self, folder, name, kernel, *options):
        self.folder = folder / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for program in ("memplate", "memplate-keeper"):
            if not (folder / program).exists():
                shutil.copy2(BUILD / program, folder / program)
        self.binary = str(folder / "memplate")
        self.requests = 0
        self.log = open(self.folder / "log", "w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen(
            [
                REPOSITORY / "scripts" / "vm",
                *("--kernel", kernel, "--memory", "1536M", "--share", folder, *options, "--"),
                *("/usr/bin/python3", REPOSITORY / "tests" / "vm" / "guest_agent.py", self.folder),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        try:
            self.wait_for("ready", BOOT_SECONDS)
        except BaseException:
            self.kill()
            raise

    def wait_for(self, name, seconds):
        path = self.folder / name
        deadline = time.monotonic() + seconds
        while not path.exists():
            assert self.process.poll() is None, f"the machine ended: {self.output()}"
            assert time.monotonic() < deadline, f"no {name} in {seconds} s: {self.output()}"
            time.sleep(0.02)
        return path

    def output(self):
        self.log.flush()
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def start(self, *argv):
        self.requests += 1
        path = self.folder / f"{self.requests}.request"
        temporary = path.with_suffix(".partial")
        temporary.write_text(json.dumps([str(word) for word in argv]))
        temporary.rename(path)

    def kill_command(self):
        (self.folder / f"{self.requests}.kill").touch()

    def result(self):
        answer = self.wait_for(f"{self.requests}.answer", COMMAND_SECONDS)
        return json.loads(answer.read_text())

    def run(self, *argv, expect=0):
        self.start(*argv)
        done = self.result()
        assert done["status"] == expect, f"{argv}: {done}"
        return done

    def memplate(self, *arguments, **options):
        return self.run(self.binary, *arguments, **options)

    def json(self, *arguments, **options):
        return json.loads(self.memplate(*arguments, "--json", **options)["output"])

    def error(self, *arguments, expect=1):
        """The one line with which memplate fails."""
        lines = self.memplate("--quiet", *arguments, expect=expect)["error"].strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("memplate: "), lines
        return lines[0]

    def shell(self, script, *arguments, **options):
        """The arguments are $1, $2, …"""
        return self.run("/bin/bash", "-euc", script, "bash", *arguments, **options)

    def first_cgroup(self, name):
        """The first group with a controller makes the kernel patch its code, and so does the next one
        after the last has gone: the group stays. An emulator that runs other code meanwhile does not
        always survive that: one processor is enough for it."""
        self.shell(
            "other=/sys/devices/system/cpu/cpu1/online; ! test -e $other || echo 0 >$other; "
            'cd /sys/fs/cgroup; echo +memory +cpuset >cgroup.subtree_control; mkdir "$1"; '
            "! test -e $other || echo 1 >$other",
            name,
        )

    def kill(self):
        """As if the host lost its power: QEMU and the script are one process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def stop(self):
        if self.process.poll() is not None:
            return
        self.start()
        try:
            status = self.process.wait(BOOT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        assert status == 0, self.output()
        self.log.close()
