# SPDX-License-Identifier: Apache-2.0
"""Holds more than 200 MB of parsed records, which small requests read and change."""
import gc
import hashlib
import json
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "common"))
from http_service import serve

COUNT = int(os.environ.get("BIG_STATE_RECORDS", "150000"))


def record_text(index):
    """One line of JSON, the same for the same index on every machine."""
    mixed = (index * 2654435761 + 12345) % 2**32
    return (f'{{"id":{index},"value":"initial-{index}","owner":"customer-{mixed:08x}",'
            f'"mail":"customer-{mixed:08x}@example.org","city":"city-{mixed % 977}",'
            f'"amount":{mixed / 100},"balance":{mixed * 31 % 10**9},'
            f'"history":[{mixed % 9973},{mixed % 7919},{mixed % 6007},{mixed % 4999}],'
            f'"comment":"{f"{mixed:08x} " * 30}"}}')


def load():
    # The collector would walk all records again and again while they only grow in number; frozen
    # objects are left out of later walks, so that it does not write to (and unshare) their pages.
    gc.disable()
    parsed = [json.loads(record_text(index)) for index in range(COUNT)]
    gc.freeze()
    gc.enable()
    return parsed


def find(query):
    index = int(query["id"])
    if not 0 <= index < len(records):
        raise ValueError(f"id must be 0 to {len(records) - 1}")
    return records[index]


def record(query, _body):
    return json.dumps(find(query)) + "\n"


def write(query, _body):
    """Changes one record and tells its old value."""
    found = find(query)
    previous, found["value"] = found["value"], query["value"]
    return f"{previous}\n"


def checksum(_query, _body):
    """Walks every record and every field."""
    digest = hashlib.sha256()
    for found in records:
        digest.update(repr(found).encode())
    return digest.hexdigest() + "\n"


def stats(_query, _body):
    with open("/proc/self/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return json.dumps({"records": len(records), "rss_mb": resident >> 20,
                       "threads": threading.active_count()}) + "\n"


records = load()
serve({"/record": record, "/write": write, "/checksum": checksum, "/stats": stats})
