# SPDX-License-Identifier: Apache-2.0
"""Encrypts a message again and again in pure Python."""
import hashlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "common"))
import aes
from http_service import serve

# NIST SP 800-38A, F.5.1 CTR-AES128.Encrypt
KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
COUNTER = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
PLAIN = bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
                      "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
CIPHER = bytes.fromhex("874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
                       "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee")


def check(_query, _body):
    return "NIST SP 800-38A F.5.1 ok\n" if aes.ctr(KEY, COUNTER, PLAIN) == CIPHER else "wrong\n"


def encrypt(query, _body):
    """?bytes=N&rounds=N: each round encrypts what the one before gave."""
    size, rounds = int(query.get("bytes", "4000")), int(query.get("rounds", "5"))
    text = bytes(i % 251 for i in range(size))
    for _ in range(rounds):
        text = aes.ctr(KEY, COUNTER[::-1], text)
    return f"{size} bytes, {rounds} rounds: {hashlib.sha256(text).hexdigest()}\n"


if aes.ctr(KEY, COUNTER, PLAIN) != CIPHER or aes.ctr(KEY, COUNTER, CIPHER) != PLAIN:
    sys.exit("pyaes: does not reproduce the vector of NIST SP 800-38A F.5.1")
serve({"/": encrypt, "/check": check})
