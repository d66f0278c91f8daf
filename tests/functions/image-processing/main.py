# SPDX-License-Identifier: Apache-2.0
"""Rotates, flips, filters and resizes a picture; the answer is a hash of the pixels."""
import hashlib
import os
import sys

from PIL import Image, ImageFilter, ImageOps

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "common"))
from http_service import serve

WIDTH, HEIGHT = 1280, 960

# Steps of integer arithmetic, where versions of Pillow have no rounding to differ in.
STEPS = {
    "rotate": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turn": lambda image: image.rotate(30, Image.Resampling.NEAREST),
    "flip": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "median": lambda image: image.filter(ImageFilter.MedianFilter(3)),
    "contour": lambda image: image.filter(ImageFilter.FIND_EDGES),
    "gray": lambda image: image.convert("L"),
    "invert": ImageOps.invert,
    "resize": lambda image: image.resize((128, 128), Image.Resampling.BOX),
}


def make_picture():
    """Crossing gradients with a texture, alike on every machine."""
    row = bytearray()
    for y in range(HEIGHT):
        for x in range(0, WIDTH, 4):
            texel = bytes((x * 255 // WIDTH, y * 255 // HEIGHT, (x * y >> 6) & 255))
            row += texel * 4
    return Image.frombytes("RGB", (WIDTH, HEIGHT), bytes(row))


def digest(image):
    return hashlib.sha256(image.tobytes()).hexdigest()


def process(query, _body):
    """?steps=rotate,gray applies only those; without it, all in the order above."""
    names = query["steps"].split(",") if "steps" in query else list(STEPS)
    image = picture
    for name in names:
        image = STEPS[name](image)
    return f"{image.mode} {image.width}x{image.height} {digest(image)}\n"


picture = make_picture()
serve({"/": process})
