"""Plain HTTP servers that hand out files: valid peers as they are, and the mirror of the tests."""

import os
import re
import socket
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from .process import Process, must, wait_for


class Recorded(ThreadingHTTPServer):
    """A server of a folder, with single ranges, that writes down what it was asked for and how many bytes it gave."""

    daemon_threads = True

    def __init__(self, folder, address="127.0.0.1", port=0):
        self.folder = str(folder)
        self.asked = []
        self.lock = threading.Lock()
        self.given_of = {}
        super().__init__((address, port), RangeHandler)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A client that leaves in the middle is no news."""

    def stop(self):
        self.shutdown()
        self.server_close()


class RangeHandler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, request, client, server):
        super().__init__(request, client, server, directory=server.folder)

    def log_message(self, *_):
        pass

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        try:
            file = open(self.translate_path(self.path), "rb")
        except OSError:
            self.send_error(404)
            return
        with file:
            self.answer(file, os.fstat(file.fileno()).st_size, wanted)

    def answer(self, file, length, wanted):
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
        first, last = 0, length - 1
        if match:
            first, last = int(match[1]), min(int(match[2] or last), last)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{length}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        file.seek(first)
        left = last + 1 - first
        while left:
            part = file.read(min(left, 65536))
            self.wfile.write(part)
            left -= len(part)
            with self.server.lock:
                self.server.given_of[self.path] = self.server.given_of.get(self.path, 0) + len(part)


def python_server(folder, log, address="127.0.0.1"):
    """Python's own `http.server`: no ranges, HTTP/1.0."""
    port = free_port(address)
    words = ["/usr/bin/python3", "-m", "http.server", "--bind", address, "--directory", folder, str(port)]
    process = Process(words, log)
    process.wait_until("python's server listens", lambda: connects(address, port))
    return process, port


def nginx_server(folder, work, address="127.0.0.1"):
    """nginx as a static server, with its standard configuration but for the places."""
    port = free_port(address)
    work.mkdir(parents=True, exist_ok=True)
    config = work / "nginx.conf"
    places = "".join(
        f"{kind}_temp_path {work}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(
        f"daemon off; pid {work}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {places} sendfile on; default_type application/octet-stream;\n"
        f"server {{ listen {address}:{port}; root {folder}; }} }}\n"
    )
    user = ["-g", "user root;"] if must(["id", "-u"]).strip() == "0" else []
    process = Process(["nginx", "-c", config, *user], work / "log")
    process.wait_until("nginx listens", lambda: connects(address, port))
    return process, port


def free_port(address="127.0.0.1"):
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def connects(address, port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def wait_until_closed(address, port):
    wait_for(f"{address}:{port} is closed", lambda: not connects(address, port))
