# SPDX-License-Identifier: Apache-2.0
"""Says hello, and shows what tells a clone from its siblings."""
import json
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "common"))
import memplate_reseed
from http_service import serve


def hello(query, _body):
    return f"hello, {query.get('name', 'world')}\n"


def draw(_query, _body):
    """One number of each generator that lies in memory; all differ between clones."""
    return f"{random.getrandbits(64):016x} {memplate_reseed.random_bytes(8).hex()}\n"


def identity(_query, _body):
    return json.dumps(memplate_reseed.identity()) + "\n"


memplate_reseed.install()
serve({"/": hello, "/random": draw, "/identity": identity})
