"""aptpeer itself: daemons, the DHT-only node, single downloads."""

import json
import os
import urllib.request
from pathlib import Path

from .process import Gone, Process, must, run


def find_binary():
    """`$APTPEER`, or the newest build of this repository."""
    named = os.environ.get("APTPEER")
    if named:
        return Path(named).resolve()
    top = Path(__file__).resolve().parents[2]
    target = Path(os.environ.get("CARGO_TARGET_DIR", top / "target"))
    built = [target / kind / "aptpeer" for kind in ("debug", "release")]
    built = [path for path in built if path.exists()]
    if not built:
        raise Gone("no aptpeer is built: cargo build --locked, or name one with APTPEER=FILE")
    return max(built, key=lambda path: path.stat().st_mtime)


BINARY = find_binary()


def has_dht():
    """Whether this build takes part in the DHT at all."""
    return run([BINARY, "bootstrap", "--help"]).returncode == 0


class Ours:
    """The folders and the configuration of one aptpeer."""

    def __init__(self, folder, peers=(), bootstrap=(), address="127.0.0.1", port=0, publishers=(), public=False):
        self.folder = Path(folder)
        self.address = address
        for name in ("cache", "state"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.config = self.folder / "config.toml"
        dht = "enabled = false"
        if bootstrap:
            dht = f"enabled = true\nbootstrap = {json.dumps(list(bootstrap))}\npublishers = {json.dumps(list(publishers))}"
        private = "false" if public else "true"
        self.config.write_text(
            f"""[proxy]
listen = "127.0.0.1:0"
[mirrors]
allow_private = {private}
lists_dir = ""
proxy = "none"
[network]
listen = ["{address}:{port}"]
peers = {json.dumps(list(peers))}
allow_private_peers = {private}
port_mapping = false
[cache]
path = "{self.folder}/cache"
min_free_space = "0"
[state]
path = "{self.folder}/state"
[transfer]
prefer = "offload"
[dht]
{dht}
[lan]
enabled = false
[status]
listen = "127.0.0.1:0"
[log]
level = "debug"
format = "json"
"""
        )

    def command(self, *words, **options):
        return must([BINARY, *words, "--config", self.config], **options)

    def seed(self, *paths):
        self.command("seed", "import", *paths)

    def get(self, sha256, output, *words, seconds=90):
        """`aptpeer get` with this configuration; gives what it said."""
        done = run([BINARY, "get", sha256, "-o", output, "--config", self.config, *words], seconds=seconds)
        if done.returncode != 0:
            raise Gone(f"aptpeer get: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr


class Daemon(Ours):
    """A running daemon."""

    def __init__(self, folder, **settings):
        super().__init__(folder, **settings)
        self.process = None

    def start(self):
        self.process = Process([BINARY, "daemon", "--config", self.config], self.folder / "log")
        file = self.folder / "state" / "daemon.json"

        def listening():
            try:
                found = json.loads(file.read_text())
            except (OSError, ValueError):
                return None
            return found if found.get("pid") == self.process.child.pid else None

        found = self.process.wait_until("the daemon listens", listening)
        self.proxy, self.status, self.peer = found["proxy"], found["status"], found["peers"][0]
        self.peer_port = int(self.peer.rsplit(":", 1)[1])
        return self

    def stats(self):
        with urllib.request.urlopen(f"http://{self.status}/stats", timeout=10) as answer:
            return json.load(answer)

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.status}/metrics", timeout=10) as answer:
            return answer.read().decode()

    def stop(self, *how):
        self.process.stop(*how)
