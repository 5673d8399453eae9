"""Objects to exchange: bytes from a stated generator, their digests and their states."""

import hashlib
from pathlib import Path

PIECE = 4 * 1024 * 1024


def sample(length, seed=0):
    """Bytes that differ from place to place and from seed to seed, made quickly: repeated digests, numbered per MiB."""
    out = bytearray()
    block = 0
    while len(out) < length:
        word = hashlib.sha256(f"{seed} {block}".encode()).digest()
        out += word * (1024 * 1024 // len(word))
        block += 1
    return bytes(out[:length])


class File:
    """A file of our own making with its digest."""

    def __init__(self, path, length, seed=0):
        content = sample(length, seed)
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(content)
        self.length = length
        self.content = content
        self.sha256 = hashlib.sha256(content).hexdigest()


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
