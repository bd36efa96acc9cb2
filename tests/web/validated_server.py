"""Serves the loader with wsgiref instead of gunicorn, through the WSGI validator of the standard library.

Run it with `python -m tests.web.validated_server PORT`. The environment configures the loader as usual.
"""

from __future__ import annotations

import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server
from wsgiref.validate import validator


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def main() -> None:
    """Serve until the process is ended."""
    from wsgi import app

    make_server("127.0.0.1", int(sys.argv[1]), validator(app), server_class=_ThreadingServer).serve_forever()


if __name__ == "__main__":
    main()
