"""gunicorn settings of the Resource API (`--config python:resource_api.gunicorn_conf`)."""

# Threads, because most of a transfer is waiting for the network. State is on disk: more worker processes are fine.
worker_class = "gthread"
# The application is built once, before the workers: a bad setting ends the start at once, with its one line.
preload_app = True
# No control socket in the home directory: nobody here uses it, and a service user often has no home.
control_socket_disable = True
# A running transfer may end within this many seconds after SIGTERM.
graceful_timeout = 30
