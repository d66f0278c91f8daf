# SPDX-License-Identifier: Apache-2.0
"""AES-128 (FIPS 197) in counter mode (NIST SP 800-38A), for the work of it: slow, and not hardened
against timing. Never use it to protect anything."""


def _double(value):
    return (value << 1) ^ (0x11B if value & 0x80 else 0)


def _make_sbox():
    """Inverse in GF(2^8), walked by the generator 3 and its inverse 0xf6, then the affine map."""
    sbox = [0x63] * 256
    power = inverse = 1
    for _ in range(255):
        power ^= _double(power)
        inverse ^= inverse << 1
        inverse ^= inverse << 2
        inverse ^= inverse << 4
        inverse &= 0xFF
        if inverse & 0x80:
            inverse ^= 0x09
        spread = inverse * 0x101  # rotations become shifts
        sbox[power] = (spread ^ spread >> 4 ^ spread >> 5 ^ spread >> 6 ^ spread >> 7) & 0xFF ^ 0x63
    return sbox


SBOX = _make_sbox()
# Column tables: SubBytes and MixColumns of one byte, for each of the four rows.
T0 = [_double(s) << 24 | s << 16 | s << 8 | (_double(s) ^ s) for s in SBOX]
T1 = [t >> 8 | (t & 0xFF) << 24 for t in T0]
T2 = [t >> 8 | (t & 0xFF) << 24 for t in T1]
T3 = [t >> 8 | (t & 0xFF) << 24 for t in T2]


def expand_key(key):
    """The 44 words of the key schedule."""
    words = [int.from_bytes(key[i:i + 4], "big") for i in range(0, 16, 4)]
    constant = 1
    for index in range(4, 44):
        word = words[-1]
        if index % 4 == 0:
            word = (word << 8 | word >> 24) & 0xFFFFFFFF
            word = int.from_bytes(bytes(SBOX[b] for b in word.to_bytes(4, "big")), "big")
            word ^= constant << 24
            constant = _double(constant)
        words.append(words[-4] ^ word)
    return words


def encrypt_block(words, block):
    """One block as an integer, by the schedule of expand_key()."""
    a = (block >> 96) ^ words[0]
    b = (block >> 64 & 0xFFFFFFFF) ^ words[1]
    c = (block >> 32 & 0xFFFFFFFF) ^ words[2]
    d = (block & 0xFFFFFFFF) ^ words[3]
    for i in range(4, 40, 4):
        a, b, c, d = (
            T0[a >> 24] ^ T1[b >> 16 & 255] ^ T2[c >> 8 & 255] ^ T3[d & 255] ^ words[i],
            T0[b >> 24] ^ T1[c >> 16 & 255] ^ T2[d >> 8 & 255] ^ T3[a & 255] ^ words[i + 1],
            T0[c >> 24] ^ T1[d >> 16 & 255] ^ T2[a >> 8 & 255] ^ T3[b & 255] ^ words[i + 2],
            T0[d >> 24] ^ T1[a >> 16 & 255] ^ T2[b >> 8 & 255] ^ T3[c & 255] ^ words[i + 3])
    out = 0
    for e, f, g, h, word in ((a, b, c, d, words[40]), (b, c, d, a, words[41]),
                             (c, d, a, b, words[42]), (d, a, b, c, words[43])):
        column = (SBOX[e >> 24] << 24 | SBOX[f >> 16 & 255] << 16 |
                  SBOX[g >> 8 & 255] << 8 | SBOX[h & 255])
        out = out << 32 | column ^ word
    return out


def ctr(key, counter, data):
    """Encrypts (or decrypts) `data` with a 16-byte key and first counter block."""
    words = expand_key(key)
    first = int.from_bytes(counter, "big")
    count = (len(data) + 15) // 16
    stream = b"".join(encrypt_block(words, (first + i) % 2**128).to_bytes(16, "big")
                      for i in range(count))[:len(data)]
    mixed = int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")
    return mixed.to_bytes(len(data), "big")
