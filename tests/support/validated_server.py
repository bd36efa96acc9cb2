"""The loader under wsgiref instead of gunicorn, with the standard library's WSGI validator between the two.

`python -m tests.support.validated_server PORT`, configured by the environment as ever.
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
