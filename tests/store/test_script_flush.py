"""A server that has forgotten our scripts (FUNCTION FLUSH, SCRIPT FLUSH, a restart) is given them again, unseen."""

from __future__ import annotations

import pytest

from arqestra.protocol.keys import Keys
from arqestra.store.scripts import Library, library
from arqestra.store.store import Store
from tests.support.store_harness import QUEUE, StoreHarness
from tests.support.updates import RawUpdate


async def test_every_transition_works_on_a_server_that_knows_no_script(harness: StoreHarness) -> None:
    async def forget() -> None:
        await harness.redis.script_flush()
        await harness.redis.execute_command("FUNCTION", "FLUSH")

    worker = harness.worker()
    await forget()
    assert await harness.enqueue("a", "b") == [True, True]
    await forget()
    first, second = (await worker.claim()).jobs
    await forget()
    assert (await worker.renew(first)).lost == []
    await forget()
    assert await harness.store.abort("b", QUEUE) == "running"
    await forget()
    assert await worker.finish(first, result=b"failed")
    await forget()
    assert await harness.store.requeue("a", QUEUE, b"failed", b"payload") == "queued"
    await forget()
    assert await harness.store.delete("a", QUEUE) == "deleted"
    await forget()
    assert (await harness.store.peek("b", QUEUE)).in_progress
    await forget()
    await harness.store.statistics.write({"q|f|complete": 2}, {"q|f|run_ms_max": 3})
    assert await worker.finish(second)


async def test_outcomes_and_claim_of_one_round_trip_both_survive(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b")
    worker = harness.worker()
    job = await worker.claim_one()
    assert worker.request is not None
    await harness.redis.script_flush()
    await harness.redis.execute_command("FUNCTION", "FLUSH")

    written, claimed = await harness.store.turn(
        [RawUpdate(job.id, QUEUE, job.token, "end").update()], worker.request._replace(number=2)
    )

    assert written == [True]
    assert claimed is not None
    assert [found.id for found in claimed.jobs] == ["b"]


async def test_a_known_script_is_not_sent_in_full(harness: StoreHarness, functions: bool) -> None:
    await harness.enqueue("a")
    await harness.redis.config_resetstat()
    await harness.enqueue("b")
    await harness.enqueue("c")

    statistics = await harness.redis.info("commandstats")
    assert statistics["cmdstat_fcall" if functions else "cmdstat_evalsha"]["calls"] == 2
    assert not {"cmdstat_eval", "cmdstat_function|load"} & set(statistics)


async def test_another_namespace_has_keys_of_its_own(harness: StoreHarness) -> None:
    other = StoreHarness(harness.redis, harness.clock)
    other.store = Store(harness.redis, Keys.of("app"), harness.clock)
    try:
        await other.enqueue("a")
        job = (await other.worker().claim(wait=True)).jobs[0]
        await other.worker().finish(job)
    finally:
        await other.store.close()

    assert await harness.keys() == {"app:arq:result:a", f"app:arqestra:waiting:{QUEUE}"}


@pytest.mark.parametrize(
    "load", [f"#!lua name={library().name}\nredis.register_function('other', function() end)", "#!lua name=x\nno Lua"]
)
async def test_a_call_works_where_the_library_that_was_sent_is_not_there(
    harness: StoreHarness, functions: bool, monkeypatch: pytest.MonkeyPatch, load: str
) -> None:
    """Somebody flushed it between the two, or the server refuses it: the text goes along."""
    if not functions:
        pytest.skip("no library")
    await harness.redis.execute_command("FUNCTION", "FLUSH")
    monkeypatch.setattr("arqestra.store.link.library", lambda: Library(library().name, load))
    assert await harness.enqueue("a", "b") == [True, True]
    assert await harness.enqueue("c") == [True]
    assert await harness.worker().claim_ids() == ["a", "b", "c"]
