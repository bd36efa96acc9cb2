"""The composition root: makes every part of the service. Only `loader.create_app` imports this module."""

from __future__ import annotations

import logging

from flask import Flask

from loader import api_client, logs
from loader.docker_engine import DockerEngine
from loader.errors import EngineUnavailable
from loader.fetch.release import forget_installed_head
from loader.fetch.unattended import start_unattended
from loader.login_throttle import LoginThrottle
from loader.model_cache.cache import ModelCache
from loader.model_list import ModelList
from loader.model_trust import ModelTrust, signing_key
from loader.resources import ResourceStore
from loader.settings import Settings
from loader.unattended_login import start_unattended_login
from loader.unlock.run import undo_leftover
from loader.version import VERSION
from loader.web import auth, health, images, metrics, models, page, resources, unlock, uploads
from loader.web import cache as cache_routes
from loader.web.guard import RequestIds, TransferSlots, register_guard
from loader.web.replies import register_error_handlers

log = logging.getLogger(__name__)


def create_app(settings: Settings) -> Flask:
    """Make every part of the service and pass it to the parts that use it. Return the application.

    Raises BadSettings if SIGNING_KEY names no key.
    """
    key = signing_key(settings)
    logs.start_line(VERSION, settings.told())
    engine = DockerEngine(settings.engine_timeout)
    undo_leftover(settings, engine)
    api_client.configure(settings)
    _warn_of_settings(settings, engine)
    cache = ModelCache(settings.model_cache_dir, settings.model_cache_max_bytes, settings.api_patience)
    cache.remove_leftovers()
    forget_installed_head(settings.images_path)
    trust = ModelTrust(settings.publisher_keys, settings.model_cache_dir) if settings.publisher_keys else None
    store = ResourceStore(settings.model_cache_dir, cache, settings.api_patience, trust=trust, signing_key=key)
    throttle = LoginThrottle(max(1, settings.threads // 2))

    app = Flask(__name__, static_folder=None)
    register_guard(app, settings.trusted_hosts)
    register_error_handlers(app)
    slots = TransferSlots(settings.max_transfers)
    # Before the first thread that writes audit lines, because all of them are counted.
    app.register_blueprint(metrics.blueprint(settings, cache, slots))
    unattended = start_unattended_login(settings, engine)
    app.register_blueprint(health.blueprint(settings, engine, cache, unattended))
    app.register_blueprint(auth.blueprint(throttle, settings.model_cache_dir, unattended))
    app.register_blueprint(resources.blueprint(store, slots))
    app.register_blueprint(uploads.blueprint(store, slots))
    app.register_blueprint(models.blueprint(store, ModelList(cache, trust), slots))
    app.register_blueprint(cache_routes.blueprint(cache.upkeep, slots))
    app.register_blueprint(unlock.blueprint(settings, engine, throttle, unattended))
    app.register_blueprint(images.blueprint(settings, cache.received, slots))
    app.register_blueprint(page.blueprint())
    app.wsgi_app = RequestIds(app.wsgi_app)  # type: ignore[method-assign]  # Flask documents this as the place for middleware
    start_unattended(settings, cache.received)
    return app


def _warn_of_settings(settings: Settings, engine: DockerEngine) -> None:
    """Log what is unsafe or wrong in RESOURCE_API_URL, PUBLISHER_KEYS and DOCKER_HOST.

    None of it ends the start, because models are served without an engine too.
    """
    if settings.api_in_the_clear:
        log.warning("RESOURCE_API_URL is http:// and leads off this device: the network can read password and token")
    for text in settings.publisher_keys.warnings() if settings.publisher_keys else ():
        log.warning("%s", text)
    try:
        engine.check_settings()
    except EngineUnavailable as exc:
        log.warning("%s", exc)
