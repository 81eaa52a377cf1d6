"""Addresses as settings write them: `host:port`, checked for gRPC's own quirks, and the admin listener's socket."""

import ipaddress
import os
import re
import tempfile
from pathlib import Path

MAX_PORT = 65_535
UNIX = "unix"
_SCHEME = f"{UNIX}:"


def admin_address(listen: str, port: int) -> str:
    """The `admin_listen` of a server whose data port is `port`, as `unix:/path` or `host:port`."""
    return f"{_SCHEME}{admin_socket(port)}" if listen == UNIX else listen


def admin_socket(port: int) -> Path:
    """The admin socket of the user's server on this port.

    In `mercato/` of `$XDG_RUNTIME_DIR`, which is the user's alone, else in a folder of the user's in that of
    temporary files.
    """
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    temporary = Path(tempfile.gettempdir()) / f"mercato-{os.getuid()}"
    return (runtime / "mercato" if runtime.is_absolute() else temporary) / f"admin-{port}.sock"


def is_admin_listen(listen: str) -> bool:
    """Whether it is `unix`, `unix:PATH` with an absolute path of a file, or `host:port` on a loopback address."""
    if listen == UNIX:
        return True
    if listen.startswith(_SCHEME):
        path = listen.removeprefix(_SCHEME)
        return path.startswith("/") and os.path.basename(path) not in ("", ".", "..") and "\0" not in path
    return is_address(listen) and is_loopback(listen)


def is_loopback(listen: str) -> bool:
    """Whether `host:port` is open to this machine alone."""
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_address(listen: str) -> bool:
    """Whether it is `host:port` that gRPC binds as it is written."""
    host, colon, port = listen.rpartition(":")
    # gRPC takes a port beyond 65535 modulo 65536, and no port at all as 443.
    is_port = re.fullmatch("[0-9]{1,5}", port) is not None and int(port) <= MAX_PORT
    return bool(host and colon) and _is_host(host) and is_port


def _is_host(host: str) -> bool:
    """An IPv6 address in brackets, or anything without a colon and brackets; it is not looked up."""
    if not set(host) & set(":[]"):
        return True
    try:
        return host[0] + host[-1] == "[]" and bool(ipaddress.IPv6Address(host[1:-1]))
    except ValueError:
        return False
