# SPDX-License-Identifier: Apache-2.0
"""scripts/vm itself: bad options anywhere; machines only with MEMPLATE_VM_TESTS=1, because each
takes 5 to 30 seconds."""

import os
import pathlib
import signal
import subprocess
import tempfile

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
VM = str(REPOSITORY / "scripts" / "vm")
KERNELS = ("6.1", "6.12")

boots = pytest.mark.skipif(
    os.environ.get("MEMPLATE_VM_TESTS") != "1", reason="boots machines: set MEMPLATE_VM_TESTS=1"
)


def vm(*arguments, environment=None):
    return subprocess.run(
        [VM, *map(str, arguments)],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch):
    """Every run has a temporary folder of its own; it must be empty afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        before = {path.name for path in pathlib.Path("/dev/shm").glob("memplate-vm.*")}
        yield
        assert os.listdir(folder) == []
        after = {path.name for path in pathlib.Path("/dev/shm").glob("memplate-vm.*")}
        # Machines of others come and go; those of this test have ended.
        for name in after - before:
            assert pathlib.Path("/proc", name.split(".")[1]).exists()


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["--bogus"], "unknown option '--bogus'"),
        (["--timeout"], "--timeout needs a value"),
        (["--timeout", "soon", "true"], "no number of seconds"),
        (["--kernel", "5.4", "true"], "choose 6.1, 6.12 or debug"),
        (["--dax", "tape", "true"], "choose nvdimm, cxl or hmem"),
        (["--dax", "nvdimm", "--dax-align", "64", "true"], "choose 4096 or 2097152"),
        (["--dax", "nvdimm", "--dax-size", "17M", "true"], "a multiple of 2M"),
        (["--dax", "cxl", "--dax-size", "64M", "true"], "multiple of 256M"),
        (["--dax", "hmem", "--pool", "x", "true"], "has no file"),
        (["--pool", "x", "true"], "need --dax"),
        (["--memory", "1024", "true"], "is no size"),
        (["--icount", "--cpus", "2", "true"], "one processor"),
        (["--share", "/nonexistent", "true"], "no such folder"),
        (["--kernel-image", "/nonexistent", "true"], "cannot be read"),
        (["--kernel-modules", "/lib", "true"], "needs --kernel-image"),
        (["--fetch", "true"], "takes no command"),
        ([], "no command"),
    ],
)
def test_bad_options_are_one_clear_line(arguments, complaint):
    done = vm(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def test_debug_kernel_is_kernel_debug():
    """Built or not, they say the same."""
    outcomes = [
        (done.returncode, done.stdout, done.stderr)
        for done in (vm("--print-kdir", "--debug-kernel"), vm("--print-kdir", "--kernel", "debug"))
    ]
    assert outcomes[0] == outcomes[1]
    assert "debug" in outcomes[0][1] + outcomes[0][2]
    assert vm("--debug-kernel", "--kernel-modules", "/lib", "true").returncode == 2
    assert "--debug-kernel" in vm("--help").stdout


def test_a_pool_of_another_size_is_refused(tmp_path):
    pool = tmp_path / "pool"
    with open(pool, "wb") as file:
        file.truncate(32 << 20)
    done = vm("--dax", "nvdimm", "--pool", pool, "--dax-size", "64M", "true")
    assert done.returncode == 2
    assert "32M, not 64M" in done.stderr


@boots
@pytest.mark.parametrize("kernel", KERNELS)
def test_command_output_and_status(kernel):
    done = vm("--kernel", kernel, "sh", "-c", 'uname -r; pwd; id -u; echo "$1" >&2; exit 77', "sh", "a  'b")
    assert done.returncode == 77
    release, folder, user = done.stdout.splitlines()
    assert release.startswith(kernel + ".")
    assert (folder, user) == (os.getcwd(), "0")
    first, last = done.stderr.splitlines()
    assert release in first
    assert last == "a  'b"


@boots
@pytest.mark.parametrize(
    "command, status",
    [
        (["true"], 0),
        (["false"], 1),
        (["sh", "-c", "exit 255"], 255),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["no-such-command"], 127),
    ],
)
def test_exit_status(command, status):
    assert vm("--quiet", *command).returncode == status


@boots
def test_much_output_arrives_whole_and_apart():
    script = "head -c 3000000 /dev/zero | tr '\\0' x; head -c 70000 /dev/zero | tr '\\0' y >&2"
    done = vm("--quiet", "sh", "-c", script)
    assert done.returncode == 0
    assert done.stdout == "x" * 3000000
    assert done.stderr == "y" * 70000


@boots
def test_only_shared_folders_are_written(tmp_path):
    shared = tmp_path / "with space, comma"
    shared.mkdir()
    private = tmp_path / "private"
    script = 'echo "$MEMPLATE_WORD $MEMPLATE_VM" >"$1/file"; echo lost >"$2"; cat "$2"'
    done = vm(
        *("--quiet", "--share", shared, "sh", "-c", script, "sh", shared, private),
        environment={"MEMPLATE_WORD": "two  words"},
    )
    assert (done.returncode, done.stdout) == (0, "lost\n")
    assert (shared / "file").read_text() == "two  words 1\n"
    assert not private.exists()


@boots
def test_timeout():
    done = vm("--timeout", 25, "sleep", "1000")
    assert done.returncode == 124
    assert "stopped after --timeout 25 s" in done.stderr


@boots
def test_kernel_panic_is_the_machines_failure(tmp_path):
    log = tmp_path / "log"
    done = vm("--dmesg", log, "sh", "-c", "echo c >/proc/sysrq-trigger")
    assert done.returncode == 125
    assert "ended early: Kernel panic - not syncing: sysrq triggered crash" in done.stderr
    assert "sysrq triggered crash" in log.read_text()


@boots
def test_strict_fails_when_the_kernel_complains():
    assert vm("--strict", "true").returncode == 0
    done = vm("--strict", "sh", "-c", "echo '<4>WARNING: something' >/dev/kmsg")
    assert done.returncode == 125
    assert "WARNING: something" in done.stderr


@boots
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(number, status):
    # A shell in the background ignores SIGINT, and would pass that on.
    process = subprocess.Popen(
        [VM, "--quiet", "--dax", "nvdimm", "sh", "-c", "echo up; sleep 1000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process.stdout as output:
        assert output.readline() == b"up\n"
        process.send_signal(number)
        assert process.wait(timeout=30) == status


@boots
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", ["nvdimm", "hmem"])
def test_device_dax_is_ready(kernel, kind):
    script = "ls /dev/dax0.0 /sys/bus/dax/devices/dax0.0/driver/dax0.0 -d; cat /sys/bus/dax/devices/dax0.0/align"
    done = vm("--quiet", "--kernel", kernel, "--dax", kind, "--dax-align", 4096, "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "/dev/dax0.0"
    assert done.stdout.splitlines()[-1] == "4096"


WRITE_AND_READ = """
import mmap, os, sys, time
folder, mine, other = sys.argv[1:]
file = os.open("/dev/dax0.0", os.O_RDWR)
memory = mmap.mmap(file, 16 << 20)
place = {"a": 0, "b": 4096}
memory[place[mine]:place[mine] + 1] = mine.encode()
open(folder + "/wrote-" + mine, "w").close()
for _ in range(3000):
    if os.path.exists(folder + "/wrote-" + other):
        break
    time.sleep(0.1)
print(memory[place[other]:place[other] + 1].decode())
"""


@boots
def test_two_kernels_share_a_blank_pool(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    machines = [
        subprocess.Popen(
            [
                *(VM, "--quiet", "--kernel", kernel, "--dax", "nvdimm", "--dax-size", "64M"),
                *("--pool", tmp_path / "pool", "--share", shared),
                *("/usr/bin/python3", "-c", WRITE_AND_READ, shared, mine, other),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kernel, mine, other in (("6.1", "a", "b"), ("6.12", "b", "a"))
    ]
    outputs = [machine.communicate(timeout=600)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0]
    assert outputs == ["b\n", "a\n"]
    done = vm("--dax", "nvdimm", "--pool", tmp_path / "pool", "--dax-align", 2097152, "true")
    assert done.returncode == 125
    assert "was made with alignment 4096, not 2097152" in done.stderr


@boots
def test_instruction_counts_repeat():
    script = "import time; t = time.monotonic_ns(); sum(range(300000)); print(time.monotonic_ns() - t)"
    times = [
        int(vm("--quiet", "--icount", "/usr/bin/python3", "-c", script).stdout) for _ in range(2)
    ]
    assert abs(times[0] - times[1]) < 0.02 * times[0]


@boots
def test_link(tmp_path):
    # The socket's path must be short.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        server = subprocess.Popen(
            [VM, "--quiet", "--link", folder + "/s,server", "/usr/bin/python3", "-c", SERVER],
            stdin=subprocess.DEVNULL,
        )
        done = vm("--quiet", "--kernel", "6.12", "--link", folder + "/s", "/usr/bin/python3", "-c", CLIENT)
        assert (done.returncode, done.stdout) == (0, "hello\n")
        assert server.wait(timeout=60) == 0
        assert os.listdir(folder) == []


SERVER = """
import socket
listener = socket.create_server(("10.111.0.1", 1234))
connection, _ = listener.accept()
connection.sendall(b"hello")
connection.shutdown(socket.SHUT_WR)
connection.recv(1)
"""

CLIENT = """
import socket, time
for _ in range(600):
    try:
        connection = socket.create_connection(("10.111.0.1", 1234), timeout=5)
        break
    except OSError:
        time.sleep(0.1)
print(connection.recv(100).decode())
"""
