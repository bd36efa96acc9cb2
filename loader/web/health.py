"""GET /health and GET /status."""

from __future__ import annotations

from flask import Blueprint

from loader import api_client
from loader.model_cache.cache import ModelCache
from loader.settings import Settings
from loader.version import VERSION
from loader.web.schemas import HealthResponse, StatusResponse


def blueprint(settings: Settings, cache: ModelCache) -> Blueprint:
    """The routes."""
    routes = Blueprint("health", __name__)

    @routes.get("/health")
    def health() -> dict[str, object]:
        """Liveness: says that this process answers, and asks nobody else."""
        return dict(HealthResponse().dump({"status": "healthy"}))

    @routes.get("/status")
    def status() -> dict[str, object]:
        """The version, whether somebody has logged in, and what the cache holds and fetches."""
        fields = {
            "status": "healthy",
            "version": VERSION,
            "authenticated": api_client.authenticated(),
            "modelCacheDir": str(settings.model_cache_dir),
            "cache": cache.status(),
        }
        return dict(StatusResponse().dump(fields))

    return routes
