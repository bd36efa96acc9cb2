"""Builds the Flask application: its objects, its routes, and what it does before and after each request."""

from flask import Flask, request

from resource_api.accounts import Authenticator
from resource_api.audit import Audited, note_response
from resource_api.client_address import LOOPBACK, ClientAddresses
from resource_api.data_directory import DataDirectory
from resource_api.metrics import METRICS
from resource_api.probes import Probes
from resource_api.problems import register_error_handlers
from resource_api.storage.choice import open_storage
from resource_api.storage.s3_settings import StoreSettings
from resource_api.upload_views import UploadViews
from resource_api.views import Views

DEFAULT_TOKEN_SECONDS = 3600
# The server closes a connection that transfers no byte for this long, because it would occupy a thread forever.
STALL_SECONDS = 60


def create_app(
    data: DataDirectory,
    token_seconds: int = DEFAULT_TOKEN_SECONDS,
    addresses: ClientAddresses | None = None,
    store: StoreSettings | None = None,
) -> Flask:
    """Return the WSGI application for directories that `azaion-resource-api init` made.

    `addresses` finds the addresses of clients for the log, and believes proxies on this machine by default. `store` has
    the objects; None: the data directory has them.

    Removes the files that killed uploads left behind. Raises DataDirectoryError if a directory cannot be used.
    """
    storage = open_storage(data, store)
    views = Views(data, Authenticator(data, token_seconds), storage)
    probes = Probes(data)
    app = Flask("resource_api", static_folder=None)
    app.url_map.merge_slashes = False  # a redirect from "a//b" to "a/b" would lose the body of an upload
    app.add_url_rule("/login", view_func=views.login, methods=["POST"])
    app.add_url_rule("/binary-split/key-fragment", view_func=views.key_fragment, methods=["GET"])
    app.add_url_rule("/resources/<path:name>", view_func=views.read_resource, methods=["GET"])
    app.add_url_rule("/resources/<path:name>", view_func=views.write_resource, methods=["PUT"])
    app.add_url_rule("/resources/<path:name>", view_func=views.delete_resource, methods=["DELETE"])
    app.add_url_rule("/resources", view_func=views.list_resources, methods=["GET"])
    _add_uploads(app, UploadViews(views, storage.uploads))
    app.add_url_rule("/health", view_func=probes.health, methods=["GET"])
    app.add_url_rule("/metrics", view_func=probes.metrics, methods=["GET"])
    app.before_request(_limit_stalls)
    app.after_request(note_response)
    register_error_handlers(app)
    addresses = addresses or ClientAddresses(LOOPBACK)
    app.wsgi_app = Audited(app.wsgi_app, addresses, METRICS.observe)  # type: ignore[method-assign]  # Flask documents this place
    return app


def _add_uploads(app: Flask, views: UploadViews) -> None:
    app.add_url_rule("/uploads", view_func=views.create, methods=["POST"], endpoint="create_upload")
    one = "/uploads/<upload>"
    app.add_url_rule(one, view_func=views.show, methods=["GET"], endpoint="show_upload")
    app.add_url_rule(one, view_func=views.abort, methods=["DELETE"], endpoint="abort_upload")
    app.add_url_rule(f"{one}/urls", view_func=views.addresses, methods=["POST"], endpoint="part_addresses")
    app.add_url_rule(f"{one}/complete", view_func=views.complete, methods=["POST"], endpoint="complete_upload")
    part = f"{one}/parts/<int:number>"
    app.add_url_rule(part, view_func=views.put_part, methods=["PUT"], endpoint="put_part")


def _limit_stalls() -> None:
    """Set a timeout on the connection if the server is gunicorn, because gunicorn itself sets none."""
    connection = request.environ.get("gunicorn.socket")
    if connection is not None:
        connection.settimeout(STALL_SECONDS)
