"""Foreign HTTP clients and servers: no DHT, no second aptpeer needed to be of use to each other."""

import shutil
import urllib.request

from .matrix import Skip
from .ours import Daemon, Ours
from .process import Gone, must, run
from .repository import Apt, Repository
from .samples import File, digest
from .statics import Recorded, nginx_server, python_server

CLIENTS = "curl, wget, aria2 and Python read from us"
SERVERS = "plain web servers as our peers"

# Three pieces, the last one short.
LENGTH = 9_000_000


def check(path, file):
    if digest(path) != file.sha256:
        raise Gone(f"{path} is not the object")


def program(name):
    if not shutil.which(name):
        raise Skip(f"{name} is not installed")


def clients(matrix, work):
    """Each client reads an object of a daemon: whole, the rest of a broken download, one range."""
    file = File(work / "object", LENGTH, 1)
    daemon = Daemon(work / "daemon").start()
    daemon.seed(file.path)
    url = f"http://{daemon.peer}/hash/{file.sha256}"

    def fresh(name, content=b""):
        path = work / name
        path.write_bytes(content)
        return path

    def after(path, done, asked_before):
        check(path, file)
        served = daemon.stats()["bytes_uploaded"] - asked_before
        # What was there already must not be sent again. (aria2 asks for more than it wants and hangs up: some megabyte.)
        if done and served > LENGTH - done + 2_000_000:
            raise Gone(f"{served} bytes were sent for the last {LENGTH - done}")
        return f"{served} bytes sent"

    def curl(done):
        path, before = fresh("curl", file.content[:done]), daemon.stats()["bytes_uploaded"]
        must(["curl", "-sSf", *(["-C", "-"] if done else []), "-o", path, url])
        return after(path, done, before)

    def wget(done):
        path, before = fresh("wget", file.content[:done]), daemon.stats()["bytes_uploaded"]
        must(["wget", "-q", *(["-c"] if done else []), "-O", path, url])
        return after(path, done, before)

    def aria2(done):
        path, before = fresh("aria2", file.content[:done]), daemon.stats()["bytes_uploaded"]
        path.unlink() if not done else None
        must(
            ["aria2c", "--no-conf", "-q", f"-d{work}", "-oaria2", "--allow-overwrite=true", "--file-allocation=none"]
            + (["-c"] if done else ["-x4", "-s4", "-k1M"])
            + [f"--checksum=sha-256={file.sha256}", url]
        )
        return after(path, done, before)

    def python(done):
        path, before = fresh("python", file.content[:done]), daemon.stats()["bytes_uploaded"]
        request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
        with urllib.request.urlopen(request) as answer, open(path, "ab") as out:
            shutil.copyfileobj(answer, out)
        return after(path, done, before)

    def curl_range():
        got = must(["curl", "-sSf", "-r", "4194300-4194309", "-w", "%{http_code}", "-o", work / "range", url])
        if got != "206" or (work / "range").read_bytes() != file.content[4194300:4194310]:
            raise Gone(f"curl got {got}")

    def aria2_wrong():
        wrong = "0" * 64
        words = ["aria2c", "--no-conf", "-q", f"-d{work}", "-owrong", f"--checksum=sha-256={wrong}", url]
        if run(words).returncode == 0:
            raise Gone("aria2 took a wrong checksum")

    def conditional():
        etag = f'If-None-Match: "{file.sha256}"'
        got = must(["curl", "-sS", "-H", etag, "-w", "%{http_code}", "-o", work / "none", url])
        if got != "304":
            raise Gone(f"curl got {got}")

    for name, get in {"curl": curl, "wget": wget, "aria2c": aria2, "python urllib": python}.items():

        def whole(get=get, name=name):
            if " " not in name:
                program(name)
            return get(0)

        if matrix.cell(CLIENTS, name, "whole", whole):
            matrix.cell(CLIENTS, name, "resume", lambda get=get: get(5_000_000))
    matrix.cell(CLIENTS, "curl", "range", curl_range)
    matrix.cell(CLIENTS, "curl", "304", conditional)
    matrix.cell(CLIENTS, "aria2c", "checksum", aria2_wrong)
    daemon.stop()


def servers(matrix, work):
    """A folder with the object at `hash/H` behind a plain server is a peer: for `get`, and for apt through a daemon."""
    file = File(work / "object", LENGTH, 2)
    repository = Repository(work / "repository")
    folder = work / "www"
    (folder / "hash").mkdir(parents=True)
    shutil.copy(file.path, folder / "hash" / file.sha256)
    for name, sha256 in repository.debs.items():
        shutil.copy(repository.flat / f"{name}_1.0-1_all.deb", folder / "hash" / sha256)
    mirror = Recorded(repository.root)

    def nginx():
        program("nginx")
        return nginx_server(folder, work / "nginx")

    def python():
        return python_server(folder, work / "python.log")

    def recorded():
        server = Recorded(folder)
        return server, server.port

    for name, start in {"nginx": nginx, "python http.server": python, "ranges only": recorded}.items():
        try:
            server, port = start()
        except Skip as skip:
            matrix.cell(SERVERS, name, "aptpeer get", lambda skip=skip: (_ for _ in ()).throw(skip))
            continue

        def get(port=port, name=name):
            out = work / f"got {name}"
            Ours(work / f"get {name}").get(file.sha256, out, "--peer", f"127.0.0.1:{port}")
            check(out, file)

        def apt(port=port, name=name):
            daemon = Daemon(work / f"daemon {name}", peers=[f"127.0.0.1:{port}"]).start()
            client = Apt(work / f"apt {name}", repository, f"127.0.0.1:{mirror.port}", daemon.proxy)
            client.update()
            client.install()
            stats = daemon.stats()
            daemon.stop()
            wanted = sum(repository.sizes().values())
            if stats["bytes_from_p2p"] == 0:
                raise Gone(f"the peer gave nothing: {stats}")
            return f"{stats['bytes_from_p2p']} of {wanted} bytes from the peer"

        matrix.cell(SERVERS, name, "aptpeer get", get)
        matrix.cell(SERVERS, name, "apt", apt)
        server.stop()
    mirror.stop()
