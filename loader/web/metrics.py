"""GET /metrics: the state of this device and the outcomes of its requests, in the text format 0.0.4 of Prometheus.

Counters begin at 0 with the process. All other values are read at each request, from memory and from small files. The
engine and the resource API are not asked, so that a request never waits for them. No label has the name of a model, a
user, an address or a path; codes, events, routes and states are fixed sets.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from flask import Blueprint, Response, g, request
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from loader import api_client, logs
from loader.errors import LoaderError
from loader.fetch.run import fetch_status
from loader.fetch.state import FetchState
from loader.files import free_bytes
from loader.last_events import SUCCESS, last_events
from loader.model_cache.cache import ModelCache
from loader.references import LATEST
from loader.settings import Settings
from loader.unlock.releases_here import ReleasesHere
from loader.unlock.run import unlock_status
from loader.unlock_state import UnlockState
from loader.version import VERSION
from loader.web.guard import EVENTS, TransferSlots

NAMESPACE = "azaion_loader"
# Their last success is known since the start only, because each load would otherwise write to the flash of the device.
IN_MEMORY = ("load", "upload")
# The release that API_VERSION asks for, beside the places of `ReleaseHere`.
EXPECTED = "expected"
# The route of a request that no route takes.
NO_ROUTE = "none"


def blueprint(settings: Settings, cache: ModelCache, slots: TransferSlots) -> Blueprint:
    """Return the route. From now on audit lines are counted, and so are the responses of the application."""
    routes = Blueprint("metrics", __name__)
    # When a counter began is when the process did, which has a metric of its own.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the package gives it no types
    registry = CollectorRegistry()
    counters = Counters(registry)
    registry.register(DeviceCollector(settings, cache, slots, counters))
    ProcessCollector(registry=registry)
    logs.observe_audit(counters.count_operation)
    routes.after_app_request(counters.count_request)

    @routes.get("/metrics")
    def metrics() -> Response:
        """The state of the device and counters, for Prometheus. Asks neither the engine nor the resource API."""
        headers = {"Cache-Control": "no-store"}
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4, headers=headers)

    return routes


class Counters:
    """What has to be counted when it happens. Threads may share it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._operations = Counter(
            "operations",
            "Audit lines: operations by event, outcome, and the code of the error.",
            ["event", "outcome", "code"],
            namespace=NAMESPACE,
            registry=registry,
        )
        self._requests = Counter(
            "http_requests",
            "Responses by route, HTTP status, and the code of the error.",
            ["route", "status", "code"],
            namespace=NAMESPACE,
            registry=registry,
        )
        self._successes: dict[str, float] = {}
        for event in set(EVENTS.values()):
            self._operations.labels(event, SUCCESS, "")

    @property
    def last_successes(self) -> Mapping[str, float]:
        """When the last of each event of IN_MEMORY ended well, in seconds since the epoch."""
        return dict(self._successes)

    def count_operation(self, line: Mapping[str, Any]) -> None:
        """Count an audit line."""
        event, outcome = line["event"], line["outcome"]
        self._operations.labels(event, outcome, line["code"] or "").inc()
        if outcome == SUCCESS and event in IN_MEMORY:
            self._successes[event] = time.time()

    def count_request(self, response: Response) -> Response:
        """Count a response, whose body may still be cut later."""
        self._requests.labels(request.endpoint or NO_ROUTE, response.status_code, g.get("code", "")).inc()
        return response


class DeviceCollector(Collector):
    """Reads the state of the device. Never raises."""

    def __init__(self, settings: Settings, cache: ModelCache, slots: TransferSlots, counters: Counters) -> None:
        self._settings = settings
        self._cache = cache
        self._slots = slots
        self._counters = counters
        self._releases = ReleasesHere(settings)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics that are read now."""
        yield InfoMetricFamily(NAMESPACE, "The version of the loader.", {"version": VERSION})
        yield from self._logins()
        yield from _unlocks()
        yield from _fetches()
        yield from self._known_releases()
        yield from self._last_events()
        yield _gauge("transfer_slots", "Transfers that may run at a time.", self._slots.count)
        yield _gauge("transfer_slots_taken", "Transfers that run.", self._slots.taken)
        yield from self._cached()

    def _logins(self) -> Iterator[Metric]:
        yield _gauge("authenticated", "1 if somebody is logged in.", api_client.authenticated())
        yield _gauge("api_lost", "1 if the last request to the resource API got no response.", api_client.is_lost())

    def _known_releases(self) -> Iterator[Metric]:
        here = list(self._releases.all())
        versions = [((each.place, each.release.version), 1) for each in here]
        if self._settings.api_version != LATEST:
            versions.append(((EXPECTED, self._settings.api_version), 1))
        yield _gauges("release_info", "The versions of releases.", ("place", "version"), versions)
        serials = [((each.place,), each.release.serial) for each in here]
        yield _gauges("release_serial", "The serials of the same releases.", ("place",), serials)
        proven = [((each.place,), each.proven) for each in here]
        yield _gauges("release_proven", "1 if the head was authenticated on this device.", ("place",), proven)

    def _last_events(self) -> Iterator[Metric]:
        known = {event: last for event, last in last_events(self._settings.model_cache_dir).items() if last is not None}
        moments = {event: last.succeeded_at for event, last in known.items()}
        successes = {event: datetime.fromisoformat(at).timestamp() for event, at in moments.items() if at is not None}
        yield _gauges(
            "last_success_timestamp_seconds",
            "When the last of each ended well.",
            ("event",),
            _by_name({**successes, **self._counters.last_successes}),
        )
        failures = {event: not last.is_success for event, last in known.items()}
        yield _gauges("last_failed", "1 if the last of each has failed.", ("event",), _by_name(failures))

    def _cached(self) -> Iterator[Metric]:
        """Yield nothing while the disk of the cache cannot be read."""
        try:
            status, free = self._cache.status(), free_bytes(self._settings.model_cache_dir)
        except (LoaderError, OSError):
            return
        yield _gauge("cache_parts", "Whole parts of models in the cache.", status.entries)
        yield _gauge("cache_bytes", "The size of these parts.", status.bytes)
        yield _gauge("cache_limit_bytes", "MODEL_CACHE_MAX_BYTES; 0 is no limit.", self._cache.upkeep.max_bytes)
        yield _gauge("cache_free_bytes", "Free bytes of the disk of the cache.", free)
        running = status.downloads
        done, expected = sum(each.bytes_done for each in running), sum(each.bytes_total for each in running)
        yield _gauge("downloads", "Downloads of models that run.", len(running))
        yield _gauge("download_done_bytes", "What of these models is here.", done)
        yield _gauge("download_expected_bytes", "The size of these models.", expected)


def _unlocks() -> Iterator[Metric]:
    record, progress = unlock_status()
    yield _states("unlock_state", "1 for the state of the unlock.", UnlockState, record.state)
    yield _gauge("unlock_proven", "1 if the unlock is ready, and its list of images was authenticated.", record.proven)
    durations = progress.duration_seconds if progress is not None else {}
    text = "How long each step of the current or last unlock has taken."
    yield _gauges("unlock_step_seconds", text, ("step",), _by_name(durations))


def _fetches() -> Iterator[Metric]:
    record, progress = fetch_status()
    yield _states("fetch_state", "1 for the state of the fetch.", FetchState, record.state)
    if progress is not None:
        yield _gauge("fetch_done_bytes", "What the current or last fetch has brought.", progress.bytes_done)
        yield _gauge("fetch_expected_bytes", "What the current or last fetch brings.", progress.bytes_total)


def _gauge(name: str, text: str, value: float) -> Metric:
    return _gauges(name, text, (), [((), value)])


def _states(name: str, text: str, states: type[StrEnum], present: StrEnum) -> Metric:
    return _gauges(name, text, ("state",), [((state,), state is present) for state in states])


def _gauges(name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(f"{NAMESPACE}_{name}", text, labels=labels)
    for named, value in values:
        family.add_metric(named, value)
    return family


def _by_name(values: Mapping[str, float]) -> list[tuple[tuple[str, ...], float]]:
    return [((name,), value) for name, value in values.items()]
