"""libtorrent nodes, one session per address, that do what lines of JSON on standard input say.

    libtorrent_nodes.py BOOTSTRAP LISTEN...     each ADDRESS:PORT; BOOTSTRAP may have several, separated by commas

A line in: {"id": 1, "node": 0, "do": "nodes" | "announce" | "get_peers" | "put" | "get", ...}; a line out with the same id.
Values are bencoded, bytes are in hexadecimal digits.
"""

import json
import sys
import threading
import warnings
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import libtorrent as lt  # noqa: E402

from harness import ed25519  # noqa: E402

warnings.simplefilter("ignore")  # `status()` is old, and the one way to ask without an alert


class Node:
    def __init__(self, bootstrap, listen):
        self.session = lt.session(
            {
                "listen_interfaces": listen,
                # Router nodes never enter its table, and of the others it hears too late: they are told to it below.
                "dht_bootstrap_nodes": "",
                "enable_dht": True,
                "enable_lsd": False,
                "enable_upnp": False,
                "enable_natpmp": False,
                "allow_multiple_connections_per_ip": True,
                # All of us are on loopback.
                "dht_restrict_routing_ips": False,
                "dht_restrict_search_ips": False,
                "dht_ignore_dark_internet": False,
                "dht_prefer_verified_node_ids": False,
                # Five datagrams a second and a ban of five minutes is for the open net.
                "dht_block_ratelimit": 100000,
                "dht_upload_rate_limit": 10000000,
                "alert_mask": lt.alert.category_t.all_categories,
            }
        )
        self.known = [name.split(":") for name in bootstrap.split(",") if name]
        self.waiting = []  # (kind, key, request id)
        self.peers = {}
        self.torrents = {}
        self.lock = threading.Lock()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            self.session.wait_for_alert(200)
            for alert in self.session.pop_alerts():
                self.handle(alert)

    def handle(self, alert):
        if isinstance(alert, lt.dht_get_peers_reply_alert):
            found = [list(peer) for peer in alert.peers()]
            self.done("get_peers", alert.info_hash.to_bytes().hex(), {"peers": found})
        elif isinstance(alert, lt.dht_immutable_item_alert):
            self.done("get", alert.target.to_bytes().hex(), {"value": encoded(alert.item)})
        elif isinstance(alert, lt.dht_mutable_item_alert):
            # The answers of single nodes come first, each with what it has; the last one is authoritative.
            value = encoded(alert.item)
            if value or alert.authoritative:
                self.done("get", (alert.key + alert.salt).hex(), {"value": value})

    def done(self, kind, key, answer):
        with self.lock:
            mine = [entry for entry in self.waiting if entry[:2] == (kind, key)]
            # An empty set of peers is not the end of a look-up, and there is no other sign of one.
            if kind == "get_peers" and not answer["peers"]:
                return
            self.waiting = [entry for entry in self.waiting if entry not in mine]
        for _, _, number in mine:
            say({"id": number} | answer)

    def wait(self, kind, key, number):
        with self.lock:
            self.waiting.append((kind, key, number))

    def do(self, request):
        kind, number = request["do"], request["id"]
        if kind == "nodes":
            for address, port in self.known:
                self.session.add_dht_node((address, int(port)))
            say({"id": number, "nodes": self.session.status().dht_nodes})
        elif kind == "announce":
            self.announce(bytes.fromhex(request["info_hash"]), request["port"])
            say({"id": number})
        elif kind == "get_peers":
            self.wait(kind, request["info_hash"], number)
            self.session.dht_get_peers(lt.sha1_hash(bytes.fromhex(request["info_hash"])))
        elif kind == "put" and "seed" in request:
            seed, salt = bytes.fromhex(request["seed"]), bytes.fromhex(request.get("salt", ""))
            key = ed25519.public(seed)
            value = lt.bdecode(bytes.fromhex(request["value"]))
            self.session.dht_put_mutable_item(ed25519.expand(seed), key, value, salt)
            say({"id": number})  # it is stored some 15 s later
        elif kind == "put":
            value = lt.bdecode(bytes.fromhex(request["value"]))
            self.session.dht_put_immutable_item(value)
            say({"id": number})
        elif kind == "get" and "key" in request:
            self.wait(kind, request["key"] + request.get("salt", ""), number)
            key, salt = bytes.fromhex(request["key"]), bytes.fromhex(request.get("salt", ""))
            self.session.dht_get_mutable_item(key, salt)
        elif kind == "get":
            self.wait(kind, request["target"], number)
            self.session.dht_get_immutable_item(lt.sha1_hash(bytes.fromhex(request["target"])))

    def announce(self, info_hash, port):
        self.session.dht_announce(lt.sha1_hash(info_hash), port, 0)


def encoded(item):
    return lt.bencode(item).hex() if item is not None else None


output = threading.Lock()


def say(answer):
    with output:
        print(json.dumps(answer), flush=True)


def main():
    bootstrap, *listen = sys.argv[1:]
    nodes = []
    for address in listen:
        # The first ones are what the others begin with.
        known = ",".join([bootstrap, *(other for other in listen[:3] if other != address)])
        nodes.append(Node(known, address))
    say({"version": f"libtorrent {lt.version}"})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            nodes[request["node"]].do(request)
        except Exception as error:
            say({"id": request["id"], "error": f"{type(error).__name__}: {error}"})


main()
