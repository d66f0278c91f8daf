# SPDX-License-Identifier: Apache-2.0
"""Renders a page with a list of pseudo-random numbers."""
import hashlib
import os
import random
import sys

import jinja2

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "common"))
from http_service import serve

directory = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")
environment = jinja2.Environment(loader=jinja2.FileSystemLoader(directory), autoescape=True)
page = environment.get_template("page.html")


def render(query, _body):
    draw = random.Random(int(query.get("seed", "1")))
    count = int(query.get("count", "1554"))
    return page.render(user=query.get("user", "nobody"),
                       numbers=[draw.randrange(1_000_000) for _ in range(count)])


def digest(query, body):
    return hashlib.sha256(render(query, body).encode()).hexdigest() + "\n"


serve({"/": render, "/digest": digest})
