"""The showcase's work: every job of the service on real input, each step with a progress bar and an outcome."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.request import urlopen

from rich.progress import Progress

from arqestra import Canvas, FlowHandle, Job, JobFunction, Pool, every, schedule

from .email import send_email
from .images import process_image
from .maintenance import cleanup_sessions, health_check
from .object_store import S3_SCHEME, ObjectStore
from .reports import generate_report
from .settings import ServiceSettings
from .showcase_input import MAX_SHARD_BYTES, SHARDS, ShowcaseInput, cut_into_shards, orders_of
from .workflows import Album, image_batch, notification_chain, publish_album, shard_totals

RESULT_TIMEOUT_S = 120
RESULT_TIMEOUT_EACH_S = 10
STATISTICS_TIMEOUT_S = 5
EXPIRED_SESSIONS = 1_200
BATCH_IMAGES = 100
ALBUM_IMAGES = 3
PULSES = 3
PULSE_S = 15  # how often it goes on after the showcase
PULSE = "pulse"
_USER = {"name": "Grace Hopper 그레이스 호퍼", "email": "grace.hopper@example.org"}

# What each photograph goes through, from the plain names of arq's and Celery's guides to every parameter.
OPERATION_SETS: tuple[list[str | dict[str, Any]], ...] = (
    ["resize", "watermark"],
    [{"name": "thumbnail", "width": 256, "height": 256}, {"name": "convert", "format": "webp", "quality": 80}],
    [{"name": "crop"}, {"name": "resize", "width": 400, "height": 400}, {"name": "convert", "format": "png"}],
    [
        {"name": "rotate", "angle": -6, "background": "#ffffff"},
        {"name": "watermark", "text": "© arqestra", "position": "centre", "share": 0.6, "opacity": 0.5},
        {"name": "convert", "format": "jpeg", "quality": 90},
    ],
)
Advance = Callable[[], None]
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class StepFailed(Exception):
    """A step ended, and what it produced is not what it should be."""


@dataclass(frozen=True)
class Outcome:
    """How one step ended.

    Attributes:
        step: its name.
        ok: whether it did what it should.
        produced: what came out, or what went wrong.
        where: where to look at it.
        spent_ms: from the first enqueue to the last result.
    """

    step: str
    ok: bool
    produced: str
    where: str = ""
    spent_ms: float = 0.0


@dataclass(frozen=True)
class Place:
    """What the showcase works with.

    Attributes:
        pool: the queue.
        store: the S3 bucket.
        settings: the settings that the workers have, too.
        folder: where results are put for a person to look at.
        run_id: tells this run's reports and data from another's.
    """

    pool: Pool
    store: ObjectStore
    settings: ServiceSettings
    folder: Path
    run_id: str


class ShowcaseWork:
    """Runs the steps one after the other and remembers how each ended.

    Parameters:
        place: queue, bucket and folders.
        given: the input.
        progress: where bars are drawn.
    """

    def __init__(self, place: Place, given: ShowcaseInput, progress: Progress) -> None:
        self._place = place
        self._given = given
        self._progress = progress
        self._shard_rows: dict[str, int] = {}
        self._report_key = ""
        self._cleanups_before = 0
        self.outcomes: list[Outcome] = []

    async def run(self) -> list[Outcome]:
        """Do everything. A failed step does not stop the others, but for those that need what it produces."""
        images = len(self._given.images) * len(OPERATION_SETS) + 1
        size_bytes = self._given.table.stat().st_size
        shards = max(SHARDS, math.ceil(size_bytes / MAX_SHARD_BYTES))
        await self._step("Health check", 1, self._health)
        await self._step("Images", images, self._images)
        await self._step("Shards uploaded", shards, self._upload)
        await self._step("Chord of shards", shards + 1, self._totals)
        await self._step("Notification chain", 4, self._notify)
        await self._step("Group of images", BATCH_IMAGES, self._batch)
        await self._step("Sessions cleaned", 1, self._clean)
        await self._step("Report", 1, self._report)
        await self._step("Report mailed", 1, self._mail)
        await self._step("Schedule at run time", PULSES, self._pulse)
        await self._step("Album published", ALBUM_IMAGES + 2, self._album)
        return self.outcomes

    async def _step(self, name: str, total: int, work: Callable[[Advance], Awaitable[tuple[str, str]]]) -> None:
        bar = self._progress.add_task(name, total=total)
        started = time.perf_counter()
        try:
            produced, where = await work(lambda: self._progress.advance(bar))
        except Exception as error:  # the table tells the user, and the exit code tells a script
            self.outcomes.append(Outcome(name, False, f"{type(error).__name__}: {error}"))
            self._progress.update(bar, description=f"[red]{name}")
            return
        spent_ms = (time.perf_counter() - started) * 1000
        self.outcomes.append(Outcome(name, True, produced, where, spent_ms))
        self._progress.update(bar, completed=total, total=total)

    async def _health(self, advance: Advance) -> tuple[str, str]:
        health = await self._result_of(health_check)
        if health["status"] != "ok":
            raise StepFailed(f"degraded: {health['checks']}")
        return " · ".join(f"{name} {check['latency_ms']} ms" for name, check in health["checks"].items()), ""

    async def _images(self, advance: Advance) -> tuple[str, str]:
        store, root = self._place.store, self._given.image_root
        jobs = [
            await self._enqueued(process_image, name, operations)
            for name in self._given.images
            for operations in OPERATION_SETS
        ]
        first = self._given.images[0]
        data = await asyncio.to_thread((root / first).read_bytes)
        location = await store.write(f"originals/{first}", data, "application/octet-stream")
        jobs.append(await self._enqueued(process_image, location, ["thumbnail", "watermark"]))

        results = await _results(jobs, advance)
        await self._download(results[-1]["key"], self._place.folder / "images" / "from-s3")
        size_kb = sum(result["size_bytes"] for result in results) / 1000
        produced = f"{len(results)} pictures, {size_kb:,.0f} kB, at most {self._place.settings.image_rate} in the fleet"
        return produced, str(self._place.folder / "images")

    async def _upload(self, advance: Advance) -> tuple[str, str]:
        size_bytes = 0
        prefix = f"shards/{self._place.run_id}/"
        for shard in cut_into_shards(self._given.table, prefix):
            await self._place.store.write(shard.key, shard.data, shard.content_type)
            self._shard_rows[shard.key] = shard.rows
            size_bytes += len(shard.data)
            advance()
        produced = f"{len(self._shard_rows)} shards (CSV and JSON), {size_bytes / 1000:,.0f} kB"
        return produced, self._place.store.url_of(prefix)

    async def _totals(self, advance: Advance) -> tuple[str, str]:
        canvas = shard_totals(list(self._shard_rows), _plain_name(self._given.table.stem))
        _, merged = await self._result_of_flow(canvas, advance)
        if merged["rows"] + merged["rejected"] != sum(self._shard_rows.values()):
            raise StepFailed(f"the totals have {merged['rows']:,} rows of {sum(self._shard_rows.values()):,}")
        numeric = [name for name, column in merged["columns"].items() if column["count"]]
        await self._download(merged["key"], self._place.folder / "totals")
        name = merged["key"].rpartition("/")[2]
        produced = f"{merged['shards']} shards, {merged['rows']:,} rows, {len(numeric)} columns"
        return produced, str(self._place.folder / "totals" / name)

    async def _batch(self, advance: Advance) -> tuple[str, str]:
        names = self._given.images[:BATCH_IMAGES]
        widths = [48 + 8 * number for number in range(math.ceil(BATCH_IMAGES / len(names)))]
        canvas = image_batch(names, widths)
        canvas = replace(canvas, parts=canvas.parts[:BATCH_IMAGES])
        _, results = await self._result_of_flow(canvas, advance)
        size_kb = sum(result["size_bytes"] for result in results) / 1000
        return f"{len(results)} thumbnails, {size_kb:,.0f} kB", str(self._place.folder / "images" / "processed")

    async def _album(self, advance: Advance) -> tuple[str, str]:
        names = [self._given.images[number % len(self._given.images)] for number in range(ALBUM_IMAGES)]
        job = await self._enqueued(publish_album, self._place.run_id, names, _USER["email"])
        watching = asyncio.create_task(self._watch(job, advance))
        try:
            album: Album = await job.result(timeout=RESULT_TIMEOUT_S)
        finally:
            watching.cancel()
        produced = f"{len(album.images)} images, {album.report['pages']} pages, mailed to {album.mailed_to}"
        return f"durable: {produced}", self._mail_folder

    async def _pulse(self, advance: Advance) -> tuple[str, str]:
        """Define a schedule while everything runs, see it fired, and leave it at a slower pace."""
        schedules = self._place.pool.schedules
        fast = schedule(every(1), health_check, name=PULSE, overlap="skip")
        since = (await schedules.upsert(fast)).handled_until
        done = 0
        async with asyncio.timeout(RESULT_TIMEOUT_S):
            while done < PULSES:
                await asyncio.sleep(0.1)
                runs = [run for run in await schedules.history(PULSE) if run.tick > since and run.outcome == "complete"]
                for _ in range(min(len(runs), PULSES) - done):
                    advance()
                done = min(len(runs), PULSES)
        late_ms = max(run.lateness_s for run in runs) * 1000
        slow = await schedules.upsert(schedule(every(PULSE_S), health_check, name=PULSE, overlap="skip"))
        known = ", ".join(sorted(info.name for info in await schedules.list() if info.source == "code"))
        return f"{fast.words}: {done} runs, at most {late_ms:.0f} ms late; now {slow.words}", f"beside {known}"

    async def _watch(self, job: Job[Album], advance: Advance) -> None:
        """Show the steps of a workflow as they are done."""
        async for event in self._place.pool.flow(job.job_id).events():
            if event.state == "complete":
                advance()

    async def _notify(self, advance: Advance) -> tuple[str, str]:
        store = self._place.store
        orders = await asyncio.to_thread(orders_of, self._given.table)
        await store.write("users/grace/profile.json", json.dumps(_USER).encode(), "application/json")
        await store.write("users/grace/orders.json", json.dumps(orders).encode(), "application/json")
        flow, queued = await self._result_of_flow(notification_chain("grace", _USER["email"]), advance)
        summary = await self._place.pool.job(f"{flow.flow_id}~2").result()
        mail = self._place.pool.job(queued["mail_job_id"], queue=send_email.queue)
        sent = await _awaited(mail.result(timeout=RESULT_TIMEOUT_S), advance)
        return f"{summary['orders']} orders, mail {sent['status']} to {sent['to']}", self._mail_folder

    async def _clean(self, advance: Advance) -> tuple[str, str]:
        settings, pool = self._place.settings, self._place.pool
        now_s = time.time()
        prefix = settings.session_key_prefix
        expired = {f"{self._place.run_id}-{number}": now_s - number - 60 for number in range(EXPIRED_SESSIONS)}
        await pool.mset({prefix + session: b"{}" for session in expired})
        await pool.zadd(settings.session_index, expired)
        self._cleanups_before = await self._cleanups_counted()
        cleaned = await self._result_of(cleanup_sessions)
        left = await pool.exists(*(prefix + session for session in expired))
        if left:
            raise StepFailed(f"{left} expired sessions are left: {cleaned}")
        return f"{cleaned['removed']:,} sessions in {cleaned['batches']} batches", ""

    async def _cleanups_counted(self) -> int:
        rows = await self._place.pool.statistics(hours=24)
        return sum(row["complete"] for row in rows if row["function"] == cleanup_sessions.name)

    async def _statistics_written(self) -> None:
        """Wait until the worker has counted this run: it writes its statistics once a second."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STATISTICS_TIMEOUT_S):
                # Another process counts, and tells nobody when it has.
                while await self._cleanups_counted() <= self._cleanups_before:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    async def _report(self, advance: Advance) -> tuple[str, str]:
        await self._statistics_written()
        report = await self._result_of(generate_report, f"showcase-{self._place.run_id}")
        self._report_key = report["key"]
        path = self._place.folder / "reports" / f"{report['id']}.pdf"
        # Through the presigned link, as a reader would get it.
        await _save(path, await asyncio.to_thread(_get, report["url"]))
        missing = f", {len(report['missing_glyphs'])} characters without a font" if report["missing_glyphs"] else ""
        return f"PDF, {report['pages']} pages, {report['size_bytes'] / 1000:,.0f} kB{missing}", str(path)

    async def _mail(self, advance: Advance) -> tuple[str, str]:
        if not self._report_key:
            raise StepFailed("there is no report to mail")
        subject, body = "일일 보고서 · The report of this run", "The report is attached.\n"
        html = "<p>The <b>report</b> is attached.</p>"
        attachments = [self._report_key]
        sent = await self._result_of(send_email, _USER["email"], subject, body, html, attachments)
        return f"mail {sent['status']} to {sent['to']}", self._mail_folder

    @property
    def _mail_folder(self) -> str:
        return str(self._place.folder / "mail" / self._place.run_id)

    async def _enqueued(
        self, function: JobFunction[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Job[Result]:
        job = await self._place.pool.enqueue(function, *args, **kwargs)
        if job is None:
            raise StepFailed(f"a job of {function.name} with this id exists")
        return job

    async def _result_of_flow(self, canvas: Canvas[Result], advance: Advance) -> tuple[FlowHandle[Result], Result]:
        """Enqueue a flow, show how many of its jobs have ended, and return what it returns."""
        flow = await self._place.pool.enqueue_flow(canvas)
        shown, ended = 0, False
        async with asyncio.timeout(RESULT_TIMEOUT_S):
            while not ended:
                with suppress(TimeoutError):
                    ended = bool(await flow.wait(timeout=0.1))
                done = (await flow.progress()).done
                for _ in range(done - shown):
                    advance()
                shown = done
        return flow, await flow.result(timeout=RESULT_TIMEOUT_S)

    async def _result_of(
        self, function: JobFunction[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Enqueue one job and wait for what it returns."""
        job = await self._enqueued(function, *args, **kwargs)
        return await job.result(timeout=RESULT_TIMEOUT_S)

    async def _download(self, location: str, folder: Path) -> None:
        """Copy an object where a person can look at it: the development S3 forgets everything when it stops."""
        key = location.removeprefix(f"{S3_SCHEME}{self._place.store.bucket}/")
        data = await self._place.store.read(key, max_bytes=self._place.settings.image_max_bytes)
        await _save(folder / key.rpartition("/")[2], data)


async def _awaited(result: Awaitable[Result], advance: Advance) -> Result:
    value = await result
    advance()
    return value


async def _results(jobs: list[Job[Result]], advance: Advance) -> list[Result]:
    """Wait for all, also when one failed, so that no bar moves after its step has ended."""
    timeout_s = RESULT_TIMEOUT_S + RESULT_TIMEOUT_EACH_S * len(jobs)
    results = (_awaited(job.result(timeout=timeout_s), advance) for job in jobs)
    finished = []
    for value in await asyncio.gather(*results, return_exceptions=True):
        if isinstance(value, BaseException):
            raise value
        finished.append(value)
    return finished


async def _save(path: Path, data: bytes) -> None:
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    await asyncio.to_thread(path.write_bytes, data)


def _get(url: str) -> bytes:
    with urlopen(url, timeout=30) as response:
        data: bytes = response.read()
        return data


def _plain_name(stem: str) -> str:
    """Make a data set's name out of a file's, which may be in any script."""
    name = "".join(character if character.isascii() and character.isalnum() else "-" for character in stem)
    return name.strip("-")[:80] or "table"
