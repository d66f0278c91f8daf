# SPDX-License-Identifier: Apache-2.0
"""Starts functions as they are, without Memplate, and compares the answers to their warm-up and touch
requests with what their files expect:

    check_native.py tests/functions/hello/function.toml ...
"""
import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import tomllib

READY_SECONDS = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_ready(process, port):
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready within {READY_SECONDS} s") from None
            time.sleep(0.01)
    raise ChildProcessError(f"ended with status {process.returncode} before it was ready")


def send(port, request):
    """None if the answer is as expected, else what is wrong with it."""
    method, path = request.get("method", "GET"), request.get("path", "/")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = request.get("body")
    kind = request.get("content_type", "application/json")
    connection.request(method, path, body, {"Content-Type": kind} if body else {})
    response = connection.getresponse()
    status, text = response.status, response.read().decode()
    connection.close()
    if status != request.get("expect_status", 200):
        return f"{method} {path}: status {status}: {text[:100]!r}"
    if "expect_body" in request and text != request["expect_body"]:
        return f"{method} {path}: {text[:200]!r} instead of {request['expect_body'][:200]!r}"
    if request.get("expect_contains", "") not in text:
        return f"{method} {path}: no {request['expect_contains']!r} in {text[:200]!r}"
    return None


def resident_mb(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return (int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")) >> 20


def check(path):
    with open(path, "rb") as file:
        function = tomllib.load(file)
    port = free_port()
    environment = os.environ | function.get("environment", {}) | {"PORT": str(port)}
    directory = os.path.join(os.path.dirname(os.path.abspath(path)), function.get("directory", ""))
    started = time.monotonic()
    process = subprocess.Popen(function["command"], cwd=directory, env=environment,
                               stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until_ready(process, port)
        ready = time.monotonic() - started
        requests = function.get("warmup", [])
        if "touch" in function:
            requests = requests + [function["touch"]]
        # Twice: no request may depend on being the first of its kind.
        for request in requests * 2:
            for _ in range(request.get("repeat", 1)):
                wrong = send(port, request)
                if wrong:
                    raise ValueError(wrong)
        print(f"{function['name']}: ok, ready in {ready:.2f} s, {resident_mb(process.pid)} MB")
        return True
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"{function['name']} ({shlex.join(function['command'])}): {error}")
        return False
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(not all([check(path) for path in sys.argv[1:]]))
