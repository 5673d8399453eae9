"""Each foreign program beside ours in the DHT, and the reference implementation beside both.

Two networks for each program, so that every cell proves what it says:

    A   our DHT-only node, and foreign nodes that know only it    does it store and hand out what they say?
    B   foreign nodes alone; a daemon of ours that knows one      do they store and hand out what it says?
"""

import hashlib
import os
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

# Stores no items of others: it drops every `put` that does not name its target, and every value that is not a byte string.
NO_ITEMS = ["mainline"]

# Each program has its own /24 of loopback.
NETWORKS = {program: f"127.0.{20 + at}" for at, program in enumerate(PROGRAM)}

# Three pieces; and more than 21, whose states need chunks.
LENGTH, LONG = 9_000_000, 22 * PIECE + 1000


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


def in_order(matrix):
    matrix.order(WE_ANSWER, "announce", "get_peers", "known", "put", "get", "put mutable", "get mutable", "put salted", "get salted")
    matrix.order(
        WE_ASK, "announce", "find peers", "put list", "find list", "put chunks", "find chunks", "put signed", "find signed",
        "(no list)",
    )
    matrix.order(REFERENCE, "plain server", "daemon")


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

    def known():
        answer = krpc.ask(us.at, "find_node", {"target": os.urandom(20)})
        return addresses(answer) & {f"{net}.{last}" for last in (11, 12, 13)}

    def salted():
        put(seed=os.urandom(32), salt=os.urandom(32))

    matrix.cell(WE_ANSWER, program, "announce", announced)
    matrix.cell(WE_ANSWER, program, "get_peers", found)
    matrix.cell(WE_ANSWER, program, "known", lambda: bool(eventually("our node has learnt of them", known)) and "")
    matrix.cell(WE_ANSWER, program, "get", got)
    matrix.cell(WE_ANSWER, program, "get mutable", lambda: got(seed=os.urandom(32)))
    matrix.cell(WE_ANSWER, program, "get salted", lambda: got(seed=os.urandom(32), salt=os.urandom(32)))
    # libtorrent may take 15 s for each.
    matrix.together(
        [
            ("put", lambda: matrix.cell(WE_ANSWER, program, "put", put)),
            ("put mutable", lambda: matrix.cell(WE_ANSWER, program, "put mutable", lambda: put(seed=os.urandom(32)))),
            ("put salted", lambda: matrix.cell(WE_ANSWER, program, "put salted", salted)),
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

    # Objects behind a plain server that one of their nodes announces; their lists are only in the DHT.
    server = Recorded(work / "www", f"{net}.21")
    serving = Serving(they, server, program)
    if program in NO_ITEMS:
        they_answer_without_items(matrix, work, program, they, serving)
        return
    file, items = serving.add(LENGTH, "short")
    for index in range(3):
        krpc.put_mutable(they.node(index), items.seed, items.head)

    def reference():
        out = work / "reference"
        said = fetch(file, out, ["--bootstrap", listen[1], "--source", f"{net}.98"])
        if "under the list of the DHT" not in said:
            raise Gone(f"it did not use the list in the DHT:\n{said}")

    matrix.cell(REFERENCE, f"through {program}", "plain server", reference)
    if not ours.has_dht():
        they.stop()
        need_dht()

    def find_peers():
        little, _ = serving.add(1000, "little")
        return serving.get(little, work / "get little", [listen[1]], f"{net}.32")

    def find_list():
        """Without a list the server would be walked from its first byte; with it, pieces are fetched."""
        return serving.get(file, work / "get", [listen[1]], f"{net}.32", pieces=True)

    def without_list():
        server.asked.clear()
        Ours(work / "control").get(file.sha256, work / "control.out", "--peer", f"{net}.21:{server.port}")
        if serving.asked_for_pieces(file):
            raise Gone(f"asked for {server.asked} without a list: the cell beside this one proves nothing")

    def find_chunks():
        long, long_items = serving.add(LONG, "long")
        # anacrolix/dht wants a `seq` in immutable items, too, which BEP 44 does not give them.
        more = {"seq": 1} if program == "anacrolix/dht" else {}
        for index in range(3):
            for chunk in long_items.chunks:
                krpc.put_immutable(they.node(index), chunk, **more)
            krpc.put_mutable(they.node(index), long_items.seed, long_items.head)
        return serving.get(long, work / "get long", [listen[1]], f"{net}.32", pieces=True)

    def find_signed():
        signed, signed_items = serving.add(LENGTH, "signed")
        secret = os.urandom(32)
        for index in range(3):
            krpc.put_mutable(they.node(index), secret, signed_items.head, signed_items.sha256)
        trusted = [ed25519.public(secret).hex()]
        return serving.get(signed, work / "get signed", [listen[1]], f"{net}.32", pieces=True, publishers=trusted)

    matrix.cell(WE_ASK, program, "find peers", find_peers)
    matrix.cell(WE_ASK, program, "find list", find_list)
    matrix.cell(WE_ASK, program, "(no list)", without_list)
    matrix.cell(WE_ASK, program, "find chunks", find_chunks)
    matrix.cell(WE_ASK, program, "find signed", find_signed)

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


def they_answer_without_items(matrix, work, program, they, serving):
    """What is left of network B: they find us, and we find whom they know."""
    need_dht()
    net, listen = NETWORKS[program], they.listen
    held = File(work / "held", 1000, program)
    daemon = Daemon(work / "daemon", bootstrap=[listen[0]], address=f"{net}.31", port=9979)
    daemon.seed(held.path)
    daemon.start()
    me, info_hash = (f"{net}.31", 9979), bytes.fromhex(held.sha256)[:20]

    def announced():
        eventually("they find us", lambda: me in they.get_peers(info_hash, 1), 60)

    def find_peers():
        little, _ = serving.add(1000, "little")
        return serving.get(little, work / "get little", [listen[1]], f"{net}.32")

    def reference():
        fetch(held, work / "reference", ["--bootstrap", listen[1], "--source", f"{net}.98"])

    matrix.cell(WE_ASK, program, "announce", announced)
    matrix.cell(WE_ASK, program, "find peers", find_peers)
    matrix.cell(REFERENCE, f"through {program}", "daemon", reference)
    daemon.stop()
    they.stop()
    serving.server.stop()


class Serving:
    """Objects at `hash/H` behind a plain server, announced by a foreign node."""

    def __init__(self, they, server, program):
        self.they, self.server, self.program = they, server, program
        self.folder = Path(server.folder) / "hash"
        self.folder.mkdir(parents=True)

    def add(self, length, name):
        file = File(self.folder / name, length, f"{self.program} {name}")
        file.path = file.path.rename(self.folder / file.sha256)
        items = ListItems(file.content, file.sha256)
        self.they.announce(items.info_hash, self.server.port)
        nodes = [self.they.node(index) for index in range(3)]
        eventually("it is announced", lambda: any(krpc.get_peers(node, items.info_hash) for node in nodes))
        return file, items

    def asked_for_pieces(self, file):
        """How many pieces behind the first were asked for by themselves."""
        starts = range(PIECE, file.length, PIECE)
        exact = {f"bytes={first}-{min(first + PIECE, file.length) - 1}" for first in starts}
        return len(exact & {wanted for path, wanted in self.server.asked if file.sha256 in path})

    def get(self, file, folder, bootstrap, address, pieces=False, publishers=()):
        self.server.asked.clear()
        Ours(folder, bootstrap=bootstrap, address=address, publishers=publishers).get(file.sha256, folder / "out")
        if digest(folder / "out") != file.sha256:
            raise Gone("other bytes")
        if not pieces:
            return ""
        if not self.asked_for_pieces(file):
            raise Gone(f"the list was not found: asked for {self.server.asked}")
        return f"{self.asked_for_pieces(file)} pieces"


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
