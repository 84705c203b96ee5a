"""The guard lets sockets reach this machine and no other."""

from __future__ import annotations

import pickle
import socket
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from brainseg_utils.course import offline
from brainseg_utils.course.offline import OfflineError


class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *args):
        pass


def test_local_server_stays_reachable():
    server = HTTPServer(("127.0.0.1", 0), Hello)
    threading.Thread(target=server.handle_request, daemon=True).start()
    with offline.blocked():
        assert urllib.request.urlopen(f"http://localhost:{server.server_port}").read() == b"hello"
    server.server_close()


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.org", 443)])
@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_connections_to_other_machines_are_refused(address, method):
    with offline.blocked(), socket.socket() as sock, pytest.raises(OfflineError, match=f"{address[0]}: network access"):
        getattr(sock, method)(address)


def test_datagrams_and_ipv6_are_refused():
    with offline.blocked(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(OfflineError):
            sock.sendto(b"x", ("192.0.2.1", 53))
        with pytest.raises(OfflineError):
            sock.sendto(b"x", 0, ("192.0.2.1", 53))
    assert not offline.is_local("2001:db8::1") and offline.is_local("::1")


@pytest.mark.parametrize("name", offline.LOOK_UPS)
def test_look_ups_are_refused(name):
    with offline.blocked(), pytest.raises(OfflineError, match="brainseg data download"):
        getattr(socket, name)(*(("example.org", 80) if name == "getaddrinfo" else ("example.org",)))


def test_urllib_passes_the_message_on():
    with offline.blocked(), pytest.raises(OfflineError, match=r"example\.org"):
        urllib.request.urlopen("http://example.org/data.zip")


def test_pairs_and_local_sockets_still_work():
    with offline.blocked():
        one, other = socket.socketpair()
        one.sendall(b"x")
        assert other.recv(1) == b"x"
        one.close()
        other.close()


def test_guard_is_left_as_it_was_found():
    before = bool(offline._originals)
    connect = socket.socket.connect
    with offline.blocked():
        offline.block()
        with offline.blocked():
            pass
        assert offline._originals
    assert bool(offline._originals) == before and socket.socket.connect is connect


def test_error_crosses_processes():
    error = pickle.loads(pickle.dumps(OfflineError("example.org")))
    assert str(error) == str(OfflineError("example.org"))
