# SPDX-License-Identifier: Apache-2.0
"""Parses and writes five JSON documents; js-json-serde has the same ones and the same answer."""
import hashlib
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "common"))
from http_service import serve


def numbers(state):
    while True:
        state = (state * 1664525 + 1013904223) % 2**32
        yield state


def make_document(index):
    draw = numbers(index)
    records = [
        {
            "key": f"record-{index}-{position}",
            "value": next(draw),
            "flags": [next(draw) % 2 == 0, None, position % 3 == 0],
            "place": {"x": next(draw) % 1000, "y": -(next(draw) % 1000)},
            "note": "a \"quoted\" note\n" * (next(draw) % 4),
        }
        for position in range(200 * (index + 1))
    ]
    return {"document": index, "records": records}


def write(value):
    return json.dumps(value, separators=(",", ":"))


def answer(_query, _body):
    digest, size, total = hashlib.sha256(), 0, 0
    for text in documents:
        document = json.loads(text)
        for record in document["records"]:
            total += record["value"]
            record["value"] += 1
        written = write(document).encode()
        digest.update(written)
        size += len(written)
    return f"documents {len(documents)} bytes {size} sum {total} sha256 {digest.hexdigest()}\n"


documents = [write(make_document(index)) for index in range(5)]
serve({"/": answer})
