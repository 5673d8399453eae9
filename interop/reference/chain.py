"""The SHA-256 chain of docs/protocol.md, sections 5 and 6.

hashlib gives no chaining values, so libcrypto's compression is used where there is one whose structure looks as expected,
and otherwise the one written out below, which takes some seconds for a piece.
"""

import ctypes
import ctypes.util
import math
import struct

PIECE = 4194304
MASK = 0xFFFFFFFF


def pieces(length):
    return max(1, -(-length // PIECE))


def bounds(index, length):
    return index * PIECE, min((index + 1) * PIECE, length)


def padding(length):
    """FIPS 180-4 section 5.1.1, for a message of that many bytes."""
    zeros = (55 - length) % 64
    return b"\x80" + bytes(zeros) + struct.pack(">Q", length * 8)


def next_state(state, data, length=None):
    """The chaining value after `data`, and the padding of a message of `length` bytes where that is given."""
    if length is not None:
        data = bytes(data) + padding(length)
    return COMPRESS(state, data)


def states_of(content):
    """The inner states of an object."""
    states, state = [], START
    for index in range(pieces(len(content)) - 1):
        first, last = bounds(index, len(content))
        state = next_state(state, memoryview(content)[first:last])
        states.append(state)
    return states


def links(index, length, before, after, data):
    """Whether the piece leads from `before` to `after`; for the last one that is the digest."""
    last = index == pieces(length) - 1
    return next_state(before, data, length if last else None) == after


def _primes(count):
    found = []
    number = 2
    while len(found) < count:
        if all(number % prime for prime in found):
            found.append(number)
        number += 1
    return found


def _root_bits(number, root):
    """The first 32 bits behind the point of the square or cube root."""
    wide = number << (32 * root)
    guess = math.isqrt(wide) if root == 2 else round(wide ** (1 / 3))
    while guess**root > wide:
        guess -= 1
    while (guess + 1) ** root <= wide:
        guess += 1
    return guess & MASK


ROUNDS = [_root_bits(prime, 3) for prime in _primes(64)]
START = struct.pack(">8I", *(_root_bits(prime, 2) for prime in _primes(8)))


def written_out(state, data):
    """FIPS 180-4 section 6.2.2, block after block."""
    chain = list(struct.unpack(">8I", state))
    for at in range(0, len(data), 64):
        words = list(struct.unpack_from(">16I", data, at))
        for i in range(16, 64):
            x, y = words[i - 15], words[i - 2]
            small = (x >> 7 | x << 25) ^ (x >> 18 | x << 14) ^ x >> 3
            large = (y >> 17 | y << 15) ^ (y >> 19 | y << 13) ^ y >> 10
            words.append(words[i - 16] + (small & MASK) + words[i - 7] + (large & MASK) & MASK)
        a, b, c, d, e, f, g, h = chain
        for word, constant in zip(words, ROUNDS):
            turned = ((e >> 6 | e << 26) ^ (e >> 11 | e << 21) ^ (e >> 25 | e << 7)) & MASK
            one = h + turned + (e & f ^ ~e & g) + constant + word
            turned = ((a >> 2 | a << 30) ^ (a >> 13 | a << 19) ^ (a >> 22 | a << 10)) & MASK
            two = turned + (a & b ^ a & c ^ b & c)
            a, b, c, d, e, f, g, h = one + two & MASK, a, b, c, d + one & MASK, e, f, g
        chain = [x + y & MASK for x, y in zip(chain, (a, b, c, d, e, f, g, h))]
    return struct.pack(">8I", *chain)


class _Context(ctypes.Structure):
    """SHA256_CTX of OpenSSL: eight words first, then the length and what is not compressed yet."""

    _fields_ = [("h", ctypes.c_uint32 * 8), ("rest", ctypes.c_uint8 * 256)]


def _libcrypto():
    name = ctypes.util.find_library("crypto") or "libcrypto.so.3"
    try:
        library = ctypes.CDLL(name)
        library.SHA256_Init, library.SHA256_Update
    except (OSError, AttributeError):
        return None

    def compress(state, data):
        context = _Context()
        library.SHA256_Init(ctypes.byref(context))
        context.h[:] = struct.unpack(">8I", state)
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        library.SHA256_Update(ctypes.byref(context), buffer, ctypes.c_size_t(len(data)))
        return struct.pack(">8I", *context.h)

    probe = bytes(range(64)) * 2
    return compress if compress(START, probe) == written_out(START, probe) else None


COMPRESS = _libcrypto() or written_out
