"""Processes that we started: each is stopped by its own id, and whoever waits for something says how long."""

import os
import signal
import subprocess
import time

# Two cores that others use too: what has not come by then is not coming.
PATIENCE = 30.0

_running = []


class Gone(Exception):
    """A process ended, or a condition never came true; the text has what is known about it."""


def wait_for(what, condition, seconds=PATIENCE):
    """Asks `condition` again and again until it gives something true, and gives that."""
    end = time.monotonic() + seconds
    pause = 0.01
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise Gone(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)


class Process:
    """A program with its output in a file; stopped at the latest by `stop_all`."""

    def __init__(self, words, log, environment=None, stdin=None, stdout=None, folder=None):
        self.words = [str(word) for word in words]
        self.log = log
        with open(log, "ab") as file:
            self.child = subprocess.Popen(
                self.words,
                stdin=stdin or subprocess.DEVNULL,
                stdout=stdout or file,
                stderr=file,
                env=environment or clean_environment(),
                cwd=folder,
            )
        _running.append(self)

    def ended(self):
        return self.child.poll() is not None

    def said(self):
        with open(self.log, "rb") as file:
            return file.read().decode(errors="replace")

    def wait_until(self, what, condition, seconds=PATIENCE):
        """`wait_for`, but gives up as soon as the process is gone."""

        def alive_and_true():
            if self.ended():
                raise Gone(f"{self.words[0]} ended with {self.child.returncode}:\n{self.said()[-2000:]}")
            return condition()

        try:
            return wait_for(what, alive_and_true, seconds)
        except Gone as gone:
            raise Gone(f"{gone}\n{self.said()[-2000:]}") from None

    def stop(self, how=signal.SIGTERM):
        if self in _running:
            _running.remove(self)
        if not self.ended():
            self.child.send_signal(how)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
        self.child.wait()


def stop_all():
    for process in list(reversed(_running)):
        process.stop()


def clean_environment():
    """Ours without what would send requests elsewhere or configure the programs under test."""
    unwanted = ("APTPEER_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(unwanted)}
    return kept | {"LC_ALL": "C.UTF-8"}


def run(words, seconds=120, environment=None, folder=None):
    """Runs a command to its end and gives its result with text; a non-zero exit status is the caller's business."""
    words = [str(word) for word in words]
    return subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=seconds,
        env=clean_environment() | (environment or {}),
        cwd=folder,
        text=True,
        errors="replace",
    )


def must(words, **options):
    """`run`, for what has to succeed; gives its standard output."""
    done = run(words, **options)
    if done.returncode != 0:
        raise Gone(f"{' '.join(map(str, words))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
