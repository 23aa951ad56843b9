"""Types of the public API, as mypy sees them in a user's file."""

from __future__ import annotations

import pytest

from tests.support.user_types import mypy_of_user

USER_FILE = """
from datetime import timedelta
from typing import Any

from arqestra import Backoff, Job, JobFunction, Pool, SyncJob, SyncPool, Worker, job


@job(queue="mail", timeout=5)
async def greet(ctx: Any, name: str, times: int = 1, *, loud: bool = False) -> list[str]:
    return [name] * times


@job
async def bare(ctx: Any, number: int) -> float:
    return number / 2


@job
def plain(ctx: Any, number: int) -> str:
    return str(number)


@job(executor="process", soft_timeout="1m", retry=Backoff(on=(OSError,)), rate_limit="10/m", concurrency=3)
def in_process(ctx: Any, number: int) -> bytes:
    return b""


async def plain_functions(pool: Pool) -> None:
    reveal_type(await pool.enqueue(plain, 3))
    reveal_type(plain(None, 3))
    reveal_type(await pool.enqueue(in_process.options(priority=3), 4))


async def right(pool: Pool) -> None:
    first = await pool.enqueue(greet, "Kim", 2, loud=True)
    reveal_type(first)
    assert first is not None
    reveal_type(await first.result())
    second = await pool.enqueue(greet.options(defer_by=3), "Kim")
    reveal_type(second)
    reveal_type(await bare(None, 3))
    await pool.enqueue_many([greet.bind("Kim"), bare.bind(1), ("by name", (1,), {"a": 2})])


def without_asyncio(sync: SyncPool, kept: SyncJob, number: SyncJob[int]) -> None:
    third = sync.enqueue(greet.options(queue="q"), "Kim", 2, loud=True)
    reveal_type(third)
    assert third is not None
    reveal_type(third.result(timeout=3))
    reveal_type(third.status())
    reveal_type(sync.enqueue(plain, 3))
    reveal_type(sync.enqueue_flow(bare.s(3)).result())
    reveal_type(kept.result())
    reveal_type(number.abort(timeout=3))
    reveal_type(sync.queue("mail").dead(limit=3))
    reveal_type(sync.schedules.list(queue="mail"))
    reveal_type(sync.signal("flow", "event", 3))
    reveal_type(sync.statistics(24, by_hour=True))
    fourth = greet.delay("Kim", loud=True)
    assert fourth is not None
    reveal_type(fourth.result(timeout=3))
    reveal_type(bare.options(queue="q").delay(3))
    reveal_type(plain.apply_async((3,), countdown=5, task_id="id"))
    sync.enqueue(greet, 3)  # wrong: type, without asyncio
    greet.delay(3)  # wrong: type, by the default pool
    greet.apply_async(("Kim",), eta=5)  # wrong: type of an option
    number.abort(timeout="3")  # wrong: type, of a job
    sync.queue("mail").dead(limits=3)  # wrong: name, of a queue


async def wrong(pool: Pool) -> None:
    await pool.enqueue(greet, 3)  # wrong: type
    await pool.enqueue(greet)  # wrong: missing
    await pool.enqueue(plain, "3")  # wrong: type, of a plain function
    job(rate_limit=10)  # wrong: type of an option
    await pool.enqueue(greet, "Kim", lout=True)  # wrong: name
    await pool.enqueue(greet.options(queue="q"), b"Kim")  # wrong: type, with options
    greet.bind(3)  # wrong: type, bound
    greet.options(defer="3")  # wrong: option
    job(retries=3)  # wrong: option of job


class OwnWorker(Worker):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)


def workers(settings: dict[str, Any]) -> None:
    Worker([greet], max_jobs=3, lease=timedelta(seconds=5), stuck_after=None)
    Worker(functions=[greet])
    Worker(**settings)
    OwnWorker([greet], max_jobs=3)
    reveal_type(Worker([greet]))
    reveal_type(Worker([greet]).max_jobs)
    Worker([greet], max_jobs="3")  # wrong: type of a setting
    Worker([greet], max_job=3)  # wrong: name of a setting
    Worker([greet], 3)  # wrong: settings have names
"""


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says of the user's file."""
    folder = tmp_path_factory.mktemp("typing")
    (folder / "user.py").write_text(USER_FILE, encoding="utf-8")
    return [line for line in mypy_of_user(folder, "user.py", cache="typing") if line.startswith("user.py:")]


def _line_of(marker: str) -> int:
    return next(number for number, line in enumerate(USER_FILE.splitlines(), 1) if marker in line)


def test_every_wrong_call_is_rejected_and_no_right_one(findings: list[str]) -> None:
    wrong = {number for number, line in enumerate(USER_FILE.splitlines(), 1) if "# wrong" in line}
    rejected = {int(line.split(":")[1]) for line in findings if ": error:" in line}

    assert rejected == wrong, "\n".join(findings)


@pytest.mark.parametrize(
    ("marker", "revealed"),
    [
        ("reveal_type(first)", "Job[list[str]] | None"),
        ("reveal_type(await first.result())", "list[str]"),
        ("reveal_type(second)", "Job[list[str]] | None"),
        ("reveal_type(await bare(None, 3))", "float"),
        ("reveal_type(await pool.enqueue(plain, 3))", "Job[str] | None"),
        ("reveal_type(plain(None, 3))", "str"),
        ("reveal_type(await pool.enqueue(in_process.options(priority=3), 4))", "Job[bytes] | None"),
        ("reveal_type(third)", "SyncJob[list[str]] | None"),
        ("reveal_type(third.result(timeout=3))", "list[str]"),
        ("reveal_type(third.status())", "arq.jobs.JobStatus"),
        ("reveal_type(sync.enqueue(plain, 3))", "SyncJob[str] | None"),
        ("reveal_type(sync.enqueue_flow(bare.s(3)).result())", "float"),
        ("reveal_type(kept.result())", "Any"),
        ("reveal_type(number.abort(timeout=3))", "bool"),
        ('reveal_type(sync.queue("mail").dead(limit=3))', "list[arqestra.handles.queue.DeadJob]"),
        (
            'reveal_type(sync.schedules.list(queue="mail"))',
            "list[arqestra.scheduling.schedules.ScheduleInfo]",
        ),
        ('reveal_type(sync.signal("flow", "event", 3))', "bool"),
        ("reveal_type(sync.statistics(24, by_hour=True))", "list[dict[str, Any]]"),
        ("reveal_type(fourth.result(timeout=3))", "list[str]"),
        ('reveal_type(bare.options(queue="q").delay(3))', "EnqueuedJob[float] | None"),
        ('reveal_type(plain.apply_async((3,), countdown=5, task_id="id"))', "EnqueuedJob[str] | None"),
        ("reveal_type(Worker([greet]))", "arqestra.worker.worker.Worker"),
        ("reveal_type(Worker([greet]).max_jobs)", "int"),
    ],
)
def test_results_have_the_type_of_the_function(findings: list[str], marker: str, revealed: str) -> None:
    notes = [line for line in findings if line.startswith(f"user.py:{_line_of(marker)}: note: Revealed type")]

    assert len(notes) == 1, "\n".join(findings)
    shown = notes[0].split('"')[1].replace("builtins.", "").replace("arqestra.handles.job.", "")
    shown = shown.replace("arqestra.client.sync_handles.", "").replace("arqestra.definitions.default_pool.", "")
    assert shown == revealed
