"""gunicorn's configuration. The unlock's state and the login live in memory, hence one worker process with threads."""

from __future__ import annotations

import os
import resource
import signal
import sys
from types import FrameType
from typing import Any

from loader import logs
from loader.server.health_lane import close_after_health, keep_a_lane_for_health
from loader.server.worker import spare_threads
from loader.settings import BadSettings, Settings
from loader.unlock.run import stop

try:
    _settings = Settings.from_env(os.environ)
except BadSettings as exc:
    sys.exit(str(exc))

bind = _settings.bind
workers = 1
worker_class = "gthread"
threads = _settings.threads
logconfig_dict = logs.config(_settings.log_level)

# Beats of a worker that lives; a request may take as long as it takes.
timeout = 60
# One segment and the engine's commit of a layer must fit in; a running unlock ends at its next segment.
graceful_timeout = 30
keepalive = 5
# A recycled worker would forget the login and the state of the unlock.
max_requests = 0
# Heartbeat files on a disk can stall the worker when that disk does.
worker_tmp_dir = "/dev/shm"  # noqa: S108  # nosec B108  # gunicorn makes an unlinked file there, not a predictable one
# The control socket can add workers.
control_socket_disable = True
# Else any program on this machine may say by SCRIPT_NAME which part of a path counts, and a wrong one is a 500.
forwarder_headers = ""
pre_request = close_after_health
# 32 silent connections must not keep the callers with something to say waiting for long.
worker_connections = 512


def on_starting(server: Any) -> None:
    """Refuse a command line or an environment that asks for more than one process."""
    if server.cfg.workers != 1:
        sys.exit(
            "azaion-loader: exactly one worker process is required, because the login and the unlock live in memory"
        )
    if server.cfg.worker_class_str != "gthread":
        sys.exit("azaion-loader: the worker class must be gthread")


def nworkers_changed(server: Any, new_value: int, _old_value: int | None) -> None:
    """Refuse SIGTTIN."""
    if new_value > 1:
        server.log.error("refusing %d workers: the login and the unlock live in memory", new_value)
        server.num_workers = 1


def post_fork(_server: Any, _worker: Any) -> None:
    """Let a crash leave no image of the memory, where keys and plaintext are."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def post_worker_init(worker: Any) -> None:
    """Let SIGTERM reach a running unlock, beside stopping the worker; keep what asks for liveness from waiting
    for its threads, and slow clients from using them up."""
    spare_threads(worker)
    keep_a_lane_for_health(worker)

    def stop_unlock(signum: int, frame: FrameType | None) -> None:
        stop()
        worker.handle_exit(signum, frame)

    signal.signal(signal.SIGTERM, stop_unlock)


def worker_exit(_server: Any, _worker: Any) -> None:
    """Let every other end reach a running unlock: SIGINT, SIGQUIT, a master that was killed. Python waits for it."""
    stop()
