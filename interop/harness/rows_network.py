"""A DHT of some thirty foreign nodes, and aptpeer daemons that know one of them each and nothing of each other.

In a network of our own every node can have an address of the public internet, in a /16 of its own, as in the real one: nothing
is allowed here that would not be allowed there.
"""

import itertools
import subprocess

from . import network
from .foreign import Foreign
from .matrix import Skip
from .ours import Daemon
from .process import Gone, wait_for
from .repository import Apt, Repository
from .rows_dht import need_dht
from .statics import Recorded

TABLE = "apt over a DHT of foreign nodes"

LIBTORRENT = [f"45.{10 + at}.7.9" for at in range(16)]
NPM = [f"46.{10 + at}.7.9" for at in range(16)]
DAEMONS = [f"47.{10 + at}.7.9" for at in range(3)]
MIRROR = "48.10.7.9"

# What an announcement may take to be found, and what apt may take.
PATIENCE = 120


def group(matrix, work):
    need_dht()
    if not network.own():
        raise Skip("needs a network of its own, with public addresses")
    for address in [*LIBTORRENT, *NPM, *DAEMONS, MIRROR]:
        subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
    first = Foreign("libtorrent", work / "libtorrent.log", [f"{address}:6881" for address in LIBTORRENT])
    second = Foreign("bittorrent-dht", work / "npm.log", [f"{address}:6881" for address in NPM], first.listen[:2])
    first.wait_for_nodes(8)
    second.wait_for_nodes(8)

    repository = Repository(work / "repository")
    mirror = Recorded(repository.root, MIRROR, 80)
    debs = dict.fromkeys(repository.debs.values())
    size = sum(repository.sizes().values())
    bootstrap = [first.listen[0], second.listen[0], second.listen[9]]
    daemons = [
        Daemon(work / f"daemon{at}", bootstrap=[bootstrap[at]], address=DAEMONS[at], port=9979, public=True)
        for at in range(3)
    ]

    def given():
        """Bytes of packages that the mirror has given so far."""
        return sum(count for path, count in mirror.given_of.items() if path.endswith(".deb"))

    def apt_through(at):
        """apt through this daemon, from nothing; gives what the mirror had to give of packages."""
        client = Apt(work / f"apt{at}", repository, MIRROR, daemons[at].proxy)
        client.update()
        before = given()
        client.install()
        return given() - before

    def announced(at, seen_by):
        """Waits until each package was seen under this daemon's address. One look-up says little: a foreign program may give
        the first answer it gets, of a node that knows another holder only; so each round asks what is missing at the next node."""
        missing = [bytes.fromhex(sha256)[:20] for sha256 in debs]
        asked = itertools.count()

        def found():
            index = next(asked) % len(seen_by.listen)
            missing[:] = [
                info_hash for info_hash in missing if (DAEMONS[at], 9979) not in seen_by.get_peers(info_hash, index, 2)
            ]
            return not missing

        try:
            wait_for(f"all packages of daemon {at} are announced", found, PATIENCE)
        except Gone as gone:
            raise Gone(f"{gone}; {len(missing)} of {len(debs)} are missing; it says {daemons[at].stats()}") from None

    def from_mirror():
        daemons[0].start()
        came = apt_through(0)
        if came < size:
            raise Gone(f"the mirror gave only {came} of {size} bytes: {mirror.given_of}")
        announced(0, second)
        return f"{came} bytes from the mirror"

    def from_peer(at):
        daemons[at].start()
        wait_for("it is in the DHT", lambda: dht_nodes(daemons[at]) > 0)
        came = apt_through(at)
        stats = daemons[at].stats()
        if came:
            raise Gone(f"the mirror gave {came} bytes of packages; {stats}")
        return f"{stats['bytes_from_p2p']} bytes from peers, 0 from the mirror"

    def second_daemon():
        said = from_peer(1)
        announced(1, first)
        return said

    def third_daemon():
        daemons[0].stop()
        return from_peer(2)

    row = f"{len(LIBTORRENT)} libtorrent, {len(NPM)} bittorrent-dht"
    try:
        if matrix.cell(TABLE, row, "first: from the mirror", from_mirror):
            if matrix.cell(TABLE, row, "second: from the first", second_daemon):
                matrix.cell(TABLE, row, "third: from the second", third_daemon)
    finally:
        mirror.stop()
        for process in [*(daemon for daemon in daemons if daemon.process), first, second]:
            process.stop()


def dht_nodes(daemon):
    """How many good nodes the daemon knows, as its own figures say."""
    return daemon.stats()["dht_nodes"]
