"""Transmission, whose DHT is the one by Juliusz Chroboczek that many programs have: no BEP 44, no 127.0.0.0/8, no remote control.

It announces and looks up the info-hashes of its torrents, once it knows enough nodes. Here: our DHT-only node, a dozen libtorrent
nodes, and Transmission, all on private addresses of a network of our own.
"""

import json
import os
import select
import shutil
import socket
import time

from . import krpc, network
from .foreign import Foreign
from .matrix import Skip
from .ours import Daemon, Ours
from .process import Gone, Process, run
from .rows_dht import WE_ANSWER, WE_ASK, Node, eventually, need_dht
from .samples import File, digest
from .statics import Recorded

NET = network.PRIVATE
ROW = "Transmission"

# Its searches begin minutes after its start, when it believes that it knows its neighbourhood.
PATIENCE = 170


def group(matrix, work):
    need_dht()
    if not network.own():
        raise Skip("needs a network of its own: its nodes refuse loopback addresses")
    if not shutil.which("transmission-daemon"):
        raise Skip("transmission-daemon is not installed")
    us = Node(work / "us", f"{NET}.1")
    others = Foreign(
        "libtorrent", work / "others.log", [f"{NET}.{last}:6881" for last in range(11, 23)], [f"{NET}.1:6881"]
    )
    others.wait_for_nodes()
    them = Transmission(work / "transmission", f"{NET}.31", [us.at, *(others.node(i) for i in range(12))])

    matrix.together(
        [
            ("Transmission announces", lambda: matrix.cell(WE_ANSWER, ROW, "announce", lambda: announced(us, them))),
            ("Transmission looks up", lambda: matrix.cell(WE_ANSWER, ROW, "get_peers", lambda: found(us, them))),
            ("Transmission answers", lambda: they_answer(matrix, work, us, others, them)),
        ]
    )


class Transmission:
    def __init__(self, folder, address, nodes):
        folder.mkdir()
        self.at = (address, 51413)
        self.rpc = "127.0.0.1:9091"
        (folder / "dht.bootstrap").write_text("".join(f"{host} {port}\n" for host, port in nodes))
        settings = {
            "bind-address-ipv4": address,
            "bind-address-ipv6": "::1",
            "peer-port": 51413,
            "dht-enabled": True,
            "lpd-enabled": False,
            "pex-enabled": False,
            "utp-enabled": False,
            "port-forwarding-enabled": False,
            "encryption": 0,
            "rpc-bind-address": "127.0.0.1",
            "rpc-port": 9091,
            "rpc-authentication-required": False,
            "rpc-whitelist-enabled": False,
            "download-dir": str(folder),
            "message-level": 3,
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        self.process = Process(["transmission-daemon", "--foreground", "--config-dir", folder], folder / "log")
        self.process.wait_until("Transmission's remote control answers", lambda: self.remote("-si").returncode == 0)

    def remote(self, *words):
        return run(["transmission-remote", self.rpc, *words])

    def add(self, info_hash):
        added = self.remote("--add", f"magnet:?xt=urn:btih:{info_hash.hex()}")
        if added.returncode:
            raise Gone(f"transmission-remote: {added.stdout}{added.stderr}")


def beside(node_id):
    """An info-hash to which no other node is closer."""
    return node_id[:16] + os.urandom(4)


def announced(us, them):
    info_hash = beside(krpc.ping(us.at))
    them.add(info_hash)
    eventually("our node has its announce", lambda: them.at in krpc.get_peers(us.at, info_hash), PATIENCE)


def found(us, them):
    """Only our node knows of the peer, and Transmission calls there."""
    info_hash = beside(krpc.ping(us.at))
    with socket.create_server((f"{NET}.99", 0)) as listener:
        port = listener.getsockname()[1]
        end = time.monotonic() + PATIENCE
        krpc.announce(us.at, info_hash, port, f"{NET}.99")
        them.add(info_hash)
        while time.monotonic() < end:
            if select.select([listener], [], [], 1)[0]:
                caller, address = listener.accept()
                with caller:
                    caller.settimeout(10)
                    said = caller.recv(68)
                if info_hash in said:
                    return f"{address[0]} called"
    raise Gone(f"Transmission never called: not within {PATIENCE} s")


def they_answer(matrix, work, us, others, them):
    ids = eventually(
        "all nodes answer", lambda: {node: krpc.ping(node) for node in [us.at, them.at, *map(others.node, range(12))]}
    )

    def file_beside(name):
        """A file to whose info-hash Transmission's node is among the four closest."""
        for seed in range(1000):
            file = File(work / name, 1000, f"{name} {seed}")
            wanted = int(file.sha256[:40], 16)
            near = sorted(ids, key=lambda node: int.from_bytes(ids[node], "big") ^ wanted)
            if them.at in near[:4]:
                return file
        raise Gone("no such file among a thousand")

    def find_peers():
        file = file_beside("served")
        (work / "www/hash").mkdir(parents=True)
        shutil.copy(file.path, work / "www/hash" / file.sha256)
        server = Recorded(work / "www", f"{NET}.98")
        krpc.announce(them.at, bytes.fromhex(file.sha256)[:20], server.port, f"{NET}.98")
        node = "{}:{}".format(*them.at)
        Ours(work / "get", bootstrap=[node], address=f"{NET}.33").get(file.sha256, work / "got")
        server.stop()
        if digest(work / "got") != file.sha256:
            raise Gone("other bytes")

    def announce():
        file = file_beside("held")
        node = "{}:{}".format(*them.at)
        daemon = Daemon(work / "daemon", bootstrap=[node], address=f"{NET}.32", port=9979)
        daemon.seed(file.path)
        daemon.start()
        info_hash = bytes.fromhex(file.sha256)[:20]
        me = (f"{NET}.32", 9979)
        eventually("its node has our announce", lambda: me in krpc.get_peers(them.at, info_hash), 60)
        daemon.stop()

    matrix.cell(WE_ASK, ROW, "find peers", find_peers)
    matrix.cell(WE_ASK, ROW, "announce", announce)
