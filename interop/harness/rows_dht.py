"""Each foreign program beside ours in the DHT, and the reference implementation beside both.

Two networks for each program, so that every cell proves what it says:

    A   our DHT-only node, and foreign nodes that know only it    does it store and hand out what they say?
    B   foreign nodes alone; a daemon of ours that knows one      do they store and hand out what it says?
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path

from . import bencode, ed25519, krpc, ours
from .foreign import PROGRAM, Foreign
from .lists import ListItems
from .matrix import Skip
from .ours import BINARY, Daemon, Ours
from .process import Gone, Process, run, wait_for
from .samples import PIECE, File, digest
from .statics import Recorded

WE_ANSWER = "A: foreign nodes ask our node"
WE_ASK = "B: our daemon asks foreign nodes"
REFERENCE = "the reference implementation"

FETCH = Path(__file__).resolve().parents[1] / "reference/fetch.py"

# Each program has its own /24 of loopback.
NETWORKS = {program: f"127.0.{20 + at}" for at, program in enumerate(PROGRAM)}

# Three pieces; and more than 21, whose states need chunks.
LENGTH, LONG = 9_000_000, 22 * PIECE + 1000

# The ranges of the pieces behind the first.
PIECES = {f"bytes={first}-{min(first + PIECE, LENGTH) - 1}" for first in range(PIECE, LENGTH, PIECE)}


class Node(Ours):
    """`aptpeer bootstrap`: a node of the DHT and nothing else."""

    def __init__(self, folder, address, port=6881):
        super().__init__(folder, address=address, port=port, bootstrap=["127.0.0.1:1"])
        self.at = (address, port)
        # It is where its network begins.
        self.config.write_text(self.config.read_text().replace('["127.0.0.1:1"]', "[]"))
        words = [BINARY, "bootstrap", "--config", self.config, "--listen", f"{address}:{port}"]
        self.process = Process(words, self.folder / "log")
        self.process.wait_until("our node answers", self.answers)

    def answers(self):
        try:
            return krpc.ping(self.at)
        except (krpc.NoAnswer, OSError):
            return None

    def stop(self):
        self.process.stop()


def need_dht():
    if not ours.has_dht():
        raise Skip("this build of aptpeer has no DHT")


def eventually(what, condition, seconds=30):
    """`wait_for` over questions that may go unanswered now and then."""

    def quietly():
        try:
            return condition()
        except krpc.NoAnswer:
            return None

    return wait_for(what, quietly, seconds)


def we_answer(matrix, work, program):
    """Network A."""
    net, stand_in = NETWORKS[program], matrix.in_our_place
    if stand_in:  # a foreign node in the place of ours shows whether a cell fails for our sake
        us = Foreign(stand_in, work / "us.log", [f"{net}.1:6881"])
        us.at = us.node()
    else:
        need_dht()
        us = Node(work / "us", f"{net}.1")
    they = Foreign(program, work / "they.log", [f"{net}.{last}:6881" for last in (11, 12, 13)], [f"{net}.1:6881"])
    they.wait_for_nodes()
    stranger = f"{net}.99"

    def announced():
        info_hash = os.urandom(20)
        they.announce(info_hash, 4321)
        eventually("our node has their announce", lambda: (f"{net}.11", 4321) in krpc.get_peers(us.at, info_hash))

    def found():
        info_hash = os.urandom(20)
        krpc.announce(us.at, info_hash, 4321, stranger)
        eventually("they find what was announced to us", lambda: (stranger, 4321) in they.get_peers(info_hash, 1))

    def put(**signed):
        value = os.urandom(600)
        they.put(value, **signed)
        if signed:
            target = krpc.mutable_target(ed25519.public(signed["seed"]), signed.get("salt", b""))
        else:
            target = hashlib.sha1(bencode.encode(value)).digest()
        answer = eventually(
            "our node has their item", lambda: (a := krpc.get(us.at, target)).get(b"v") == value and a
        )
        if signed and not krpc.check(answer, signed.get("salt", b"")):
            raise Gone("our node handed out a wrong signature")

    def got(**signed):
        value = os.urandom(600)
        if signed:
            krpc.put_mutable(us.at, signed["seed"], value, signed.get("salt", b""))
            names = {"key": ed25519.public(signed["seed"])} | {k: v for k, v in signed.items() if k == "salt"}
        else:
            names = {"target": krpc.put_immutable(us.at, value)}
        eventually("they get what we hold", lambda: they.get(1, **names) == value)

    seed, salt = os.urandom(32), os.urandom(32)

    def known():
        answer = krpc.ask(us.at, "find_node", {"target": os.urandom(20)})
        if f"{net}.1" not in (listed := addresses(answer)) and not listed & {f"{net}.{last}" for last in (11, 12, 13)}:
            return None
        return listed

    # libtorrent takes 15 s for a put: the slow ones beside each other.
    matrix.cell(WE_ANSWER, program, "announce", announced)
    matrix.cell(WE_ANSWER, program, "get_peers", found)
    matrix.cell(WE_ANSWER, program, "known", lambda: bool(eventually("our node has learnt of them", known)) and "")
    matrix.cell(WE_ANSWER, program, "get", got)
    matrix.cell(WE_ANSWER, program, "get mutable", lambda: got(seed=os.urandom(32)))
    matrix.cell(WE_ANSWER, program, "get salted", lambda: got(seed=os.urandom(32), salt=os.urandom(32)))
    matrix.together(
        [
            ("put", lambda: matrix.cell(WE_ANSWER, program, "put", put)),
            ("put mutable", lambda: matrix.cell(WE_ANSWER, program, "put mutable", lambda: put(seed=os.urandom(32)))),
            ("put salted", lambda: matrix.cell(WE_ANSWER, program, "put salted", lambda: put(seed=seed, salt=salt))),
        ]
    )
    they.stop()
    us.stop()


def addresses(answer):
    nodes = answer.get(b"nodes", b"")
    return {".".join(map(str, nodes[at + 20 : at + 24])) for at in range(0, len(nodes) - 25, 26)}


def they_answer(matrix, work, program):
    """Network B: the reference implementation first, which is no more ours than the nodes are, then our daemon."""
    net = NETWORKS[program]
    listen = [f"{net}.{last}:6881" for last in (21, 22, 23)]
    they = Foreign(program, work / "they.log", listen)
    they.wait_for_nodes()

    # An object behind a plain server that one of their nodes announces; its list is only in the DHT.
    file = File(work / "served", LENGTH, program)
    items = ListItems(file.content, file.sha256)
    folder = work / "www/hash"
    folder.mkdir(parents=True)
    shutil.copy(file.path, folder / file.sha256)
    server = Recorded(work / "www", f"{net}.21")
    for index in range(3):
        krpc.put_mutable(they.node(index), items.seed, items.head)
    they.announce(items.info_hash, server.port)
    eventually("it is announced", lambda: any(krpc.get_peers(they.node(i), items.info_hash) for i in range(3)))

    def reference():
        out = work / "reference"
        said = fetch(file, out, ["--bootstrap", listen[1], "--source", f"{net}.98"])
        if "under the list of the DHT" not in said:
            raise Gone(f"it did not use the list in the DHT:\n{said}")

    matrix.cell(REFERENCE, f"through {program}", "plain server", reference)
    if not ours.has_dht():
        they.stop()
        need_dht()

    def downloaded():
        out = work / "got"
        server.asked.clear()
        Ours(work / "get", bootstrap=[listen[1]], address=f"{net}.32").get(file.sha256, out)
        if digest(out) != file.sha256:
            raise Gone("other bytes")
        ranges = {wanted for _, wanted in server.asked}
        return f"asked for {len(ranges)} ranges"

    matrix.cell(WE_ASK, program, "find peers", downloaded)

    def listed():
        """Nobody but the DHT has a list here. Without one the server is walked from its first byte; with it, pieces are fetched."""
        with_list = {wanted for _, wanted in server.asked}
        server.asked.clear()
        Ours(work / "control").get(file.sha256, work / "control.out", "--peer", f"{net}.21:{server.port}")
        without = {wanted for _, wanted in server.asked}
        if PIECES & without or not PIECES & with_list:
            raise Gone(f"asked for {with_list} with, {without} without the list")

    matrix.cell(WE_ASK, program, "find list", listed)

    held, long = File(work / "held", LENGTH, program + "1"), File(work / "long", LONG, program + "2")
    daemon = Daemon(work / "daemon", bootstrap=[listen[0]], address=f"{net}.31", port=9979)
    daemon.seed(held.path, long.path)
    daemon.start()
    held_items, long_items = (ListItems(each.content, each.sha256) for each in (held, long))
    me = (f"{net}.31", 9979)

    def announced():
        eventually("they find us", lambda: me in they.get_peers(held_items.info_hash, 1), 60)

    def published():
        eventually("they have our list", lambda: they.get(1, key=held_items.key) == held_items.head, 60)

    def chunks():
        eventually("they have our head", lambda: they.get(1, key=long_items.key) == long_items.head, 60)
        for target, chunk in zip(long_items.targets, long_items.chunks):
            eventually("they have our chunk", lambda: they.get(1, target=target) == chunk, 10)

    def signed():
        if run([BINARY, "publish", "--help"]).returncode != 0:
            raise Skip("this build has no `aptpeer publish`")
        key = bytes.fromhex(daemon.command("keygen", work / "key").split()[-1])
        Ours(work / "publisher", bootstrap=[listen[0]], address=f"{net}.33").command(
            "publish", "--key", work / "key", held.path
        )
        salt = held_items.sha256
        eventually("they have the signed list", lambda: they.get(1, key=key, salt=salt) == held_items.head)

    matrix.cell(WE_ASK, program, "announce", announced)
    matrix.cell(WE_ASK, program, "put list", published)
    # anacrolix/dht refuses immutable items that have no `seq`, which BEP 44 does not give them.
    matrix.cell(WE_ASK, program, "put chunks", chunks, required=program != "anacrolix/dht")
    matrix.cell(WE_ASK, program, "put signed", signed)

    def from_daemon():
        said = fetch(held, work / "reference2", ["--bootstrap", listen[1], "--source", f"{net}.98"])
        if "under the list of the DHT" not in said:
            raise Gone(f"it did not use the list in the DHT:\n{said}")

    matrix.cell(REFERENCE, f"through {program}", "daemon", from_daemon)
    daemon.stop()
    they.stop()
    server.stop()


def fetch(file, out, words):
    done = run([sys.executable, FETCH, file.sha256, file.length, out, "--local", *words])
    if done.returncode != 0 or digest(out) != file.sha256:
        raise Gone(f"the reference implementation failed:\n{done.stderr}")
    return done.stderr


def reference(matrix, work):
    """Without a DHT: the list comes from a peer."""
    file = File(work / "object", LENGTH, 7)
    daemon = Daemon(work / "daemon").start()
    daemon.seed(file.path)
    matrix.cell(REFERENCE, "named peer", "daemon", lambda: fetch(file, work / "out", ["--peer", daemon.peer]) and "")
    little = File(work / "little", 1000, 8)
    daemon.seed(little.path)
    matrix.cell(REFERENCE, "one piece", "daemon", lambda: fetch(little, work / "one", ["--peer", daemon.peer]) and "")
    daemon.stop()


def group(program):
    def rows(matrix, work):
        for name, test in (("a", we_answer), ("b", they_answer)):
            (work / name).mkdir()
            matrix.together([(f"{program}, network {name.upper()}", lambda: test(matrix, work / name, program))])

    return rows
