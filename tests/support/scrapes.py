"""GET /metrics, parsed as Prometheus parses it."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.support.http_calls import call

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Scrape:
    """The samples of one response, and its text."""

    text: str
    samples: dict[tuple[str, Labels], float]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of a metric of the loader, without the prefix of its name; None if there is none."""
        return self.samples.get((f"azaion_loader_{name}", frozenset(labels.items())))

    def labels(self, name: str) -> list[dict[str, str]]:
        """Return the labels of all samples of a metric that are not 0."""
        found = self.samples.items()
        return [dict(labels) for (each, labels), value in found if each == f"azaion_loader_{name}" and value]


def scrape(url: str) -> Scrape:
    """Request the metrics of the loader at `url`; no sample may be there twice."""
    reply = call(url, "GET", "/metrics")
    assert (reply.status, reply.headers["Content-Type"]) == (200, CONTENT_TYPE)
    text = reply.body.decode()
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    samples = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}
    assert len(samples) == len(found)
    return Scrape(text, samples)
