"""process_image with real files and real objects: where it reads, where it writes, and what it never touches."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import pyvips

from jobs.clients import Clients
from jobs.errors import ImageTooLarge, InvalidOperation, ObjectMissing, UnsafePath
from jobs.image_files import path_below, write_image_file
from jobs.images import process_image, render

PHOTOGRAPH = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
Ctx = dict[str, Any]


@pytest.fixture
def photograph(clients: Clients) -> str:
    """The name of a photograph below the image root."""
    shutil.copy(PHOTOGRAPH, clients.settings.image_root / "grace.jpg")
    return "grace.jpg"


async def test_plain_names_from_file_to_file(ctx: Ctx, clients: Clients, photograph: str) -> None:
    result = await process_image(ctx, photograph, ["resize", "watermark"])
    data = (clients.settings.image_output_root / result["key"]).read_bytes()
    image = pyvips.Image.new_from_buffer(data, "")
    assert result == {
        "key": result["key"],
        "width": image.width,
        "height": image.height,
        "size_bytes": len(data),
        "format": "jpeg",
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert result["key"].startswith("processed/grace-")


def output_root(clients: Clients) -> Path:
    root = clients.settings.image_output_root
    assert root is not None
    return root


async def test_twice_gives_the_same_result_in_the_same_place(ctx: Ctx, clients: Clients, photograph: str) -> None:
    first = await process_image(ctx, photograph, ["thumbnail"])
    assert await process_image(ctx, photograph, ["thumbnail"]) == first
    assert len(list((output_root(clients) / "processed").iterdir())) == 1


async def test_other_operations_go_to_another_place(ctx: Ctx, photograph: str) -> None:
    keys = [(await process_image(ctx, photograph, [name]))["key"] for name in ("thumbnail", "crop")]
    assert len(set(keys)) == 2


async def test_from_object_to_object(ctx: Ctx, clients: Clients) -> None:
    store = clients.store
    await store.write("in/grace.jpg", PHOTOGRAPH.read_bytes(), "image/jpeg")
    result = await process_image(ctx, store.url_of("in/grace.jpg"), [{"name": "convert", "format": "webp"}])
    data = await store.read(result["key"], max_bytes=10_000_000)
    assert result["key"].startswith(f"s3://{store.bucket}/processed/grace-")
    assert hashlib.sha256(data).hexdigest() == result["sha256"]


async def test_from_file_to_a_chosen_object_and_back(ctx: Ctx, clients: Clients, photograph: str) -> None:
    target = clients.store.url_of("out/a.jpg")
    assert (await process_image(ctx, photograph, ["crop"], target))["key"] == target
    result = await process_image(ctx, target, ["crop"], "sub/b.jpg")
    assert (output_root(clients) / "sub" / "b.jpg").stat().st_size == result["size_bytes"]


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "/etc/passwd", "a/../../secret.jpg", "", ".", "link/secret.jpg", "a\0b"]
)
async def test_paths_outside_the_root_are_refused(ctx: Ctx, clients: Clients, photograph: str, path: str) -> None:
    root = clients.settings.image_root
    shutil.copy(PHOTOGRAPH, root.parent / "secret.jpg")
    (root / "link").symlink_to(root.parent)
    with pytest.raises(UnsafePath):
        await process_image(ctx, path, ["resize"])


@pytest.mark.parametrize(
    "destination", ["../escaped.jpg", "/tmp/escaped.jpg", "link/escaped.jpg", "s3://other/x.jpg", "s3:///"]
)
async def test_destinations_outside_are_refused_before_any_work(
    ctx: Ctx, clients: Clients, photograph: str, destination: str
) -> None:
    output = output_root(clients)
    output.mkdir()
    (output / "link").symlink_to(output.parent)
    with pytest.raises(UnsafePath):
        await process_image(ctx, photograph, ["resize"], destination)
    assert not list(output.parent.rglob("escaped.jpg"))


async def test_foreign_bucket_is_refused(ctx: Ctx) -> None:
    with pytest.raises(UnsafePath, match="lies in bucket 'foreign'"):
        await process_image(ctx, "s3://foreign/a.jpg", ["resize"])


async def test_missing_sources_are_a_clear_error(ctx: Ctx, clients: Clients) -> None:
    with pytest.raises(ObjectMissing, match=r"'nothing\.jpg'"):
        await process_image(ctx, "nothing.jpg", ["resize"])
    os.mkfifo(clients.settings.image_root / "pipe.jpg")
    with pytest.raises(ObjectMissing, match=r"'pipe\.jpg'"):
        await process_image(ctx, "pipe.jpg", ["resize"])
    with pytest.raises(ObjectMissing, match=r"nothing\.jpg"):
        await process_image(ctx, clients.store.url_of("nothing.jpg"), ["resize"])


async def test_unknown_operation_is_refused_before_the_source_is_read(ctx: Ctx) -> None:
    with pytest.raises(InvalidOperation, match="unknown operation 'sharpen'"):
        await process_image(ctx, "nothing.jpg", ["sharpen"])


async def test_file_and_object_over_the_size_limit_are_refused(ctx: Ctx, clients: Clients, photograph: str) -> None:
    limited = clients.settings.model_copy(update={"image_max_bytes": 1_000})
    tight = {**ctx, "clients": Clients(limited, clients.mail, clients.store, clients.threads)}
    with pytest.raises(ImageTooLarge, match="larger than the 1,000 bytes"):
        await process_image(tight, photograph, ["resize"])


async def test_bomb_is_refused(ctx: Ctx, clients: Clients) -> None:
    bomb = pyvips.Image.black(20_000, 20_000).write_to_buffer(".png", bitdepth=1)
    (clients.settings.image_root / "bomb.png").write_bytes(bomb)
    with pytest.raises(ImageTooLarge, match="20000x20000 pixels"):
        await process_image(ctx, "bomb.png", ["thumbnail"])


async def test_an_aborted_job_stops_its_thread(clients: Clients) -> None:
    started, stopped = threading.Event(), threading.Event()

    class Endless:
        def run(self) -> None:
            started.set()
            stopped.wait()

        def cancel(self) -> None:
            stopped.set()

    task = asyncio.create_task(render(clients, Endless()))  # type: ignore[arg-type]
    await asyncio.to_thread(started.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()


def test_a_name_with_dots_that_stays_inside_is_fine(tmp_path: Path) -> None:
    assert path_below(tmp_path, "a/../b.jpg") == tmp_path.resolve() / "b.jpg"


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    write_image_file(path, b"old")
    with pytest.raises(TypeError):
        write_image_file(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
