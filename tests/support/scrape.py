"""Scraping: an exposition over HTTP, and what is in it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


class Scraped:
    """The samples of an exposition.

    :param text: in Prometheus' text format, or OpenMetrics
    """

    def __init__(self, text: str, *, open_metrics: bool = False) -> None:
        parse = open_metrics_families if open_metrics else text_string_to_metric_families
        self.families = {family.name: family for family in parse(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def of(self, name: str, **labels: str) -> list[Sample]:
        """Samples of a name that have these labels."""
        return [
            sample
            for sample in self.samples
            if sample.name == name and all(sample.labels.get(label) == value for label, value in labels.items())
        ]

    def sum(self, name: str, **labels: str) -> float:
        return sum(sample.value for sample in self.of(name, **labels))

    def one(self, name: str, **labels: str) -> float:
        (sample,) = self.of(name, **labels)
        return sample.value

    def counters(self) -> Iterator[tuple[tuple[str, frozenset[tuple[str, str]]], float]]:
        """Each sample that must never fall: of counters and histograms."""
        for family in self.families.values():
            if family.type in ("counter", "histogram"):
                for sample in family.samples:
                    yield (sample.name, frozenset(sample.labels.items())), sample.value


async def fetch(url: str, *, method: str = "GET", accept: str = "") -> Response:
    """One request."""
    address, _, path = url.removeprefix("http://").partition("/")
    host, _, port = address.rpartition(":")
    return await say(
        (host.strip("[]"), int(port)), f"{method} /{path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n"
    )


async def say(address: tuple[str, int], text: str) -> Response:
    """What is answered to these bytes."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(text.encode())
            answer = (await reader.read()).decode()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    first, *fields = head.split("\r\n")
    headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    return Response(int(first.split(" ")[1]), headers, body)


async def scrape(url: str) -> Scraped:
    """The metrics that are served there."""
    response = await fetch(url)
    assert response.status == 200, response.body
    return Scraped(response.body)
