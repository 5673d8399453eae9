"""One question to one node (BEP 5, BEP 44) and its answer, without being a node: shows what that node itself holds."""

import hashlib
import os
import socket

from . import bencode, ed25519


class NoAnswer(Exception):
    pass


def ask(node, what, arguments, source="", tries=5):
    """Sends the query from a new socket bound to `source`, again if nothing comes, and gives the answer's `r`."""
    address, port = node
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.settimeout(1)
        for _ in range(tries):
            answer = _ask_once(sock, (address, port), what, arguments)
            if answer is not None:
                return answer
    raise NoAnswer(f"{what} to {address}:{port}")


def _ask_once(sock, node, what, arguments):
    transaction = os.urandom(2)
    query = {"t": transaction, "y": "q", "q": what, "a": {"id": IDENTITY} | arguments, "ro": 1}
    sock.sendto(bencode.encode(query), node)
    while True:
        try:
            answer = bencode.decode(sock.recvfrom(65536)[0])
        except TimeoutError:
            return None
        except (ValueError, ConnectionError):
            continue
        if answer.get(b"t") != transaction:
            continue
        if answer.get(b"y") == b"e":
            raise NoAnswer(f"{what}: error {answer[b'e']}")
        return answer[b"r"]


IDENTITY = os.urandom(20)


def ping(node):
    return ask(node, "ping", {})[b"id"]


def get_peers(node, info_hash, source=""):
    """What the node has stored: a set of (address, port); and the token for an announce from the same address."""
    answer = ask(node, "get_peers", {"info_hash": info_hash}, source)
    peers = {(socket.inet_ntoa(value[:4]), int.from_bytes(value[4:6], "big")) for value in answer.get(b"values", [])}
    return peers, answer.get(b"token")


def announce(node, info_hash, port, source=""):
    _, token = get_peers(node, info_hash, source)
    ask(node, "announce_peer", {"info_hash": info_hash, "port": port, "token": token}, source)


def get(node, target):
    """The stored item as the answer has it (`v` decoded; `k`, `sig`, `seq` of a mutable one), without `v` if none is."""
    return ask(node, "get", {"target": target})


def put_immutable(node, value):
    target = hashlib.sha1(bencode.encode(value)).digest()
    ask(node, "put", {"v": value, "token": get(node, target)[b"token"]})
    return target


def put_mutable(node, seed, value, salt=b"", seq=1):
    key = ed25519.public(seed)
    target = mutable_target(key, salt)
    signature = ed25519.sign(seed, signed(value, salt, seq))
    arguments = {"v": value, "k": key, "sig": signature, "seq": seq, "token": get(node, target)[b"token"]}
    ask(node, "put", arguments | ({"salt": salt} if salt else {}))
    return target


def mutable_target(key, salt=b""):
    return hashlib.sha1(key + salt).digest()


def signed(value, salt, seq):
    """What the signature is over (BEP 44)."""
    salted = b"4:salt" + bencode.encode(salt) if salt else b""
    return salted + b"3:seq" + bencode.encode(seq) + b"1:v" + bencode.encode(value)


def check(answer, salt=b""):
    """Whether a mutable item's signature is right."""
    return ed25519.verify(answer[b"k"], signed(answer[b"v"], salt, answer[b"seq"]), answer[b"sig"])
