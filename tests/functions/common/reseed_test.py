# SPDX-License-Identifier: Apache-2.0
"""Plays a template and its clones: the same state of the generators, then other entropy."""
import json
import os
import random
import signal
import tempfile
import unittest

import memplate_reseed

# From OpenSSL 3.0's HMAC-DRBG, given bytes 0 to 63 as entropy and nonce.
EXPECTED = ("acb4c0527346343f45266a99a5ea86e9493b69635f509ed6871d4c871f93613b"
            "70af78045a86189e93f2adcbd7f4533c", "0f055feef0")


def give(directory, generation, byte):
    with open(f"{directory}/entropy", "wb") as file:
        file.write(bytes([byte]) * 64)
    with open(f"{directory}/new.json", "w", encoding="ascii") as file:
        json.dump({"instance": f"i-{byte}", "template": "t", "generation": generation}, file)
    os.rename(f"{directory}/new.json", f"{directory}/identity.json")


def draw():
    return random.getrandbits(64), memplate_reseed.random_bytes(40)


class ReseedTest(unittest.TestCase):
    def test_clones_differ(self):
        with tempfile.TemporaryDirectory() as directory:
            memplate_reseed.install(directory)
            self.assertEqual(memplate_reseed.identity(), {})
            told = []
            memplate_reseed.on_clone(told.append)
            state = random.getstate()

            give(directory, 1, 1)
            os.kill(os.getpid(), signal.SIGUSR2)
            self.assertEqual([identity["instance"] for identity in told], ["i-1"])
            self.assertNotEqual(random.getstate(), state)
            first = draw()
            self.assertFalse(memplate_reseed.refresh())

            for generation, byte in ((2, 1), (1, 2)):  # next generation; another instance
                random.setstate(state)
                give(directory, generation, byte)
                self.assertTrue(memplate_reseed.refresh())
                for mine, other in zip(draw(), first):
                    self.assertNotEqual(mine, other)
            give(directory, 1, 1)  # the state depends on nothing but the files
            self.assertTrue(memplate_reseed.refresh())
            self.assertEqual(draw(), first)

    def test_short_entropy_is_refused(self):
        with tempfile.TemporaryDirectory() as directory:
            memplate_reseed.install(directory)
            give(directory, 1, 1)
            os.truncate(f"{directory}/entropy", 63)
            with self.assertRaises(ValueError):
                memplate_reseed.refresh()

    def test_generator_is_hmac_drbg(self):
        generator = memplate_reseed.HmacDrbg(bytes(range(64)))
        self.assertEqual(generator.generate(48).hex(), EXPECTED[0])
        self.assertEqual(generator.generate(5).hex(), EXPECTED[1])


if __name__ == "__main__":
    unittest.main()
