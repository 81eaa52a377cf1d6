"""Addresses as settings write them: `host:port`, the port of gRPC's own quirks checked."""

import ipaddress

MAX_PORT = 65_535


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
    return bool(host and colon) and _is_host(host) and port.isascii() and port.isdigit() and int(port) <= MAX_PORT


def _is_host(host: str) -> bool:
    """An IPv6 address in brackets, or anything without a colon and brackets; it is not looked up."""
    if not set(host) & set(":[]"):
        return True
    try:
        return host[0] + host[-1] == "[]" and bool(ipaddress.IPv6Address(host[1:-1]))
    except ValueError:
        return False
