"""The address of a client, also of one behind a proxy."""

import ipaddress
from typing import Any

LOOPBACK = "127.0.0.1,::1"


class ClientAddresses:
    """Finds the address of a client. A proxy is believed only if its own address was configured."""

    def __init__(self, proxies: str) -> None:
        """Take addresses or networks, separated by commas. Raises ValueError."""
        self._proxies = [ipaddress.ip_network(each.strip()) for each in proxies.split(",") if each.strip()]

    def client_of(self, environ: dict[str, Any]) -> str:
        """Return the address of the connection, or the last one in the X-Forwarded-For of a proxy.

        The last one is what the proxy itself has seen; those before it are claims of the client. Only a program with
        the right to open a unix socket can have sent the header there. Without any address the result is "-".
        """
        peer = str(environ.get("REMOTE_ADDR") or "")
        last = str(environ.get("HTTP_X_FORWARDED_FOR") or "").rpartition(",")[2].strip()
        if last and (not peer or self._is_proxy(peer)) and _is_address(last):
            return last
        return peer or "-"

    def _is_proxy(self, peer: str) -> bool:
        return _is_address(peer) and any(ipaddress.ip_address(peer) in network for network in self._proxies)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
