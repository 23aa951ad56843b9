"""Scripts are sent by their SHA1, and in full to a server that has forgotten them (SCRIPT FLUSH, restart, failover)."""

from __future__ import annotations

from arqestra.protocol.keys import Keys
from arqestra.store.records import Ending
from arqestra.store.scripts import script
from arqestra.store.store import Store
from tests.support.store_harness import QUEUE, Scene


async def test_every_transition_works_on_a_server_that_knows_no_script(scene: Scene) -> None:
    async def forget() -> None:
        await scene.redis.script_flush()

    worker = scene.worker()
    await forget()
    assert await scene.enqueue("a", "b") == [True, True]
    await forget()
    first, second = (await worker.claim()).jobs
    await forget()
    assert (await worker.renew(first)).lost == []
    await forget()
    assert await scene.store.abort("b", QUEUE) == "running"
    await forget()
    assert await worker.finish(first, result=b"failed")
    await forget()
    assert await scene.store.requeue("a", QUEUE, b"failed", b"payload") == "queued"
    await forget()
    assert await scene.store.delete("a", QUEUE) == "deleted"
    await forget()
    assert (await scene.store.peek("b", QUEUE)).in_progress
    await forget()
    await scene.store.statistics.write({"q|f|complete": 2}, {"q|f|run_ms_max": 3})
    assert await worker.finish(second)


async def test_outcomes_and_claim_of_one_round_trip_both_survive(scene: Scene) -> None:
    await scene.enqueue("a", "b")
    worker = scene.worker()
    job = await worker.claim_one()
    assert worker.request is not None
    await scene.redis.script_flush()

    written, claimed = await scene.store.turn(
        [Ending(job.id, QUEUE, job.token, "end")], worker.request._replace(number=2)
    )

    assert written == [True]
    assert claimed is not None
    assert [found.id for found in claimed.jobs] == ["b"]


async def test_a_known_script_is_not_sent_in_full(scene: Scene) -> None:
    await scene.enqueue("a")
    await scene.redis.config_resetstat()
    await scene.enqueue("b")
    await scene.enqueue("c")

    statistics = await scene.redis.info("commandstats")
    assert statistics["cmdstat_evalsha"]["calls"] == 2
    assert "cmdstat_eval" not in statistics


async def test_another_namespace_has_keys_of_its_own(scene: Scene) -> None:
    keys = Keys(
        job_prefix="{t}job:",
        lease_prefix="{t}lease:",
        attempts_prefix="{t}try:",
        result_prefix="{t}result:",
        aborts="{t}abort",
        ours="{t}ours:",
    )
    assert script("claim", keys).sha != script("claim", Keys()).sha
    tagged = Scene(scene.redis, scene.clock)
    tagged.store = Store(scene.redis, keys, scene.clock)
    try:
        await tagged.enqueue("a", queue="{t}queue")
        job = (await tagged.worker(queue="{t}queue").claim(wait=True)).jobs[0]
        await tagged.worker(queue="{t}queue").finish(job)
    finally:
        await tagged.store.close()

    assert await scene.keys() == {"{t}result:a", "{t}ours:waiting:{t}queue"}
