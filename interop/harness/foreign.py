"""Foreign DHT nodes: processes that host some, and are told in lines of JSON what to do."""

import itertools
import json
import subprocess
import threading
from pathlib import Path

from . import bencode, install
from .process import Gone, Process, wait_for

PROGRAMS = Path(__file__).resolve().parents[1] / "foreign"


class Foreign:
    """The nodes of one program, at these addresses (`ADDRESS:PORT`), which begin with those of `bootstrap`."""

    def __init__(self, program, log, listen, bootstrap=()):
        self.program, self.listen = program, list(listen)
        words = [*PROGRAM[program](), ",".join(bootstrap), *self.listen]
        self.process = Process(words, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.numbers = itertools.count(1)
        self.answers = {}
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self.version = self._answer(None, 60)["version"]

    def node(self, index=0):
        address, port = self.listen[index].split(":")
        return address, int(port)

    def _read(self):
        for line in self.process.child.stdout:
            answer = json.loads(line)
            with self.changed:
                self.answers[answer.get("id")] = answer
                self.changed.notify_all()
        with self.changed:
            self.answers["end"] = True
            self.changed.notify_all()

    def _answer(self, number, seconds):
        with self.changed:
            self.changed.wait_for(lambda: number in self.answers or "end" in self.answers, seconds)
            if number not in self.answers:
                raise Gone(f"{self.program} gave no answer within {seconds} s\n{self.process.said()[-1000:]}")
            answer = self.answers.pop(number)
        if "error" in answer:
            raise Gone(f"{self.program}: {answer['error']}")
        return answer

    def ask(self, do, index=0, seconds=20, **arguments):
        number = next(self.numbers)
        request = {"id": number, "node": index, "do": do} | arguments
        self.process.child.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.child.stdin.flush()
        return self._answer(number, seconds)

    def nodes(self, index=0):
        return self.ask("nodes", index)["nodes"]

    def wait_for_nodes(self, least=1, seconds=30):
        for index in range(len(self.listen)):
            wait_for(f"{self.program} {index} knows {least} nodes", lambda: self.nodes(index) >= least, seconds)

    def announce(self, info_hash, port, index=0):
        self.ask("announce", index, info_hash=info_hash.hex(), port=port)

    def get_peers(self, info_hash, index=0, seconds=5):
        """What one look-up found; nothing if it did not come back with anything in time."""
        try:
            found = self.ask("get_peers", index, seconds, info_hash=info_hash.hex())["peers"]
        except Gone:
            if self.process.ended():
                raise
            return set()
        return {(address, port) for address, port in found}

    def put(self, value, index=0, **signed):
        """Stores a value; with `seed` (and `salt`) as a mutable item."""
        signed = {name: part.hex() for name, part in signed.items()}
        self.ask("put", index, 40, value=bencode.encode(value).hex(), **signed)

    def get(self, index=0, seconds=20, **names):
        """The value of `target`, or of `key` and `salt`, decoded; `None` where none was found."""
        names = {name: part.hex() for name, part in names.items()}
        value = self.ask("get", index, seconds, **names).get("value")
        return bencode.decode(bytes.fromhex(value)) if value else None

    def stop(self):
        self.process.stop()


def libtorrent():
    return [install.libtorrent(), PROGRAMS / "libtorrent_nodes.py"]


def npm():
    return ["node", install.npm()]


def anacrolix():
    return [install.anacrolix()]


def mainline():
    return [install.mainline()]


PROGRAM = {"libtorrent": libtorrent, "bittorrent-dht": npm, "anacrolix/dht": anacrolix, "mainline": mainline}
