"""The gunicorn settings of the resource API (`--config python:resource_api.gunicorn_conf`)."""

# Threads, because a transfer mostly waits for the network. No client can hold up a worker of this class. All state is
# on disk, so more worker processes work too.
worker_class = "loader.server.worker.Worker"
# Twice what logins may occupy (see `login_lane`), so that the others stay for reads.
threads = 32
# The application is built before the workers start, so that a bad setting ends the start with one line.
preload_app = True
# No control socket, because nothing uses it, and it would be in the home directory, which a service user often lacks.
control_socket_disable = True
# A log that nobody reads stops no request, and the application logs each request itself.
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "loader.server.log_handler.LogHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "gunicorn.error": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "gunicorn.access": {"level": "WARNING"},
    },
}
# Seconds after SIGTERM within which running transfers may end.
graceful_timeout = 30
