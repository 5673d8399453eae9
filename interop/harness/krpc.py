"""One question to one node (BEP 5, BEP 44) and its answer, without being a node: shows what that node itself holds."""

import hashlib
import os
import socket

from . import bencode, ed25519


class NoAnswer(Exception):
    pass


def ask(node, what, arguments, source=""):
    """Sends the query from a new socket bound to `source`, again if nothing comes, and gives the answer's `r`."""
    with _socket(source) as sock:
        return _ask(sock, node, what, arguments)


def _socket(source):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((source, 0))
    sock.settimeout(1)
    return sock


def _ask(sock, node, what, arguments, tries=5):
    for _ in range(tries):
        answer = _ask_once(sock, node, what, arguments)
        if answer is not None:
            return answer
    raise NoAnswer(f"{what} to {node[0]}:{node[1]}")


def _token(sock, node, what, arguments):
    token = _ask(sock, node, what, arguments).get(b"token")
    if token is None:
        raise NoAnswer(f"{what} to {node[0]}:{node[1]} brought no token")
    return token


def _ask_once(sock, node, what, arguments):
    # The mainline crate reads no questions whose transaction ids have another length.
    transaction = os.urandom(4)
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
    """What the node has stored: a set of (address, port)."""
    answer = ask(node, "get_peers", {"info_hash": info_hash}, source)
    return {(socket.inet_ntoa(value[:4]), int.from_bytes(value[4:6], "big")) for value in answer.get(b"values", [])}


def announce(node, info_hash, port, source=""):
    # One socket for both: some bind their tokens to the port, too.
    with _socket(source) as sock:
        token = _token(sock, node, "get_peers", {"info_hash": info_hash})
        _ask(sock, node, "announce_peer", {"info_hash": info_hash, "port": port, "token": token})


def get(node, target):
    """The stored item as the answer has it (`v` decoded; `k`, `sig`, `seq` of a mutable one), without `v` if none is."""
    return ask(node, "get", {"target": target})


def put_immutable(node, value, **more):
    target = hashlib.sha1(bencode.encode(value)).digest()
    with _socket("") as sock:
        token = _token(sock, node, "get", {"target": target})
        _ask(sock, node, "put", {"v": value, "token": token} | more)
    return target


def put_mutable(node, seed, value, salt=b"", seq=1):
    key = ed25519.public(seed)
    target = mutable_target(key, salt)
    signature = ed25519.sign(seed, signed(value, salt, seq))
    with _socket("") as sock:
        token = _token(sock, node, "get", {"target": target})
        arguments = {"v": value, "k": key, "sig": signature, "seq": seq, "token": token}
        _ask(sock, node, "put", arguments | ({"salt": salt} if salt else {}))
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
