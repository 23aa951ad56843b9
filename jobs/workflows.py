"""The service's workflows: a chain, a chord and a group of its jobs, and `publish_album`, a durable one.

The first three are graphs: all of their jobs are known when they are enqueued. `publish_album` decides as it goes, and
goes on where it was after a crash, a deploy or an hour's sleep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from arqestra import Chain, Flow, Group, chord, group, workflow

from .email import send_email
from .images import process_batch_image
from .queues import DEFAULT_QUEUE
from .reports import generate_report
from .shards import fetch_partial_data, merge_results
from .users import fetch_data, process_data, send_notification

ALBUM_OPERATIONS: list[str | dict[str, Any]] = ["resize", "watermark"]
IMAGES_AT_ONCE = 10
LONG_REPORT_PAGES = 20


def notification_chain(user_id: str, email: str) -> Chain[dict[str, Any]]:
    """Read a user's orders, summarise them, and mail the summary."""
    chained: Chain[dict[str, Any]] = fetch_data.s(user_id) | process_data.s() | send_notification.s(email)
    return chained


def shard_totals(shards: Sequence[str], dataset: str) -> Chain[dict[str, Any]]:
    """Read all shards side by side, and merge their totals when the last one is read."""
    return chord([fetch_partial_data.s(shard) for shard in shards], merge_results.s(dataset))


def image_batch(paths: Sequence[str], widths: Sequence[int]) -> Group[dict[str, Any]]:
    """A thumbnail of each image in each width."""
    return group(
        process_batch_image.s(path, [{"name": "thumbnail", "width": width, "height": width}])
        for path in paths
        for width in widths
    )


@dataclass
class Album:
    """What was published.

    Attributes:
        images: results of `process_batch_image`, in the order of the paths.
        report: result of `generate_report`.
        mailed_to: who got the report.
    """

    images: list[dict[str, Any]]
    report: dict[str, Any]
    mailed_to: str


@workflow(name="publish_album", queue=DEFAULT_QUEUE, timeout="1d")
async def publish_album(flow: Flow, album: str, paths: list[str], email: str) -> Album:
    """Process the images of an album, report on it, and mail the report; a long one an hour later.

    Parameters:
        album: a name as `generate_report` takes it; the report's.
        paths: images as `process_image` takes them.
        email: who gets the report.

    Returns:
        An `Album`.

    Raises:
        Exception: what a step raises for good; the steps beside it are aborted.

    Running it twice publishes the album twice, with the same pictures and a report of the moment; its steps run once.
    """
    images = await flow.gather(*(process_batch_image.s(path, ALBUM_OPERATIONS) for path in paths), limit=IMAGES_AT_ONCE)
    report = await flow.run(generate_report.s(f"album-{album}"))
    if report["pages"] > LONG_REPORT_PAGES:
        await flow.sleep(hours=1)
    text = f"{len(images)} images were published; the report is attached.\n"
    await flow.run(send_email.s(email, f"Album {album}", text, attachments=[report["key"]]))
    return Album(images, report, email)
