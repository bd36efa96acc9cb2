"""The gunicorn settings of the resource API (`--config python:resource_api.gunicorn_conf`)."""

import os
import signal
from types import FrameType
from typing import Any

from resource_api import logs
from resource_api.metrics import METRICS

# Threads, because a transfer mostly waits for the network. No client can hold up a worker of this class. All state is
# on disk, so more worker processes work too.
worker_class = "loader.server.worker.Worker"
# Twice what logins may occupy (see `login_lane`), so that the others stay for reads.
threads = 32
# The application is built before the workers start, so that a bad setting ends the start with one line.
preload_app = True
# No control socket, because nothing uses it, and it would be in the home directory, which a service user often lacks.
control_socket_disable = True
# A log on stderr that nobody reads stops no request. The application writes the audit lines itself.
logconfig_dict = logs.config(os.environ.get("RESOURCE_API_LOG", ""))
# Seconds after SIGTERM within which running transfers may end; the master then kills its workers.
graceful_timeout = 30
# After a HUP new workers serve, so that the old ones have time for transfers over slow links.
RELOAD_SECONDS = 3600


def post_fork(_server: Any, worker: Any) -> None:
    """Give the counters of the new worker a place of their own; gunicorn numbers its workers by age."""
    METRICS.use_slot(worker.age)


def post_worker_init(worker: Any) -> None:
    """Let a worker wait for its transfers when the master ends it; at the end of all, the master waits less long.

    A worker whose master was killed waits for `graceful_timeout`, because it still holds the port.
    """

    def end(number: int, frame: FrameType | None) -> None:
        worker.cfg.set("graceful_timeout", RELOAD_SECONDS)
        worker.handle_exit(number, frame)

    signal.signal(signal.SIGTERM, end)
