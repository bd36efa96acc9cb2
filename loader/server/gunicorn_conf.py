"""gunicorn's configuration: one worker with threads, because the unlock's state and the login live in memory."""

from __future__ import annotations

import os
import resource
import signal
import sys
from types import FrameType
from typing import Any

import loader.app  # noqa: F401  # before the fork, so that master and worker share its memory
from loader import logs
from loader.api_client import deadlines
from loader.fetch.run import stop as stop_fetch
from loader.model_trust import signing_key
from loader.server.one_loader import DirectoryInUse, claim_directories
from loader.settings import BAD_SETTINGS_EXIT_CODE, BadSettings, Settings
from loader.unlock.run import stop as stop_unlock

try:
    _settings = Settings.from_env(os.environ)
    # The worker reads it again. Here it is checked because a worker that cannot start has another exit code.
    signing_key(_settings)
except BadSettings as exc:
    print(exc, file=sys.stderr)
    sys.exit(BAD_SETTINGS_EXIT_CODE)

bind = _settings.bind
workers = 1
worker_class = "loader.server.worker.Worker"
threads = _settings.threads
logconfig_dict = logs.config(_settings.log_level, _settings.device_name)

# Seconds without a heartbeat of the worker; a request may take longer than that.
timeout = 60
# Leaves time for one segment and for the engine to commit a layer; a running unlock stops at its next segment.
graceful_timeout = 30
keepalive = 5
# Never restart the worker after a number of requests, because a new worker has no login and no state of the unlock.
max_requests = 0
# Keep the heartbeat file in memory, because a stalled disk would stall the worker with it.
worker_tmp_dir = "/dev/shm"  # noqa: S108  # nosec B108  # gunicorn makes an unlinked file there, not a predictable one
# Disable the control socket, because it can add workers.
control_socket_disable = True
# Trust no header of a proxy, because any program on this machine could send SCRIPT_NAME and change how a path is read.
forwarder_headers = ""
# Allow many connections, because 32 silent ones must not delay the clients that send requests.
worker_connections = 1024
# For the connections, and for what transfers and the cache open.
OPEN_FILES = 4096
# By these gunicorn starts a second worker or a second master beside the first.
REFUSED_SIGNALS = (signal.SIGHUP, signal.SIGUSR2)


def on_starting(server: Any) -> None:
    """Exit if there would be several processes, another worker class, or a second loader. There is no socket yet."""
    if server.cfg.workers != 1:
        sys.exit(
            "azaion-loader: exactly one worker process is required, because the login and the unlock live in memory"
        )
    if server.cfg.worker_class_str != worker_class:
        sys.exit(f"azaion-loader: the worker class must be {worker_class}")
    try:
        # The worker creates what is missing, because it may run as another user.
        claim_directories(_settings, create=False)
    except DirectoryInUse as exc:
        sys.exit(str(exc))


def when_ready(server: Any) -> None:
    """Refuse REFUSED_SIGNALS."""

    def refuse(signum: int, _frame: FrameType | None) -> None:
        name = signal.Signals(signum).name
        server.log.error("refusing %s: the login and the unlock live in memory; stop and start the loader", name)

    for number in REFUSED_SIGNALS:
        signal.signal(number, refuse)


def nworkers_changed(server: Any, new_value: int, _old_value: int | None) -> None:
    """Refuse a further worker, which SIGTTIN asks for."""
    if new_value > 1:
        server.log.error("refusing %d workers: the login and the unlock live in memory", new_value)
        server.num_workers = 1


def post_fork(_server: Any, _worker: Any) -> None:
    """Disable core dumps, because the memory holds keys and plaintext, and allow files for all connections."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, OPEN_FILES), hard))


def post_worker_init(worker: Any) -> None:
    """Let SIGTERM interrupt what may wait for long as well as stop the worker, and ignore what `when_ready` refuses.

    A terminal that closes sends SIGHUP to every process, and a supervisor may send any signal to all of them.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        _stop_waiting()
        worker.handle_exit(signum, frame)

    signal.signal(signal.SIGTERM, stop)
    for number in REFUSED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def worker_exit(_server: Any, _worker: Any) -> None:
    """Interrupt the same on every other end of the worker: SIGINT, SIGQUIT or a killed master.

    Python waits for the threads of the unlock and of requests before the process ends.
    """
    _stop_waiting()


def _stop_waiting() -> None:
    """Interrupt a running unlock, and the calls of the API that a request waits for."""
    stop_unlock()
    stop_fetch()
    deadlines.stop()
