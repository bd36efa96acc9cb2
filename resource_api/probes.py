"""What monitors ask, without a login: whether the server can work, and its counters."""

import logging
import os

from flask import Response, jsonify
from werkzeug.exceptions import ServiceUnavailable

from resource_api.accounts import Users
from resource_api.data_directory import DataDirectory, DataDirectoryError
from resource_api.fragments import Fragments
from resource_api.metrics import METRICS

logger = logging.getLogger(__name__)


class Probes:
    """The views of `/health` and `/metrics`. Neither tells a name."""

    def __init__(self, data: DataDirectory) -> None:
        self._data = data
        self._users = Users(data)
        self._fragments = Fragments(data)

    def health(self) -> Response:
        """Handle GET /health. Raises ServiceUnavailable if the files that requests need cannot be read."""
        try:
            self._users.all()
            self._fragments.all()
            self._data.token_secret()
            os.statvfs(self._data.resources)
        except (OSError, DataDirectoryError) as error:
            # For the log only, because a client need not know where the files are.
            logger.warning("not healthy: %s", ascii(str(error)))
            raise ServiceUnavailable("The state of this server cannot be read; its log says why.") from error
        response = jsonify(status="ok")
        response.cache_control.no_store = True
        return response

    def metrics(self) -> Response:
        """Handle GET /metrics."""
        return Response(METRICS.text(), content_type="text/plain; version=0.0.4; charset=utf-8")
