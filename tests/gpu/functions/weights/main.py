# SPDX-License-Identifier: Apache-2.0
"""A GPU function: holds weights in device memory and answers from there. Needs nothing but the
driver, which it calls as PyTorch's own library would: cuInit, primary context, memory, copies."""

import ctypes
import hashlib
import os
import random
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlparse

BUFFERS = 4
BYTES = int(os.environ.get("WEIGHTS_MB", "64")) * (1 << 20) // BUFFERS

cuda = ctypes.CDLL("libcuda.so.1")


def call(name, *arguments):
    result = getattr(cuda, name)(*arguments)
    if result != 0:
        raise RuntimeError(f"{name}: {result}")


def copy_in(address, data):
    call("cuMemcpyHtoD_v2", ctypes.c_ulonglong(address), data, ctypes.c_size_t(len(data)))


def copy_out(address, size):
    data = ctypes.create_string_buffer(size)
    call("cuMemcpyDtoH_v2", data, ctypes.c_ulonglong(address), ctypes.c_size_t(size))
    return data.raw


class Weights:
    def __init__(self):
        call("cuInit", 0)
        device, context = ctypes.c_int(), ctypes.c_void_p()
        call("cuDeviceGet", ctypes.byref(device), 0)
        call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        call("cuCtxSetCurrent", context)
        self.buffers = []
        loaded = hashlib.sha256()
        source = random.Random(5)
        for _ in range(BUFFERS):
            address = ctypes.c_ulonglong()
            call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(BYTES))
            data = source.randbytes(BYTES)
            copy_in(address.value, data)
            loaded.update(data)
            self.buffers.append(address.value)
        self.loaded = loaded.hexdigest()

    def checksum(self):
        now = hashlib.sha256()
        for address in self.buffers:
            now.update(copy_out(address, BYTES))
        return now.hexdigest()

    def write(self, value):
        """Changes the first byte of every buffer; returns what they were."""
        before = [copy_out(address, 1)[0] for address in self.buffers]
        for address in self.buffers:
            copy_in(address, bytes([value]))
        return before


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlparse(self.path)
        answers = {
            "/ready": lambda: "ready",
            "/verify": lambda: "as loaded" if weights.checksum() == weights.loaded else "changed",
            "/checksum": weights.checksum,
            "/write": lambda: weights.write(int(parse_qs(url.query)["value"][0])),
        }
        body = f"{answers[url.path]()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


weights = Weights()
port = int(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PORT", "8080"))
HTTPServer(("", port), Handler).serve_forever()
