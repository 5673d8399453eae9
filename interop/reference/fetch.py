#!/usr/bin/env python3
"""A second client of the protocol, written from docs/protocol.md alone: one object, found in the DHT, into a file.

    fetch.py SHA256 LENGTH FILE [--bootstrap ADDRESS:PORT]... [--peer ADDRESS:PORT]... [--source ADDRESS]

It looks for peers and for the piece list in the DHT (section 11), asks peers for theirs where there is none (section 7), fetches
the pieces in random order (section 8) and keeps those that link (section 6). Says on standard error what came from where.
With --local it takes addresses that are not of the public internet, too.
"""

import argparse
import hashlib
import http.client
import ipaddress
import json
import os
import random
import re
import socket
import sys
import time

import chain

WAIT = 1.0  # seconds for the answer of a node
ASKED_AT_MOST = 80  # nodes, in one walk
TRIED_AT_MOST = 64  # peers


def main():
    words = argparse.ArgumentParser()
    words.add_argument("sha256", type=bytes.fromhex)
    words.add_argument("length", type=int)
    words.add_argument("file")
    words.add_argument("--bootstrap", action="append", default=[], type=address)
    words.add_argument("--peer", action="append", default=[], type=address)
    words.add_argument("--source", default="", help="the address to ask nodes from")
    words.add_argument("--local", action="store_true")
    asked = words.parse_args()
    peers, dht_states = list(asked.peer), None
    if asked.bootstrap:
        dht = Dht(asked.bootstrap, asked.source)
        found = [peer for peer in dht.peers(asked.sha256[:20]) if peer[1] and (asked.local or is_public(peer[0]))]
        say(f"peers in the DHT: {len(found)}")
        peers += found[:TRIED_AT_MOST]
        dht_states = dht.piece_list(asked.sha256, asked.length)
        say(f"list in the DHT: {'yes' if dht_states is not None else 'no'}")
    with open(asked.file, "w+b") as file:
        file.truncate(asked.length)
        Download(asked.sha256, asked.length, peers, file).run(dht_states)
    say("done")


def say(text):
    print(text, file=sys.stderr, flush=True)


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def is_public(host):
    return ipaddress.ip_address(host).is_global


class Download:
    """Section 8: lists, then pieces under one list, each checked by itself."""

    def __init__(self, sha256, length, peers, file):
        self.sha256, self.length, self.peers, self.file = sha256, length, peers, file

    def run(self, dht_states):
        lists = [("the DHT", dht_states)] if dht_states is not None else []
        if chain.pieces(self.length) == 1:
            lists = [("nobody: one piece", [])]
        for where, states in lists:
            if self.under(where, states):
                return
        for peer in self.peers:
            states = self.list_of(peer)
            if states is not None and self.under(f"{peer[0]}:{peer[1]}", states):
                return
        raise SystemExit("the object could not be had: no list under which all pieces link")

    def under(self, where, states):
        """All pieces, in any order, under one list. One that no peer has rightly means that list or peers are false."""
        ends = [chain.START, *states, self.sha256]
        order = list(range(chain.pieces(self.length)))
        random.shuffle(order)
        say(f"pieces in the order {order} under the list of {where}")
        return all(self.piece(index, ends[index], ends[index + 1]) for index in order)

    def piece(self, index, before, after):
        first, end = chain.bounds(index, self.length)
        for peer in self.peers:
            data = self.range_of(peer, first, end)
            if data is not None and chain.links(index, self.length, before, after, data):
                self.file.seek(first)
                self.file.write(data)
                return True
            if data is not None:
                say(f"piece {index} of {peer[0]}:{peer[1]} does not link")
        return False

    def range_of(self, peer, first, end):
        """The bytes of the range, `None` for whatever else the peer answers (sections 3, 4 and 8)."""
        whole = (first, end) == (0, self.length)
        headers = {} if whole else {"Range": f"bytes={first}-{end - 1}"}
        with Request(peer, f"/hash/{self.sha256.hex()}", headers) as answer:
            if answer is None:
                return None
            if answer.status == 206:
                if answer.headers.get("Content-Range") != f"bytes {first}-{end - 1}/{self.length}":
                    return None
            elif answer.status != 200 or first != 0:
                return None
            data = answer.read(end - first)
            return data if len(data) == end - first else None

    def list_of(self, peer):
        """Section 7: the inner states by one peer, `None` unless it knows them all."""
        with Request(peer, f"/hash/{self.sha256.hex()}/pieces") as answer:
            if answer is None or answer.status != 200:
                return None
            try:
                told = json.loads(answer.read(655360))
                right = told["length"] == self.length and told["piece_length"] == chain.PIECE
                states = [bytes.fromhex(state) for state in told["states"]]
            except (ValueError, KeyError, TypeError):
                return None  # also a list with holes
        whole = len(states) == chain.pieces(self.length) - 1 and all(len(state) == 32 for state in states)
        return states if right and whole else None


class Request:
    """One GET on a connection of its own; `None` where the peer is not there or speaks something else."""

    def __init__(self, peer, target, headers=None):
        self.connection = http.client.HTTPConnection(*peer, timeout=3)
        self.target, self.headers = target, headers or {}

    def __enter__(self):
        try:
            self.connection.request("GET", self.target, headers=self.headers)
            return Quiet(self.connection.getresponse())
        except (OSError, http.client.HTTPException):
            return None

    def __exit__(self, *_):
        self.connection.close()


class Quiet:
    """An answer whose body ends where the connection breaks."""

    def __init__(self, answer):
        self.answer, self.status, self.headers = answer, answer.status, answer.headers

    def read(self, most):
        try:
            return self.answer.read(most)
        except http.client.IncompleteRead as broken:
            return broken.partial
        except (OSError, http.client.HTTPException):
            return b""


class Dht:
    """A client of BEP 5 and BEP 44 that answers nobody (BEP 43)."""

    def __init__(self, bootstrap, source):
        self.bootstrap = bootstrap
        self.id = os.urandom(20)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((source, 0))

    def peers(self, info_hash):
        found = []
        for answer in self.walk("get_peers", "info_hash", info_hash):
            for value in answer.get(b"values", []):
                if isinstance(value, bytes) and len(value) == 6 and contact(value) not in found:
                    found.append(contact(value))
        return found

    def piece_list(self, sha256, length):
        """Section 11, "Reading". The signature is not checked: under a false list nothing links."""
        count = chain.pieces(length) - 1
        if not 0 < count <= 825:
            return None
        key = public_key(hashlib.sha256(b"aptpeer piece list 1" + sha256).digest())
        for answer in self.walk("get", "target", hashlib.sha1(key).digest()):
            states = self.states(answer, key, length, count)
            if states is not None:
                return states
        return None

    def states(self, answer, key, length, count):
        head = answer.get(b"v")
        if answer.get(b"k") != key or answer.get(b"seq") != 1 or not isinstance(head, dict):
            return None
        if head.get(b"p") != 22 or head.get(b"l") != length or (b"h" in head) == (b"r" in head):
            return None
        if count <= 20:
            joined = head.get(b"h")
        else:
            joined = self.chunks(head.get(b"r"), count)
        if not isinstance(joined, bytes) or len(joined) != 32 * count:
            return None
        return [joined[at : at + 32] for at in range(0, len(joined), 32)]

    def chunks(self, targets, count):
        if not isinstance(targets, bytes) or len(targets) != 20 * -(-count // 25):
            return None
        joined = b""
        for at in range(0, len(targets), 20):
            target = targets[at : at + 20]
            for answer in self.walk("get", "target", target):
                value = answer.get(b"v")
                if isinstance(value, bytes) and hashlib.sha1(encode(value)).digest() == target:
                    joined += value
                    break
            else:
                return None
        return joined

    def walk(self, what, name, target):
        """The answers of ever closer nodes, until the 8 closest that are known have been asked."""
        known = {node: None for node in self.bootstrap}  # with their ids, which those of the start have not said yet
        asked, answered = set(), {}
        while len(asked) < ASKED_AT_MOST:
            near = sorted((distance(known[node], target), node) for node in known if node not in asked or node in answered)
            ask = [node for _, node in near[:8] if node not in asked][:4]
            if not ask:
                return
            asked.update(ask)
            for node, answer in self.ask(ask, what, {name: target}):
                answered[node] = answer
                known[node] = answer.get(b"id")
                nodes = answer.get(b"nodes", b"")
                for at in range(0, len(nodes) - 25, 26):
                    other = contact(nodes[at + 20 : at + 26])
                    if other[1]:
                        known.setdefault(other, nodes[at : at + 20])
                yield answer

    def ask(self, nodes, what, arguments):
        """Sends one query to each; gives (node, answer) as they come, within a second."""
        waiting = {}
        for node in nodes:
            transaction = os.urandom(4)
            query = {b"t": transaction, b"y": b"q", b"q": what.encode(), b"ro": 1}
            query[b"a"] = {b"id": self.id} | {key.encode(): value for key, value in arguments.items()}
            waiting[transaction] = node
            try:
                self.socket.sendto(encode(query), node)
            except OSError:
                continue
        end = time.monotonic() + WAIT
        while waiting and (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data, sender = self.socket.recvfrom(65536)
                message = decode(data)
                transaction = message[b"t"]
                answer = message[b"r"] if message[b"y"] == b"r" else {}
            except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
                continue
            if isinstance(transaction, bytes) and waiting.get(transaction) == sender and isinstance(answer, dict):
                del waiting[transaction]
                yield sender, answer


def contact(six):
    return socket.inet_ntoa(six[:4]), int.from_bytes(six[4:6], "big")


def distance(node_id, target):
    if not isinstance(node_id, bytes) or len(node_id) != 20:
        return 0  # not known yet: to be asked first
    return int.from_bytes(node_id, "big") ^ int.from_bytes(target, "big")


def encode(value):
    if isinstance(value, bytes):
        return b"%d:%b" % (len(value), value)
    if isinstance(value, int):
        return b"i%de" % value
    return b"d" + b"".join(encode(key) + encode(value[key]) for key in sorted(value)) + b"e"


def decode(data):
    def take(at):
        if data[at] == ord("i"):
            end = data.index(b"e", at)
            return int(data[at + 1 : end]), end + 1
        if data[at] in b"ld":
            items, kind, at = [], data[at], at + 1
            while data[at] != ord("e"):
                item, at = take(at)
                items.append(item)
            return (items if kind == ord("l") else dict(zip(items[::2], items[1::2]))), at + 1
        start = re.compile(rb"\d{1,6}:").match(data, at)
        if not start:
            raise ValueError("not bencoded")
        end = start.end() + int(start[0][:-1])
        if end > len(data):
            raise ValueError("too short")
        return data[start.end() : end], end

    value, end = take(0)
    if end != len(data) or not isinstance(value, dict):
        raise ValueError("not a message")
    return value


def public_key(seed):
    """The Ed25519 public key of a seed (RFC 8032 section 5.1.5)."""
    prime = 2**255 - 19
    d = -121665 * pow(121666, -1, prime) % prime

    def add(one, two):  # section 5.1.4, affine for brevity
        (x1, y1), (x2, y2) = one, two
        product = d * x1 * x2 * y1 * y2
        return (
            (x1 * y2 + x2 * y1) * pow(1 + product, -1, prime) % prime,
            (y1 * y2 + x1 * x2) * pow(1 - product, -1, prime) % prime,
        )

    y = 4 * pow(5, -1, prime) % prime
    square = (y * y - 1) * pow(d * y * y + 1, -1, prime) % prime
    x = pow(square, (prime + 3) // 8, prime)
    if (x * x - square) % prime:
        x = x * pow(2, (prime - 1) // 4, prime) % prime
    base = (prime - x if x & 1 else x, y)
    scalar = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little") & (1 << 254) - 8 | 1 << 254
    point = (0, 1)
    for bit in f"{scalar:b}":
        point = add(point, point)
        if bit == "1":
            point = add(point, base)
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


if __name__ == "__main__":
    main()
