"""Keeps a notebook and the tests off the network: sockets reach this machine and no other.

The course promises that nothing is fetched unless a command whose name says so is called. `block` makes that a
fact of the process: name look-ups and connections to anything but the loopback interface raise `OfflineError`
before a packet leaves. Jupyter's own channels, local servers and pipes between processes stay open.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from brainseg_utils.errors import BrainsegError

LOOK_UPS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex")
CALLS = ("connect", "connect_ex", "sendto")
_originals: dict[str, Callable[..., Any]] = {}


class OfflineError(BrainsegError):
    """Something tried to reach another machine."""

    def __init__(self, host: object) -> None:
        super().__init__(
            "network access blocked",
            where=str(host),
            expected="no connection to another machine in a notebook or a test",
            remedy="download data first with `brainseg data download` in a terminal, then give its folder",
        )

    def __reduce__(self):
        return (OfflineError, (self.where,))


def is_local(host: object) -> bool:
    """Whether a host name or address means this machine.

    Example:
        >>> is_local("127.0.0.1"), is_local("::1"), is_local("localhost"), is_local("example.org")
        (True, True, True, False)
    """
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host is None or host in ("", "localhost", "0.0.0.0", "::", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(str(host).split("%")[0]).is_loopback
    except ValueError:
        return False


def block() -> None:
    """Blocks connections and look-ups beyond this machine, for the rest of this process. Twice is once."""
    if _originals:
        return
    for name in LOOK_UPS:
        _originals[name] = getattr(socket, name)
        setattr(socket, name, _guarded_look_up(_originals[name]))
    for name in CALLS:
        _originals[name] = getattr(socket.socket, name)
        setattr(socket.socket, name, _guarded_call(_originals[name]))


def unblock() -> None:
    """Takes the guard away again."""
    for name in LOOK_UPS:
        if name in _originals:
            setattr(socket, name, _originals.pop(name))
    for name in CALLS:
        if name in _originals:
            setattr(socket.socket, name, _originals.pop(name))


@contextmanager
def blocked() -> Iterator[None]:
    """Blocks inside a `with`, and afterwards leaves the guard as it was found."""
    before = bool(_originals)
    block()
    try:
        yield
    finally:
        if not before:
            unblock()


def _guarded_look_up(original: Callable[..., Any]) -> Callable[..., Any]:
    def look_up(host: object, *args: Any, **kwargs: Any) -> Any:
        if not is_local(host):
            raise OfflineError(host)
        return original(host, *args, **kwargs)

    return look_up


def _guarded_call(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: socket.socket, *args: Any) -> Any:
        address = args[-1] if args else None  # connect(address), sendto(data, [flags,] address)
        internet = self.family in (socket.AF_INET, socket.AF_INET6)
        if internet and isinstance(address, tuple) and not is_local(address[0]):
            raise OfflineError(address[0])
        return original(self, *args)

    return call
