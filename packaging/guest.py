"""Machines with a systemd of their own, in a network of their own, for packaging/walkthrough.

Each is a debootstrapped folder that systemd-nspawn boots. They hang on a bridge in a network namespace whose way out is
slirp4netns, which also gives addresses by DHCP: nothing of this machine's own network is changed.
"""

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

from debian import Failure, run, wait_for

# A machine without anything else to do boots in some seconds.
PATIENCE = 180
# Where slirp4netns answers as the name server.
NAME_SERVER = "10.0.2.3"
# Rust, where a guest has it.
RUST = "/opt/rust"


class Unable(Exception):
    """This machine cannot boot guests. That says nothing of the package."""


def end(process):
    """Ends a process that was started here, and waits for it."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(60)
    process.kill()
    process.wait()


class Network:
    """The bridge of the guests, and its way out."""

    def __init__(self):
        self.name = f"walk{os.getpid()}"
        run(["ip", "netns", "add", self.name])
        self.exit = None
        try:
            for words in ("link set lo up", "link add lan0 type bridge", "link set lan0 up"):
                self.ip(*words.split())
            self.exit = subprocess.Popen(
                ["slirp4netns", "--netns-type=path", f"/run/netns/{self.name}", "out0"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            wait_for("slirp4netns", lambda: self.exit.poll() is not None or "out0" in self.ip("-brief", "link"), 20)
            for words in ("link set out0 master lan0", "link set out0 up"):
                self.ip(*words.split())
        except Failure as failure:
            self.close()
            raise Unable(str(failure)) from failure

    def ip(self, *words):
        return run(["ip", "-netns", self.name, *words])

    def close(self):
        if self.exit:
            end(self.exit)
        run(["ip", "netns", "delete", self.name])


class Guest:
    """A machine that has booted; its disk began as a copy of `base`. Below `shared` are folders of this machine to read."""

    def __init__(self, name, base, folder, network, shared=()):
        self.name, self.root, self.log = name, folder / name, folder / f"{name}.console"
        shutil.rmtree(self.root, ignore_errors=True)
        run(["cp", "-a", "--reflink=auto", base, self.root])
        (self.root / "etc/hostname").write_text(f"{name}\n")
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost {name}\n")
        (self.root / "etc/resolv.conf").write_text(f"nameserver {NAME_SERVER}\n")
        (self.root / "etc/machine-id").write_text("")
        words = [
            "systemd-nspawn", "--quiet", f"--directory={self.root}", f"--machine={network.name}-{name}", f"--hostname={name}",
            "--register=no", "--keep-unit", "--network-bridge=lan0", "--resolv-conf=off", "--console=pipe",
            *[f"--bind-ro={place}" for place in shared], "--boot",
        ]
        # Not `ip netns exec`: that takes the control groups out of sight, without which nothing boots.
        self.process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{network.name}", "setpriv", "--pdeathsig", "TERM", *words],
            stdin=subprocess.DEVNULL, stdout=open(self.log, "wb"), stderr=subprocess.STDOUT,
        )
        self.leader = None
        try:
            self.leader = wait_for(f"{name} starts", self._leader, PATIENCE, self._console)
            wait_for(f"{name} boots", self._booted, PATIENCE, self._console)
        except (Failure, Unable) as failure:
            self.close()
            raise Unable(str(failure)) from failure

    def _console(self):
        return self.log.read_text(errors="replace")[-2000:]

    def _leader(self):
        if self.process.poll() is not None:
            raise Unable(f"systemd-nspawn ended: {self._console().strip()}")
        # nsenter and setpriv have become systemd-nspawn: its child is the guest's first process.
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next((int(child) for child in children if Path(f"/proc/{child}/comm").read_text() == "systemd\n"), None)

    def _booted(self):
        return self.attempt("systemctl is-system-running")[1].strip() in ("running", "degraded")

    def attempt(self, line, user="root", seconds=900):
        """What a line for the shell ends with, and says, in the home of that user."""
        home = "/root" if user == "root" else f"/home/{user}"
        variables = {
            "PATH": f"{RUST}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home, "USER": user,
            "LOGNAME": user, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "SYSTEMD_PAGER": "", "TERM": "dumb",
        }
        words = ["nsenter", f"--target={self.leader}", "--all", "env", "-i", *[f"{key}={value}" for key, value in variables.items()]]
        if user != "root":
            words += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        done = subprocess.run(
            [*words, "bash", "-o", "pipefail", "-c", f"cd {home}\n{line}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=seconds, text=True, errors="replace",
        )
        return done.returncode, done.stdout

    def run(self, line, **options):
        """What a line says that must end well."""
        status, said = self.attempt(line, **options)
        if status != 0:
            raise Failure(f"{self.name}: {line}: exit status {status}\n{said[-4000:]}")
        return said

    def wait(self, what, line, seconds=PATIENCE):
        """Until the line ends with 0."""
        return wait_for(f"{self.name}: {what}", lambda: self.attempt(line)[0] == 0, seconds, lambda: self.attempt(line)[1][-2000:])

    def close(self):
        # The first one asks the guest to shut down, which it may take minutes for; the second one does not ask.
        self.process.terminate()
        time.sleep(0.5)
        end(self.process)
        run(["rm", "-rf", self.root])
