"""A signed apt repository of a few packages, and an apt with a root of its own to read it with."""

import gzip
import hashlib
import random
import shutil
from pathlib import Path

from .process import Gone, must, run

# Names and payloads: small ones, one of a single full piece, one of three pieces.
PACKAGES = {"little": 3_000, "middling": 300_000, "one-piece": 3_900_000, "three-pieces": 9_000_000}


class Repository:
    def __init__(self, folder):
        self.root = Path(folder) / "root"
        self.flat = self.root / "flat"
        self.flat.mkdir(parents=True)
        self.keyring = Path(folder) / "keyring.gpg"
        self.gnupg = Path(folder) / "gnupg"
        self.debs = {}
        stanzas = [self._build(Path(folder) / "build", name, size) for name, size in PACKAGES.items()]
        self._publish("\n".join(stanzas) + "\n")

    def _build(self, folder, name, size):
        root = folder / name
        (root / "DEBIAN").mkdir(parents=True)
        (root / "usr/share").mkdir(parents=True)
        (root / "usr/share" / name).write_bytes(random.Random(name).randbytes(size))
        control = (
            f"Package: {name}\nVersion: 1.0-1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
            f"Description: made for a test\n It carries noise and does nothing.\n"
        )
        (root / "DEBIAN/control").write_text(control)
        deb = self.flat / f"{name}_1.0-1_all.deb"
        must(["dpkg-deb", "--root-owner-group", "-Znone", "--build", root, deb])
        content = deb.read_bytes()
        self.debs[name] = hashlib.sha256(content).hexdigest()
        # apt wants the description last.
        head, description = control.split("Description:")
        return f"{head}Filename: ./{deb.name}\nSize: {len(content)}\nSHA256: {self.debs[name]}\nDescription:{description}"

    def _publish(self, packages):
        files = {"Packages": packages.encode(), "Packages.gz": gzip.compress(packages.encode(), mtime=0)}
        sums = []
        for name, content in files.items():
            (self.flat / name).write_bytes(content)
            sums.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}")
        date = must(["date", "-u", "-R", "-d", "1 day ago"]).strip().replace("+0000", "UTC")
        release = f"Origin: Test\nLabel: Test\nSuite: test\nCodename: test\nDate: {date}\nSHA256:\n" + "\n".join(sums) + "\n"
        (self.flat / "Release").write_text(release)
        self.gnupg.mkdir(mode=0o700)
        gpg = ["gpg", "--homedir", self.gnupg, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        try:
            must([*gpg, "--quick-generate-key", "Test <test@example.org>", "ed25519", "sign", "never"])
            must([*gpg, "--clearsign", "-o", self.flat / "InRelease", self.flat / "Release"])
            must([*gpg, "--export", "-o", self.keyring])
        finally:
            run(["gpgconf", "--homedir", self.gnupg, "--kill", "all"])

    def sizes(self):
        return {path.name: path.stat().st_size for path in self.flat.glob("*.deb")}


class Apt:
    """apt-get in a private root, with a proxy for everything."""

    def __init__(self, folder, repository, mirror, proxy):
        self.root = Path(folder)
        shutil.rmtree(self.root, ignore_errors=True)
        for name in (
            "etc/apt/sources.list.d",
            "etc/apt/preferences.d",
            "etc/apt/trusted.gpg.d",
            "var/lib/apt/lists/partial",
            "var/lib/dpkg",
            "var/cache/apt/archives/partial",
            "var/log/apt",
        ):
            (self.root / name).mkdir(parents=True)
        (self.root / "var/lib/dpkg/status").touch()
        (self.root / "etc/apt/sources.list").write_text(
            f"deb [signed-by={repository.keyring}] http://{mirror}/flat ./\n"
        )
        # Read before everything else (apt.conf(5)), so that nothing of the machine's own apt is.
        (self.root / "apt.conf").write_text(
            f'Dir "{self.root}/"; Dir::State::status "{self.root}/var/lib/dpkg/status";\n'
            'Dir::Etc::parts "/dev/null"; Dir::Etc::main "/dev/null"; APT::Sandbox::User "root";\n'
            'Acquire::Languages "none"; Debug::NoLocking "true"; APT::Get::Assume-Yes "true";\n'
            f'Acquire::http::Proxy "http://{proxy}";\n'
        )
        self.repository = repository

    def run(self, *words):
        done = run(
            ["apt-get", "--quiet", *words], environment={"APT_CONFIG": str(self.root / "apt.conf")}, folder=self.root
        )
        complaints = [line for line in done.stdout.splitlines() if line[:4] in ("Err:", "Ign:")]
        if done.returncode != 0 or complaints:
            raise Gone(f"apt-get {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")

    def update(self):
        self.run("update")

    def install(self):
        """Downloads every package and compares what came with what was built."""
        self.run("install", "--download-only", *self.repository.debs)
        archives = self.root / "var/cache/apt/archives"
        for name, sha256 in self.repository.debs.items():
            found = hashlib.sha256((archives / f"{name}_1.0-1_all.deb").read_bytes()).hexdigest()
            if found != sha256:
                raise Gone(f"apt has other bytes of {name} than were built")
