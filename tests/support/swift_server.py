"""OpenStack Swift with its S3 API on one port. The Python of the virtual environment of Swift runs this.

Usage: swift_server.py DIRECTORY ADDRESS:PORT NAME:SECRET...

Each NAME is an account of its own, whose access key is NAME:NAME. All servers run in this process, without memcached.
"""

import socket
import sys
from pathlib import Path
from typing import Any

import eventlet

eventlet.monkey_patch()

from eventlet import wsgi  # noqa: E402  # the patch comes first
from swift.common import utils  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.wsgi import loadapp  # noqa: E402

BACKENDS = ("account", "container", "object")
PART_POWER = 2
PAGE = 20
PLAIN = ("catch_errors", "gatekeeper", "healthcheck", "listing_formats", "bulk", "slo", "dlo")
BACKEND = """\
[DEFAULT]
devices = {root}/devices
mount_check = false
swift_dir = {root}
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
network_chunk_size = 1048576
disk_chunk_size = 1048576
"""
PROXY = """\
[DEFAULT]
swift_dir = {root}
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck listing_formats bulk s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
client_chunk_size = 1048576
object_chunk_size = 1048576
{filters}
[filter:s3api]
use = egg:swift#s3api
# Lists of few objects have several pages then.
max_bucket_listing = {page}
max_parts_listing = {page}
[filter:tempauth]
use = egg:swift#tempauth
{users}
"""


class Cache:
    """What Swift asks of memcached, in this process and without expiry."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, key: str, **_: Any) -> Any:
        """Return a value, None if there is none."""
        return self._values.get(key)

    def set(self, key: str, value: Any, **_: Any) -> None:
        """Keep a value."""
        self._values[key] = value

    def delete(self, key: str, **_: Any) -> None:
        """Forget a value."""
        self._values.pop(key, None)


def main(root: Path, address: str, port: int, accounts: list[str]) -> None:
    """Serve until a signal ends the process."""
    (root / "devices" / "disk").mkdir(parents=True, exist_ok=True)
    (root / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = test\n")
    utils.set_swift_dir(str(root))
    pool = eventlet.GreenPool(10_000)
    listeners = {kind: eventlet.listen(("127.0.0.1", 0)) for kind in BACKENDS}
    for kind, listener in listeners.items():
        make_ring(root, kind, listener.getsockname()[1])
    for kind, listener in listeners.items():
        serve(pool, listener, root / f"{kind}.conf", BACKEND.format(root=root, kind=kind))
    users = "\n".join("user_{0}_{0} = {1} .admin".format(*account.split(":")) for account in accounts)
    filters = "\n".join(f"[filter:{name}]\nuse = egg:swift#{name}" for name in PLAIN)
    proxy = PROXY.format(root=root, filters=filters, users=users, page=PAGE)
    serve(pool, eventlet.listen((address, port)), root / "proxy.conf", proxy)
    pool.waitall()


def make_ring(root: Path, kind: str, port: int) -> None:
    """Write the ring that says where the objects of a kind are: with one copy, on the one disk."""
    name = root / f"{kind}.ring.gz"
    builder = RingBuilder(PART_POWER, 1, 0)
    device = {"id": 0, "region": 1, "zone": 1, "weight": 1.0, "ip": "127.0.0.1", "port": port, "device": "disk"}
    builder.add_dev(device)
    builder.rebalance()
    builder.get_ring().save(str(name))


def serve(pool: eventlet.GreenPool, listener: socket.socket, configuration: Path, text: str) -> None:
    """Serve the application of a configuration in the background."""
    configuration.write_text(text)
    app = loadapp(str(configuration))
    cache = Cache()

    def cached(environ: dict[str, Any], start_response: Any) -> Any:
        return app({**environ, "swift.cache": cache}, start_response)

    pool.spawn_n(wsgi.server, listener, cached, log_output=False, custom_pool=pool, debug=False)


if __name__ == "__main__":
    listen_address, _, listen_port = sys.argv[2].partition(":")
    main(Path(sys.argv[1]), listen_address, int(listen_port), sys.argv[3:])
