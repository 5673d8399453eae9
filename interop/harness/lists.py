"""Piece lists as docs/protocol.md, section 11, has them in the DHT, from the reference implementation's states."""

import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference"))

import chain  # noqa: E402

from . import bencode, ed25519  # noqa: E402


class ListItems:
    """The head and the chunks of an object, and the key that everybody derives for it."""

    def __init__(self, content, sha256):
        self.sha256 = bytes.fromhex(sha256)
        self.states = chain.states_of(content)
        self.seed = hashlib.sha256(b"aptpeer piece list 1" + self.sha256).digest()
        self.key = ed25519.public(self.seed)
        self.chunks = []
        self.head = {b"l": len(content), b"p": 22}
        if len(self.states) <= 20:
            self.head[b"h"] = b"".join(self.states)
            return
        self.chunks = [b"".join(self.states[at : at + 25]) for at in range(0, len(self.states), 25)]
        self.targets = [hashlib.sha1(bencode.encode(chunk)).digest() for chunk in self.chunks]
        self.head[b"r"] = b"".join(self.targets)

    @property
    def info_hash(self):
        return self.sha256[:20]
