"""The gunicorn settings of the resource API (`--config python:resource_api.gunicorn_conf`)."""

# Threads, because a transfer mostly waits for the network. No client can hold up a worker of this class. All state is
# on disk, so more worker processes work too.
worker_class = "loader.server.worker.Worker"
# The application is built before the workers start, so that a bad setting ends the start with one line.
preload_app = True
# No control socket, because nothing uses it, and it would be in the home directory, which a service user often lacks.
control_socket_disable = True
# Seconds after SIGTERM within which running transfers may end.
graceful_timeout = 30
