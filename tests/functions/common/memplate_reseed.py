# SPDX-License-Identifier: Apache-2.0
"""Gives a clone its own identity and randomness.

All instances of one template begin with the same memory, so also with the same state of every
random generator in it. Memplate puts two files into each new instance and then sends the signal
named in the function file ([clone] signal = "SIGUSR2"):

    /run/memplate/identity.json   {"instance": "...", "template": "...", "generation": N}
    /run/memplate/entropy         64 fresh random bytes

Use: call `install()` once in the main thread, before the service is ready. Then
- `random` is seeded afresh in every clone (and OpenSSL's generator, where `ssl` is loaded);
- `random_bytes(n)` comes from a generator of our own with the same guarantee;
- `identity()` is the content of identity.json ({} in a process that is no clone);
- functions given to `on_clone()` are called after that: rotate keys, drop connections, new ids.

Not covered: the hash seed of str (fixed when the interpreter starts), values a program drew
earlier and kept. os.urandom and secrets ask the kernel and were never shared.
"""
import hashlib
import hmac
import json
import os
import random
import signal
import sys

_directory = "/run/memplate"
_identity = {}
_seen = None
_callbacks = []
_generator = None


class HmacDrbg:
    """HMAC_DRBG of NIST SP 800-90A with SHA-256, without reseed counter."""

    def __init__(self, seed):
        self._key, self._value = bytes(32), b"\x01" * 32
        self._update(seed)

    def _mac(self, data):
        return hmac.digest(self._key, data, "sha256")

    def _update(self, data):
        for separator in (b"\x00", b"\x01") if data else (b"\x00",):
            self._key = self._mac(self._value + separator + data)
            self._value = self._mac(self._value)

    def generate(self, count):
        out = b""
        while len(out) < count:
            self._value = self._mac(self._value)
            out += self._value
        self._update(b"")
        return out[:count]


def refresh():
    """Reads the two files if they are new to this process; True if they were. A service that cannot
    accept even one answer before the signal arrives calls this before it draws a number."""
    global _identity, _seen, _generator
    path = os.path.join(_directory, "identity.json")
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return False  # not a clone
    mark = (status.st_dev, status.st_ino, status.st_mtime_ns)
    if mark == _seen:
        return False
    with open(path, "rb") as file:
        text = file.read()
    with open(os.path.join(_directory, "entropy"), "rb") as file:
        entropy = file.read()
    if len(entropy) != 64:
        raise ValueError(f"{_directory}/entropy has {len(entropy)} bytes instead of 64")
    _identity, _seen = json.loads(text), mark

    def derive(label):  # one purpose must not tell anything about another
        return hmac.digest(entropy, label + text, "sha512")

    random.seed(derive(b"random"))
    _generator = HmacDrbg(derive(b"generator"))
    if "ssl" in sys.modules:
        sys.modules["ssl"].RAND_add(derive(b"openssl"), 64)
    for callback in _callbacks:
        callback(_identity)
    return True


def install(directory="/run/memplate", number=signal.SIGUSR2):
    global _directory, _generator
    _directory = directory
    _generator = HmacDrbg(os.urandom(64))
    signal.signal(number, lambda *_: refresh())
    refresh()


def on_clone(callback):
    _callbacks.append(callback)


def identity():
    return _identity


def random_bytes(count):
    return _generator.generate(count)
