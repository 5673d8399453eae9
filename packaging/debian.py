"""What packaging/test and packaging/walkthrough both need: commands, this release's archive, minimal systems, a newer package."""

import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent


class Failure(SystemExit):
    """Something did not go as the documents say; ends the script unless it is caught."""


def run(words, seconds=600, **options):
    """Runs a command on this machine, and returns what it says."""
    words = [str(word) for word in words]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, env=environment, text=True, errors="replace", **options
    )
    if done.returncode != 0:
        raise Failure(f"{shlex.join(words)}: exit status {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def wait_for(what, condition, seconds, why=lambda: ""):
    """The first answer of `condition` that is not nothing; fails after so many seconds, and says `why`."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {seconds} s\n{why()}")
        time.sleep(0.05)
    return answer


def main_archive():
    """The URL and the suite of this release's main archive, as this machine's apt is configured, and the distribution."""
    release = dict(line.strip().split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    codename = release["VERSION_CODENAME"].strip('"')
    uris = run(["apt-get", "update", "--print-uris"])
    for url, suite in re.findall(r"^'(https?://[^']+)/dists/([^']+)/InRelease'", uris, re.MULTILINE):
        if suite in (codename, "stable", "testing", "sid", "unstable"):
            return url, suite, release["ID"].strip('"')
    raise Failure("apt has no http or https source for the main archive of this release")


def system(folder, *options):
    """A system of this release below `folder`, made by debootstrap with `options` unless it is there already; and its suite."""
    url, suite, distribution = main_archive()
    base = folder / f"base-{suite}"
    if not (base / "etc/debian_version").exists():
        shutil.rmtree(base, ignore_errors=True)
        keyring = f"/usr/share/keyrings/{distribution}-archive-keyring.gpg"
        unfinished = base.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        run(["debootstrap", *options, f"--keyring={keyring}", suite, unfinished, url], seconds=1800)
        unfinished.rename(base)
    return base, suite


def newer(deb, file):
    """Makes `file`, the same package with a higher version."""
    unpacked = file.with_suffix(".unpacked")
    shutil.rmtree(unpacked, ignore_errors=True)
    run(["dpkg-deb", "--raw-extract", deb, unpacked])
    control = unpacked / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^(Version: .*)$", r"\1+1", control.read_text()))
    run(["dpkg-deb", "--build", "-Znone", unpacked, file])
    shutil.rmtree(unpacked)


def built():
    """The package of the debug build."""
    said = subprocess.run([TOP / "scripts/deb", "--debug"], check=True, stdout=subprocess.PIPE, text=True, env=os.environ)
    return Path(said.stdout.strip())
