"""libtorrent as a rival of `aptpeer get`: makes a v1 torrent, seeds it, or downloads it.

  torrent.py make FILE TORRENT
  torrent.py seed TORRENT FOLDER IP:PORT
  torrent.py get  TORRENT FOLDER IP:PORT...    prints wall and CPU seconds
"""

import resource
import sys
import time

import libtorrent as lt

# Everything that looks for peers or hides traffic is off; everything that limits speed is open.
SETTINGS = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "out_enc_policy": 2,
    "in_enc_policy": 2,
    "allow_multiple_connections_per_ip": True,
    "unchoke_slots_limit": -1,
    "smooth_connects": False,
    "connection_speed": 500,
    "max_out_request_queue": 2000,
    "max_allowed_in_request_queue": 4000,
    "send_buffer_watermark": 4 << 20,
    "rate_limit_ip_overhead": False,
    "alert_mask": lt.alert.category_t.status_notification | lt.alert.category_t.error_notification,
}


def make(path, torrent):
    files = lt.file_storage()
    lt.add_files(files, path)
    made = lt.create_torrent(files, 4 << 20, lt.create_torrent.v1_only)
    lt.set_piece_hashes(made, path.rsplit("/", 1)[0])
    with open(torrent, "wb") as out:
        out.write(lt.bencode(made.generate()))


def session(address):
    return lt.session({**SETTINGS, "listen_interfaces": address})


def add(ses, torrent, folder, flags):
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = folder
    params.flags = (params.flags | flags) & ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
    return ses.add_torrent(params)


def seed(torrent, folder, address):
    ses = session(address)
    handle = add(ses, torrent, folder, lt.torrent_flags.seed_mode | lt.torrent_flags.upload_mode)
    while handle.is_valid():
        time.sleep(1)


def get(torrent, folder, *peers):
    ses = session("127.0.0.1:0")
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    handle = add(ses, torrent, folder, lt.torrent_flags.default_flags)
    for peer in peers:
        ip, port = peer.rsplit(":", 1)
        handle.connect_peer((ip, int(port)))
    finished = False
    while not finished:
        ses.wait_for_alert(1000)
        for alert in ses.pop_alerts():
            finished |= isinstance(alert, lt.torrent_finished_alert)
            if isinstance(alert, (lt.torrent_error_alert, lt.file_error_alert)):
                sys.exit(str(alert))
        if time.monotonic() - began > 120:
            sys.exit(f"not finished: {handle.status().state} {handle.status().progress}")
    wall, now = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    print(wall, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)


if __name__ == "__main__":
    {"make": make, "seed": seed, "get": get}[sys.argv[1]](*sys.argv[2:])
