"""Which client a request comes from, as far as that can be believed."""

from __future__ import annotations

from ipaddress import ip_address

from flask import request


def client_address() -> str:
    """The client's IP address; empty for a program on this machine that uses the unix socket itself.

    On a unix socket the last element of X-Forwarded-For counts: it is what the one who may open the socket, a proxy,
    has put there. Over TCP anybody could send that header, so that the connection's own address counts.
    """
    if request.remote_addr:
        return request.remote_addr
    claimed = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    try:
        return str(ip_address(claimed))
    except ValueError:
        return ""
