#!/usr/bin/env python3
"""What `aptpeer bootstrap` takes in memory when strangers fill it, and whether it answers in a flood.

    benches/bootstrap.py [--hashes 20000] [--flood 10]

Runs target/release/aptpeer (or APTPEER) in a network of its own (`unshare`, as root or with user namespaces), where
the addresses of whole continents are ours: the node has its usual limits, and strangers have addresses all over the
world. About ten minutes. Memory is RssAnon of /proc/PID/status; processor time is utime + stime.
"""

import argparse
import hashlib
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

IP_PKTINFO = 8
IPV6_FREEBIND = 78
SO_RCVBUFFORCE = 33
PORT = 6881
NODE = {4: ("60.0.0.1", 9979), 6: ("2a7f::1", 9979)}
STATUS = "http://127.0.0.1:9978/stats"
# Hosts that announce, each in a network of another provider.
HOSTS = 8192
# What a node takes a second is 5,000 for each family; some are for the answers to its own pings.
RATE = 4500


class Strangers:
    """Many hosts of one family behind one socket: each datagram is sent from whatever address is wanted."""

    def __init__(self, family, port=PORT):
        self.family = family
        v4 = family == 4
        self.socket = socket.socket(socket.AF_INET if v4 else socket.AF_INET6, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        if v4:
            self.socket.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        else:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self.socket.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self.socket.bind(("0.0.0.0" if v4 else "::", port))
        self.socket.setblocking(False)
        self.to = NODE[family]
        self.tokens = {}
        self.refused = 0

    def address(self, host):
        if self.family == 4:
            return bytes([20 + host % 40, host // 40 % 256, host // 10240 % 256, 1])
        return b"\x2a" + bytes([host >> 16 & 0x3f]) + struct.pack(">H", host & 0xffff) + bytes(11) + b"\x01"

    def send(self, address, datagram):
        if self.family == 4:
            info = (socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=I4s4s", 0, address, bytes(4)))
        else:
            info = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, address + bytes(4))
        try:
            self.socket.sendmsg([datagram], [info], 0, self.to)
        except (BlockingIOError, OSError):
            pass

    def receive(self):
        """Answers what the node asks, and notes the tokens that it gives."""
        while True:
            try:
                datagram, ancillary, _, _ = self.socket.recvmsg(2048, 128)
            except BlockingIOError:
                return
            at = datagram.rfind(b"1:t4:")
            if at < 0:
                continue
            transaction = datagram[at + 5:at + 9]
            if b"1:y1:q" in datagram[at:]:
                data = ancillary[0][2]
                own = data[8:12] if self.family == 4 else data[:16]
                self.send(own, b"d1:rd2:id20:%be1:t4:%b1:y1:re" % (named(own), transaction))
            elif b"1:y1:e" in datagram[at:]:
                self.refused += 1
            else:
                token = datagram.find(b"5:token8:")
                if token >= 0:
                    self.tokens[int.from_bytes(transaction, "big")] = datagram[token + 9:token + 17]


def named(address):
    return hashlib.sha1(address).digest()


def point(number):
    return hashlib.sha1(b"point %d" % number).digest()


def paced(strangers, datagrams):
    """Sends (address, datagram) at a rate that the node takes."""
    began, sent = time.monotonic(), 0
    for address, datagram in datagrams:
        strangers.send(address, datagram)
        sent += 1
        if sent % 50 == 0:
            strangers.receive()
            wait = began + sent / RATE - time.monotonic()
            if wait > 0:
                time.sleep(wait)
    time.sleep(0.5)
    strangers.receive()


def get_tokens(strangers):
    for _ in range(5):
        missing = [host for host in range(HOSTS) if host not in strangers.tokens]
        paced(strangers, ((strangers.address(host), get_peers(strangers.address(host), point(host), host))
                          for host in missing))
    assert len(strangers.tokens) > HOSTS * 0.99, len(strangers.tokens)


def get_peers(own, info_hash, transaction):
    return b"d1:ad2:id20:%b9:info_hash20:%be1:q9:get_peers1:t4:%b1:y1:qe" % (
        named(own), info_hash, struct.pack(">I", transaction))


def announces(strangers, hashes):
    # Tokens live for five minutes and more: they are asked for again in time.
    fresh = time.monotonic()
    for peer in range(64):
        for number in range(hashes):
            if time.monotonic() - fresh > 240:
                strangers.tokens.clear()
                get_tokens(strangers)
                fresh = time.monotonic()
            host = (number * 64 + peer) % HOSTS
            if host in strangers.tokens:
                own = strangers.address(host)
                yield own, (b"d1:ad2:id20:%b9:info_hash20:%b4:porti6881e5:token8:%be"
                            b"1:q13:announce_peer1:t4:aaaa1:y1:qe"
                            % (named(own), point(number), strangers.tokens[host]))


def puts(strangers, count, length):
    for number in range(count):
        host = number % HOSTS
        if host in strangers.tokens:
            own = strangers.address(host)
            value = b"%d:" % length + (b"%08d" % number).ljust(length, b"x")
            yield own, (b"d1:ad2:id20:%b5:token8:%b1:v%be1:q3:put1:t4:aaaa1:y1:qe"
                        % (named(own), strangers.tokens[host], value))


class Node:
    """The process that is measured."""

    def __init__(self, program, folder, families):
        addresses = ", ".join(f'"{host}:{port}"' if family == 4 else f'"[{host}]:{port}"'
                              for family, (host, port) in NODE.items() if family in families)
        (folder / "config.toml").write_text(
            f'[network]\nlisten = [{addresses}]\n[dht]\nbootstrap = []\n'
            f'[state]\npath = "{folder}/state"\n[status]\nlisten = "127.0.0.1:9978"\n')
        self.child = subprocess.Popen([program, "--config", folder / "config.toml", "bootstrap"],
                                      stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                self.stats()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the node does not start")

    def stats(self):
        with urllib.request.urlopen(STATUS, timeout=20) as answer:
            return json.load(answer)["dht"]

    def memory(self):
        lines = Path(f"/proc/{self.child.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return tuple(int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "VmRSS", "VmHWM"))

    def processor(self):
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def tell(self, what):
        assert self.child.poll() is None, "the node has ended"
        time.sleep(1.5)
        anonymous, resident, highest = self.memory()
        stats = self.stats()
        print(f"| {what} | {stats['stored_info_hashes']:,} / {stats['stored_peers']:,} | "
              f"{stats['stored_values']:,} / {stats['stored_value_bytes'] / 2**20:.1f} MiB | {stats['known_nodes']} | "
              f"{anonymous:.1f} | {resident:.1f} | {highest:.1f} |", flush=True)


class Honest(threading.Thread):
    """Well-behaved nodes: fifty questions a second, each from a host of a network of its own, each asked once."""

    def __init__(self):
        super().__init__(daemon=True)
        self.strangers = Strangers(4, 6882)
        self.going, self.asked, self.times = True, {}, []

    def run(self):
        began = time.monotonic()
        while self.going:
            number = len(self.asked)
            own = bytes([58, 1 + number // 250 % 250, number % 250, 11])
            self.asked[number] = time.monotonic()
            self.strangers.send(own, get_peers(own, point(number), number))
            self.listen(began + (number + 1) / 50)
        self.listen(time.monotonic() + 1)

    def listen(self, until):
        while (wait := until - time.monotonic()) > 0:
            if not select.select([self.strangers.socket], [], [], wait)[0]:
                return
            self.strangers.receive()
            for number in set(self.strangers.tokens):
                self.times.append(time.monotonic() - self.asked[number])
                del self.strangers.tokens[number]


def anywhere(chance):
    return bytes([20 + chance.randrange(40)]) + chance.randbytes(3)


def floods(strangers):
    """Names of floods, and what makes their datagrams: (address, datagram)."""
    chance = random.Random(1)
    good = get_peers(bytes(20), bytes(20), 1)
    announce = (b"d1:ad2:id20:%b9:info_hash20:%b4:porti6881e5:token8:aaaaaaaae1:q13:announce_peer1:t4:aaaa1:y1:qe"
                % (bytes(20), bytes(20)))
    token = b"d1:rd2:id20:%b5:token8:aaaaaaaae1:t4:aaaa1:y1:re" % bytes(20)
    originals = [good, announce, token]

    def mutated():
        datagram = bytearray(chance.choice(originals))
        for _ in range(chance.randrange(1, 4)):
            datagram[chance.randrange(len(datagram))] = chance.randrange(256)
        if chance.random() < 0.3:
            del datagram[chance.randrange(len(datagram)):]
        return bytes(datagram)

    big = bytes(65000)
    big_bencoded = b"d1:ad2:id" + b"64900:".ljust(64920, b"x") + b"e1:t2:aa1:y1:qe"
    deep = b"d1:ad" + b"l" * 1400
    return {
        "random bytes, 1 to 1,500 at a time, from everywhere":
            lambda: (anywhere(chance), chance.randbytes(chance.randrange(1, 1500))),
        "datagrams of 64 KiB in 44 fragments, from everywhere":
            lambda: (anywhere(chance), chance.choice((big, big_bencoded))),
        "1,400 lists in lists, from everywhere": lambda: (anywhere(chance), deep),
        "mutated messages, from one network": lambda: (bytes([50, 1, 1, chance.randrange(256)]), mutated()),
        "mutated messages, from everywhere": lambda: (anywhere(chance), mutated()),
        "get_peers for anything, from everywhere":
            lambda: (anywhere(chance), get_peers(chance.randbytes(20), chance.randbytes(20), 1)),
    }


def flood(node, strangers, name, make, seconds):
    honest = Honest()
    # What /stats says is up to a second old.
    time.sleep(1.2)
    before, processor = node.stats(), node.processor()
    ready = [make() for _ in range(2000)] if make else []
    began, sent = time.monotonic(), 0
    honest.start()
    while time.monotonic() - began < seconds:
        for address, datagram in ready:
            strangers.send(address, datagram)
        sent += len(ready)
        strangers.receive()
        if not ready:
            time.sleep(0.01)
    took, processor = time.monotonic() - began, node.processor() - processor
    honest.going = False
    honest.join()
    honest.strangers.socket.close()
    time.sleep(1.2)
    arrived = node.stats()["datagrams_received"] - before["datagrams_received"]
    honest.times.sort()
    median = f"{honest.times[len(honest.times) // 2] * 1000:.1f} ms" if honest.times else "never"
    print(f"| {name} | {sent / took:,.0f} | {arrived / took:,.0f} | {processor / took * 100:.0f} % | "
          f"{len(honest.times)} of {len(honest.asked)} | {median} | "
          f"{node.memory()[0]:.1f} |", flush=True)


def enter_own_network():
    if os.environ.get("IN_OWN_NETWORK"):
        return
    os.environ["IN_OWN_NETWORK"] = "1"
    own = ["unshare", "--net"] + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])
    os.execvp(own[0], [*own, "--", sys.executable, *sys.argv])


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--hashes", type=int, default=20_000, help="info-hashes to fill; each gets 64 peers")
    words.add_argument("--flood", type=float, default=10, help="seconds of each flood")
    words.add_argument("--families", type=int, nargs="+", choices=(4, 6), default=(4, 6))
    chosen = words.parse_args()
    enter_own_network()
    for command in (
        "ip link set lo up mtu 1500",
        "ip route add local 16.0.0.0/4 dev lo", "ip route add local 32.0.0.0/3 dev lo",
        "ip -6 route add local 2a00::/9 dev lo", "ip -6 addr add 2a7f::1/128 dev lo",
    ):
        subprocess.run(command.split(), check=True)
    root = Path(__file__).resolve().parent.parent
    program = os.environ.get("APTPEER", root / "target/release/aptpeer")
    with tempfile.TemporaryDirectory(prefix="aptpeer-bench.") as folder:
        node = Node(program, Path(folder), chosen.families)
        try:
            measure(node, chosen)
        finally:
            node.child.terminate()
            node.child.wait(30)


def measure(node, chosen):
    print("| | info-hashes / peers | values | nodes known | RssAnon, MiB | VmRSS | highest |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    node.tell("started")
    everybody = [Strangers(family) for family in chosen.families]
    for strangers in everybody:
        get_tokens(strangers)
    node.tell(f"asked by {HOSTS:,} nodes of each family")
    for strangers in everybody:
        paced(strangers, puts(strangers, 25_000, 16))
    node.tell("values of 16 bytes")
    for strangers in everybody:
        paced(strangers, puts(strangers, 25_000, 990))
    node.tell("values of 990 bytes in their place")
    threads = [threading.Thread(target=lambda s=s: paced(s, announces(s, chosen.hashes))) for s in everybody]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    node.tell("64 peers for each info-hash")
    print("\n| flood | sent/s | arrived/s | processor | others answered | after | RssAnon, MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    if chosen.flood:
        for name, make in floods(everybody[0]).items():
            flood(node, everybody[0], name, make, chosen.flood)
        flood(node, everybody[0], "none, afterwards", None, chosen.flood)
    print("\n| | info-hashes / peers | values | nodes known | RssAnon, MiB | VmRSS | highest |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    node.tell("afterwards")


if __name__ == "__main__":
    main()
