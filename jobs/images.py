"""The job `process_image`."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from arqestra import job

from .clients import Clients, clients_of
from .image_files import ProcessedImage, Rendering, path_below, read_image_file, write_image_file
from .image_operations import Operation, parse_operations
from .object_store import S3_SCHEME
from .queues import DEFAULT_QUEUE
from .settings import load_settings

BATCH_CONCURRENCY = 8


@job(name="process_image", queue=DEFAULT_QUEUE, timeout=120, rate_limit=load_settings().image_rate)
async def process_image(
    ctx: dict[str, Any],
    source: str,
    operations: list[str | dict[str, Any]],
    destination: str | None = None,
) -> dict[str, Any]:
    """Change an image and store the result beside, never over, the original.

    At most `SERVICE_IMAGE_RATE` of these jobs, 10 a minute, start in the whole fleet; the others wait without a slot.

    Parameters:
        source: a path below `SERVICE_IMAGE_ROOT`, or an `s3://` location in the service's bucket.
        operations: names, such as `["resize", "watermark"]`, or dicts with parameters, such as
            `{"name": "resize", "width": 640}`; docs/service.md lists them.
        destination: a path below `SERVICE_IMAGE_OUTPUT_ROOT`, or an `s3://` location; by default
            `processed/<name>-<hash of source and operations>.<suffix>` where the source came from.

    Returns:
        `{"key", "width", "height", "size_bytes", "format", "sha256"}`; `key` is the destination.

    Raises:
        InvalidOperation: an unknown operation or parameter.
        UnsafePath: a path outside its folder, or another bucket.
        ImageTooLarge: more bytes or pixels than allowed; the pixels are judged by the header, before decoding.
        InvalidInput: not an image, or a damaged one.
        ObjectMissing: no such source.

    Running it twice is harmless: the destination follows from the arguments, and is replaced whole by the same picture.
    """
    return await _processed(ctx, source, operations, destination)


@job(name="process_batch_image", queue=DEFAULT_QUEUE, timeout=120, concurrency=BATCH_CONCURRENCY)
async def process_batch_image(
    ctx: dict[str, Any], source: str, operations: list[str | dict[str, Any]]
) -> dict[str, Any]:
    """One image of a batch or an album: as `process_image`, under another limit.

    A batch is one piece of work, so it is not spread over minutes; at most 8 of its images are worked on at once in the
    whole fleet, and the slots are left to others.

    Parameters:
        source: as of `process_image`.
        operations: as of `process_image`.

    Returns:
        As `process_image`.

    Raises:
        InvalidOperation, UnsafePath, ImageTooLarge, InvalidInput, ObjectMissing: as `process_image`.

    Running it twice is harmless, as it is with `process_image`.
    """
    return await _processed(ctx, source, operations, None)


async def _processed(
    ctx: dict[str, Any], source: str, operations: list[str | dict[str, Any]], destination: str | None
) -> dict[str, Any]:
    clients = clients_of(ctx)
    settings = clients.settings
    parsed = parse_operations(operations)
    if destination is not None:
        _check_location(clients, destination)

    data = await _read(clients, source)
    image = await render(clients, Rendering(data, parsed, settings.image_max_pixels))
    key = destination or default_destination(source, parsed, image.suffix)
    await _write(clients, key, image)
    return image.description(key)


def default_destination(source: str, operations: tuple[Operation, ...], suffix: str) -> str:
    """Return where the result goes when the caller does not say: the same place for the same work."""
    work = json.dumps([source, [operation.model_dump() for operation in operations]], sort_keys=True)
    name = f"processed/{PurePosixPath(source).stem}-{sha256(work.encode()).hexdigest()[:10]}{suffix}"
    if not source.startswith(S3_SCHEME):
        return name
    bucket = source.removeprefix(S3_SCHEME).partition("/")[0]
    return f"{S3_SCHEME}{bucket}/{name}"


def _output_root(clients: Clients) -> Path:
    return clients.settings.image_output_root or clients.settings.image_root


def _check_location(clients: Clients, location: str) -> None:
    """Refuse a bad destination before any work is done."""
    if location.startswith(S3_SCHEME):
        clients.store.key_of(location)
    else:
        path_below(_output_root(clients), location)


async def _read(clients: Clients, source: str) -> bytes:
    max_bytes = clients.settings.image_max_bytes
    if source.startswith(S3_SCHEME):
        return await clients.store.read(source, max_bytes)
    path = path_below(clients.settings.image_root, source)
    return await clients.in_thread(read_image_file, path, max_bytes)


async def render(clients: Clients, rendering: Rendering) -> ProcessedImage:
    """Work in a thread; a job that is aborted or times out stops libvips instead of leaving it at work."""
    try:
        return await clients.in_thread(rendering.run)
    except asyncio.CancelledError:
        rendering.cancel()
        raise


async def _write(clients: Clients, key: str, image: ProcessedImage) -> None:
    if key.startswith(S3_SCHEME):
        await clients.store.write(key, image.data, image.content_type)
    else:
        await clients.in_thread(write_image_file, path_below(_output_root(clients), key), image.data)
