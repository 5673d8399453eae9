"""What the groups need that Debian does not have, in pinned versions, below target/interop; made once."""

import os
import shutil
import subprocess
from pathlib import Path

from .matrix import Skip
from .process import must

TOP = Path(__file__).resolve().parents[2]
FOREIGN = TOP / "interop/foreign"
MADE = TOP / "target/interop"

# Debian's packages, as scripts/install-missing wants them.
DEBIAN = ["wget=wget", "aria2c=aria2", "curl=curl", "gpg=gpg", "gpgconf=gpgconf", "gpg-agent=gpg-agent", "dpkg-deb=dpkg"]
DEBIAN += ["ip=iproute2", "unshare=util-linux"]

# These start servers on the machine, or bring half a thousand packages: only where nobody lives.
DEBIAN_IN_CI = ["nginx=nginx-light", "transmission-daemon=transmission-daemon", "transmission-remote=transmission-cli"]
DEBIAN_IN_CI += ["node=nodejs", "npm=npm"]


def everything():
    """Installs what can be installed. What cannot shows as cells left out, and those that need nothing still run."""
    pairs = DEBIAN + (DEBIAN_IN_CI if os.environ.get("CI") else [])
    if subprocess.run(["/usr/bin/python3", "-c", "import ensurepip, venv"], capture_output=True).returncode:
        pairs.append("/usr/bin/python3-with-venv=python3-venv")
    subprocess.run([TOP / "scripts/install-missing", *pairs])
    MADE.mkdir(parents=True, exist_ok=True)
    for make in (make_libtorrent, make_npm, make_anacrolix):
        try:
            make()
        except Exception as error:
            print(f"not made: {make.__name__[5:]}: {error}", flush=True)


def make_libtorrent():
    if up_to_date("venv", FOREIGN / "requirements.txt"):
        return
    shutil.rmtree(MADE / "venv", ignore_errors=True)
    must(["/usr/bin/python3", "-m", "venv", MADE / "venv"])
    must([MADE / "venv/bin/pip", "install", "--quiet", "-r", FOREIGN / "requirements.txt"], seconds=300)
    done("venv", FOREIGN / "requirements.txt")


def make_npm():
    names = ("package.json", "package-lock.json", "nodes.js")
    sources = [FOREIGN / "npm" / name for name in names]
    if up_to_date("npm", *sources):
        return
    (MADE / "npm").mkdir(exist_ok=True)
    for source in sources:
        shutil.copy(source, MADE / "npm")
    must(["npm", "ci", "--silent", "--no-audit", "--no-fund"], folder=MADE / "npm", seconds=300)
    done("npm", *sources)


def make_anacrolix():
    sources = [FOREIGN / "anacrolix" / name for name in ("go.sum", "main.go")]
    if not shutil.which("go") or up_to_date("anacrolix", *sources):
        return
    (MADE / "anacrolix").mkdir(exist_ok=True)
    must(["go", "build", "-o", MADE / "anacrolix/nodes", "."], folder=FOREIGN / "anacrolix", seconds=600)
    done("anacrolix", *sources)


def up_to_date(name, *sources):
    stamp = MADE / name / "made-from"
    return stamp.exists() and stamp.read_bytes() == b"".join(source.read_bytes() for source in sources)


def done(name, *sources):
    (MADE / name / "made-from").write_bytes(b"".join(source.read_bytes() for source in sources))


def libtorrent():
    return there("libtorrent", MADE / "venv/bin/python", "venv")


def npm():
    if not shutil.which("node"):
        raise Skip("node is not installed")
    return there("bittorrent-dht", MADE / "npm/nodes.js", "npm")


def anacrolix():
    return there("anacrolix/dht", MADE / "anacrolix/nodes", "anacrolix")


def mainline():
    """An example of this package: whoever built the tests has it."""
    program = Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target")) / "debug/examples/mainline_nodes"
    if not program.exists():
        raise Skip("cargo build --locked --example mainline_nodes was not done")
    return program


def there(what, path, folder):
    if not (MADE / folder / "made-from").exists():
        raise Skip(f"{what} could not be made on this machine")
    return path
