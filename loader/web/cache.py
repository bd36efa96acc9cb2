"""GET /cache, POST /cache/verify and POST /cache/clear."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from flask import Blueprint

from loader.model_cache.upkeep import CacheUpkeep, PartListing
from loader.web.guard import TransferSlots
from loader.web.model_schemas import CacheClearResponse, CacheListResponse, CacheVerifyResponse


def blueprint(upkeep: CacheUpkeep, slots: TransferSlots) -> Blueprint:
    """Return the routes."""
    routes = Blueprint("cache", __name__)

    @routes.get("/cache")
    def listing() -> dict[str, object]:
        """The encrypted parts on this device."""
        parts = upkeep.listing()
        fields = {
            "entries": [_entry(part) for part in parts],
            "bytes": sum(part.bytes for part in parts),
            "max_bytes": upkeep.max_bytes,
        }
        return dict(CacheListResponse().dump(fields))

    @routes.post("/cache/verify")
    def verify() -> dict[str, object]:
        """Compare every whole part with its digest. Takes a slot, because it uses the disk as much as a load."""
        with slots.take():
            return dict(CacheVerifyResponse().dump(upkeep.verify()))

    @routes.post("/cache/clear")
    def clear() -> dict[str, object]:
        """Remove every part that is not in use."""
        return dict(CacheClearResponse().dump(upkeep.clear()))

    return routes


def _entry(part: PartListing) -> dict[str, object]:
    last_used = datetime.fromtimestamp(part.last_used, UTC).isoformat(timespec="milliseconds")
    return {**asdict(part), "last_used": last_used}
