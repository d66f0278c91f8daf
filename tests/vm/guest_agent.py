# SPDX-License-Identifier: Apache-2.0
"""Runs inside a virtual machine: takes commands from files that the host puts into a shared folder,
and answers with files. For tests that steer several machines step by step; see machine.py.

The host writes FOLDER/N.request, N = 1, 2, …: a list of words, and FOLDER/N.kill if the command is to be
killed. The answer, FOLDER/N.answer, is {"status", "output", "error"}. No words end the agent."""

import json
import os
import pathlib
import subprocess
import sys
import time


def answer(command, kill):
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while True:
        try:
            output, error = process.communicate(timeout=0.02)
            return {"status": process.returncode, "output": output, "error": error}
        except subprocess.TimeoutExpired:
            if kill.exists():
                process.kill()


def main():
    folder = pathlib.Path(sys.argv[1])
    (folder / "ready").write_text(os.uname().release)
    number = 1
    while True:
        path = folder / f"{number}.request"
        if not path.exists():
            time.sleep(0.05)
            continue
        command = json.loads(path.read_text())
        if not command:
            return
        temporary = folder / f"{number}.partial"
        temporary.write_text(json.dumps(answer(command, folder / f"{number}.kill")))
        temporary.rename(folder / f"{number}.answer")
        number += 1


main()
