"""`arqestra worker`: processes that are started, replaced and stopped, with real ones."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from arqestra import Pool
from arqestra.cli.worker import parse_queues
from arqestra.errors import SettingsError
from tests.support.supervised import Supervise
from tests.support.supervised_jobs import hoard, nap, spin, swallow, until_file, whereabouts
from tests.support.wait import wait_until


async def results(pool: Pool, calls: list[Any], timeout_s: float = 60) -> list[Any]:
    jobs = await pool.enqueue_many(calls)
    return [await job.result(timeout=timeout_s) for job in jobs if job is not None]


async def test_processes_share_a_queue_and_end_on_sigterm(supervise: Supervise, pool: Pool) -> None:
    supervised = supervise("--processes", "2", "--concurrency", "5", "--shutdown-timeout", "10")
    await wait_until(lambda: len(supervised.pids) == 2, lambda: supervised.output)
    assert {run["pid"] for run in await results(pool, [nap.bind(0.3)] * 20)} == set(supervised.pids)

    last = await pool.enqueue(nap, 1.0)
    assert last is not None
    await wait_until(lambda: last.job_id in supervised.log.started(), "the job to start")
    supervised.process.terminate()

    assert await supervised.ended() == 0
    assert (await last.result(timeout=1))["job_try"] == 1
    assert supervised.alive == []


async def test_a_second_signal_gives_the_jobs_back_at_once(supervise: Supervise, pool: Pool) -> None:
    supervised = supervise("--shutdown-timeout", "60")
    job = await pool.enqueue(nap, 50.0)
    assert job is not None
    await wait_until(lambda: job.job_id in supervised.log.started(), lambda: supervised.output)
    started = time.monotonic()

    supervised.process.send_signal(signal.SIGINT)
    await wait_until(lambda: "processes drain" in supervised.output, lambda: supervised.output)
    supervised.process.send_signal(signal.SIGINT)

    assert await supervised.ended() == 0
    assert time.monotonic() - started < 40
    assert (await pool.store.peek(job.job_id, pool.default_queue_name)).lease is None


async def test_recycling_by_jobs_loses_and_doubles_nothing(supervise: Supervise, pool: Pool) -> None:
    supervised = supervise("--processes", "2", "--max-jobs-per-child", "100", "--shutdown-timeout", "10")
    jobs = [job for job in await pool.enqueue_many([nap.bind(0.02)] * 600) if job is not None]
    ids = [job.job_id for job in jobs]
    assert {(await job.result(timeout=60))["job_try"] for job in jobs} == {1}

    summary = supervised.log.summary(ids)
    assert (summary.lost, summary.duplicated) == ((), ())
    assert len(supervised.pids) >= 4
    assert "max_jobs_per_child 100" in supervised.output


async def test_recycling_by_memory(supervise: Supervise, pool: Pool) -> None:
    supervised = supervise("--max-memory-per-child", "200MB")
    first = (await results(pool, [hoard.bind(200)]))[0]
    await wait_until(lambda: len(supervised.pids) == 2 and first not in supervised.alive, lambda: supervised.output)
    assert "max_memory_per_child 200 MB" in supervised.output
    assert (await results(pool, [nap.bind(0)]))[0]["pid"] == supervised.pids[1]


async def test_a_killed_process_is_replaced(supervise: Supervise, pool: Pool) -> None:
    supervised = supervise()
    await wait_until(lambda: len(supervised.pids) == 1, lambda: supervised.output)
    await results(pool, [nap.bind(0)])

    os.kill(supervised.pids[0], signal.SIGKILL)

    assert (await results(pool, [nap.bind(0)]))[0]["pid"] != supervised.pids[0]


async def test_processes_end_when_their_supervisor_is_killed(supervise: Supervise, pool: Pool) -> None:
    supervised = supervise("--processes", "2")
    await results(pool, [nap.bind(0.1)] * 10)
    supervised.process.kill()

    await wait_until(lambda: supervised.alive == [], lambda: f"{supervised.alive} to end")


async def test_a_job_that_blocks_the_loop_is_failed_and_its_neighbours_run_elsewhere(
    supervise: Supervise, pool: Pool, tmp_path: Path
) -> None:
    supervised = supervise("--shutdown-timeout", "1")
    gate = tmp_path / "gate"
    neighbours = [await pool.enqueue(until_file, str(gate)) for _ in range(5)]
    await wait_until(lambda: len(supervised.log.started()) == 5, lambda: supervised.output)
    culprit = await pool.enqueue(spin)
    assert culprit is not None

    with pytest.raises(TimeoutError, match="blocked the event loop past its limit of 1"):
        await culprit.result(timeout=30)
    gate.touch()

    for job in neighbours:
        assert job is not None
        run = await job.result(timeout=30)
        assert (run["job_try"], run["pid"]) == (1, supervised.pids[1])
    assert "while True" in supervised.output or "in spin" in supervised.output
    assert "ended with 70" in supervised.output


@pytest.mark.slow  # half a minute: its neighbours have that long to end
async def test_a_job_that_swallows_its_cancellation_has_its_process_replaced(supervise: Supervise, pool: Pool) -> None:
    supervised = supervise("--shutdown-timeout", "1")
    culprit = await pool.enqueue(swallow)
    assert culprit is not None
    with pytest.raises(TimeoutError, match="did not end after its time limit"):
        await culprit.result(timeout=30)

    await wait_until(lambda: len(supervised.pids) == 2, lambda: supervised.output)
    assert (await results(pool, [nap.bind(0)]))[0]["job_try"] == 1
    await wait_until(lambda: supervised.pids[0] not in supervised.alive, lambda: supervised.output)


async def test_a_burst_ends_by_itself(supervise: Supervise, pool: Pool) -> None:
    await pool.enqueue_many([nap.bind(0)] * 50)
    supervised = supervise("--processes", "2", "--burst")

    assert await supervised.ended() == 0
    assert await pool.queue().depth() == 0


@pytest.mark.parametrize(
    ("settings", "processes"),
    [
        ("Burst", "1"),
        ("Burst", "2"),
        ("WornBurst", "1"),
        ("WornBurst", "2"),
        ("BURST_DICT", "1"),
        ("BURST_OBJECT", "1"),
    ],
)
async def test_a_burst_of_the_settings_ends_by_itself(
    supervise: Supervise, pool: Pool, settings: str, processes: str
) -> None:
    await pool.enqueue_many([nap.bind(0)] * 20)
    supervised = supervise("--processes", processes, settings=f"tests.support.supervised_jobs.{settings}")

    assert await supervised.ended() == 0
    assert await pool.queue().depth() == 0
    if settings != "WornBurst":
        assert len(supervised.pids) == int(processes)


async def test_several_queues_by_option(supervise: Supervise, pool: Pool) -> None:
    supervise("--queues", "a=2,b=1")
    for queue in ("a", "b"):
        job = await pool.enqueue(nap.options(queue=queue), 0)
        assert job is not None
        assert (await job.result(timeout=30))["job_try"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--max-memory-per-child", "lots"), "--max-memory-per-child: expected bytes"),
        (("--key-prefix", "a:b"), "--key-prefix: expected up to 64 letters"),
        (("--shutdown-timeout", "1e99"), "--shutdown-timeout: expected 0 or more seconds"),
        (("--queues", "a=6,b"), "expected names, or name=weight for each"),
        (("--processes", "0"), "processes"),
        (("--watch", "/nonexistent-folder"), "expected a folder"),
    ],
)
async def test_bad_options_are_refused(supervise: Supervise, options: tuple[str, ...], words: str) -> None:
    supervised = supervise(*options)

    assert await supervised.ended() == 2
    assert words in " ".join(re.sub("[│╭╮╰╯─]", " ", supervised.output).split())


async def test_settings_that_do_not_import_end_the_supervisor_with_the_error(
    supervise: Supervise,
) -> None:
    supervised = supervise(settings="tests.integration.nothing_here.Settings")

    assert await supervised.ended() == 1
    assert "No module named 'tests.integration.nothing_here'" in supervised.output
    assert len(supervised.pids) == 1


@pytest.mark.slow
async def test_a_startup_that_always_fails_ends_the_supervisor(supervise: Supervise) -> None:
    supervised = supervise(settings="tests.support.supervised_jobs.Broken")

    assert await supervised.ended() == 1
    assert "no database" in supervised.output
    assert len(supervised.pids) == 5


@pytest.mark.slow
async def test_jobs_of_a_replaced_process_end_also_without_a_shutdown_timeout(supervise: Supervise, pool: Pool) -> None:
    supervised = supervise(settings="tests.support.supervised_jobs.Hasty")
    jobs = [job for job in await pool.enqueue_many([nap.bind(0.3)] * 200) if job is not None]
    assert {(await job.result(timeout=60))["job_try"] for job in jobs} == {1}

    assert supervised.log.summary([job.job_id for job in jobs]).duplicated == ()
    assert len(supervised.pids) >= 3


async def test_sighup_replaces_every_process(supervise: Supervise, pool: Pool) -> None:
    supervised = supervise("--processes", "2")
    await wait_until(lambda: len(supervised.pids) == 2, lambda: supervised.output)
    await results(pool, [nap.bind(0)])
    before = set(supervised.pids)

    supervised.process.send_signal(signal.SIGHUP)

    await wait_until(lambda: len(supervised.pids) == 4, lambda: supervised.output)
    await wait_until(lambda: not before & set(supervised.alive), lambda: supervised.output)
    assert (await results(pool, [nap.bind(0)]))[0]["pid"] in supervised.pids[2:]


async def test_a_restart_during_a_replacement_is_not_forgotten(supervise: Supervise, pool: Pool) -> None:
    supervised = supervise()
    await wait_until(lambda: len(supervised.pids) == 1, lambda: supervised.output)
    await results(pool, [nap.bind(0)])

    supervised.process.send_signal(signal.SIGHUP)
    await wait_until(lambda: len(supervised.pids) == 2, lambda: supervised.output)
    supervised.process.send_signal(signal.SIGHUP)  # the second process has started with the code of before

    await wait_until(lambda: len(supervised.pids) == 3, lambda: supervised.output)
    await wait_until(lambda: supervised.alive == supervised.pids[2:], lambda: supervised.output)


async def test_processes_for_jobs_end_when_their_worker_is_killed(supervise: Supervise, pool: Pool) -> None:
    supervised = supervise("--processes", "1")
    await wait_until(lambda: len(supervised.pids) == 1, lambda: supervised.output)
    first = (await results(pool, [whereabouts.bind()]))[0]
    assert psutil.pid_exists(first)

    os.kill(supervised.pids[0], signal.SIGKILL)

    await wait_until(lambda: not psutil.pid_exists(first), lambda: f"process {first} to end")


def test_queues_in_order_and_with_weights() -> None:
    assert parse_queues("a, b") == ["a", "b"]
    assert parse_queues("a=6,b=3") == {"a": 6, "b": 3}
    with pytest.raises(SettingsError):
        parse_queues("a=x,b=1")
    with pytest.raises(SettingsError, match="each queue once"):
        parse_queues("a=1,a=2")
