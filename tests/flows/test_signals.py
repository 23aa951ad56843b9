"""Signals: only workflows get them, and one that is sent again with its key counts once."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from arq.connections import ArqRedis

from arqestra import ArgumentsError, Flow, FlowHandle, Pool, Worker, job, workflow
from tests.support.pools import url_of
from tests.support.redis_clock import until_too_late
from tests.support.replies import reply_of
from tests.support.wait import PATIENCE_S, wait_until

QUEUE = "orders"


@job
async def plain(ctx: Any, number: int = 0) -> int:
    return number


@job
async def hold(ctx: Any) -> None:
    ctx["started"].set()
    await ctx["let_go"].wait()


@workflow
async def collect(flow: Flow, count: int) -> list[Any]:
    """As many events as it is told to, and then whatever else has come."""
    found = [await flow.wait_for("item") for _ in range(count)]
    await flow.wait_for("end")
    try:
        while True:
            found.append(await flow.wait_for("item", timeout=0.05))
    except TimeoutError:
        return found


@workflow
async def in_rounds(flow: Flow, round_: int = 1) -> Any:
    item = await flow.wait_for("item")
    if round_ == 1:
        flow.continue_as_new(2)
    await flow.wait_for("end")
    return item


@workflow
async def parent(flow: Flow) -> Any:
    return await flow.run(collect.s(1).set(queue=QUEUE))


FUNCTIONS = [plain, hold, collect, in_rounds, parent]


def worker_of(pool: Pool, **settings: Any) -> Worker:
    ctx = {"started": asyncio.Event(), "let_go": asyncio.Event()}
    options: dict[str, Any] = {"serializer": pool.serializer, "handle_signals": False, "ctx": ctx, **settings}
    return Worker(FUNCTIONS, redis_settings=url_of(pool), **options)


async def stop(worker: Worker, running: asyncio.Future[None]) -> None:
    worker.ctx["let_go"].set()
    await worker.close()
    await asyncio.gather(running, return_exceptions=True)


async def snapshot(pool: Pool) -> set[bytes]:
    """What signals could have left."""
    return {key for key in await pool.keys("arqestra:flow*")}


async def made_of(pool: Pool, function: Any, *args: Any, **options: Any) -> str:
    made = await pool.enqueue(function.options(**options) if options else function, *args)
    assert made is not None
    return made.job_id


# -- jobs that are no workflows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["enqueue", "by name", "deferred", "stock arq", "a step of a flow"])
async def test_a_waiting_job_gets_no_signal_and_nothing_is_written(pool: Pool, way: str) -> None:
    worker = worker_of(pool)
    running = asyncio.ensure_future(worker.async_run())
    await wait_until(lambda: pool.exists(pool.store.keys.workflow_names), "the worker has said which are workflows")
    await stop(worker, running)
    if way == "stock arq":
        stock = ArqRedis(pool.connection_pool, job_serializer=pool.serializer.dumps)
        made: Any = await stock.enqueue_job("plain", 1)
        job_id = made.job_id
    elif way == "a step of a flow":
        flow = await pool.enqueue_flow(plain.s(1) | plain.s())
        job_id = f"{flow.flow_id}~1"
    elif way == "by name":
        made = await pool.enqueue_job("plain", 1)
        job_id = made.job_id
    else:
        job_id = await made_of(pool, plain, 1, **({"defer_by": 60} if way == "deferred" else {}))
    before = await snapshot(pool)

    assert await pool.signal(job_id, "item", 1) is False
    assert await pool.signal(job_id, "item", 1, key="once") is False
    assert await FlowHandle(job_id, pool).signal("item", 1) is False

    assert await snapshot(pool) == before


async def test_a_running_job_and_a_graph_get_none_either(pool: Pool) -> None:
    worker = worker_of(pool)
    running = asyncio.ensure_future(worker.async_run())
    job_id = await made_of(pool, hold)
    await worker.ctx["started"].wait()
    flow = await pool.enqueue_flow(plain.s(1).set(defer_by=60), flow_id="graph")
    before = await snapshot(pool)

    assert await pool.signal(job_id, "item", 1) is False
    assert await pool.signal("graph", "item", 1) is False
    assert await flow.signal("item", 1) is False
    assert await pool.signal("nobody", "item", 1) is False

    assert await snapshot(pool) == before
    await stop(worker, running)


async def test_arguments_that_this_process_cannot_unpickle_do_not_matter(pool: Pool) -> None:
    if pool.serializer.name != "pickle":
        return
    payload = {"t": None, "f": "collect", "a": (), "k": {}, "et": 1, "o": {"wf": 1}}
    data = pickle.dumps(payload, 0).replace(b"(t", b"(cno_such_module\nNoSuchClass\n(tRt", 1)
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(data)
    await pool.set(pool.store.keys.job("odd"), data)

    assert await pool.signal("odd", "item", 1) is True


# -- workflows ----------------------------------------------------------------------------------------------------


async def test_a_workflow_that_has_not_begun_gets_it_wherever_it_is(pool: Pool) -> None:
    job_id = await made_of(pool, collect, 2, queue=QUEUE)
    assert await pool.signal(job_id, "item", 1)
    assert await pool.flow(job_id).signal("item", 2)
    assert await pool.signal(job_id, "end")
    worker = worker_of(pool, queue_name=QUEUE)
    running = asyncio.ensure_future(worker.async_run())

    assert await pool.job(job_id, queue=QUEUE).result(timeout=PATIENCE_S) == [1, 2]
    await stop(worker, running)


async def test_one_that_was_enqueued_by_name_is_known_once_a_worker_was_there(pool: Pool) -> None:
    early: Any = await pool.enqueue_job("collect", 1, _queue_name="nobodys")
    assert await pool.signal(early.job_id, "item", 1) is False
    worker = worker_of(pool)
    running = asyncio.ensure_future(worker.async_run())
    await wait_until(lambda: pool.exists(pool.store.keys.workflow_names), "the worker has said which are workflows")

    assert await pool.signal(early.job_id, "item", 1) is True
    assert 0 < await pool.pttl(pool.store.keys.workflow_names) <= 30 * 86_400_000
    await stop(worker, running)


async def test_a_workflow_in_a_workflow_gets_it_too(pool: Pool) -> None:
    worker = worker_of(pool)
    running = asyncio.ensure_future(worker.async_run())
    job_id = await made_of(pool, parent)
    child = f"{job_id}~1"

    async def is_asked_for() -> bool:
        return bool(await pool.exists(pool.store.keys.job(child)))

    await wait_until(is_asked_for, "the step is queued")
    await pool.delete(pool.store.keys.workflow_names)  # its payload says what it is
    assert await pool.signal(child, "item", 5)
    assert await pool.signal(child, "end")
    serving = worker_of(pool, queue_name=QUEUE)
    also_running = asyncio.ensure_future(serving.async_run())

    assert await pool.job(job_id).result(timeout=PATIENCE_S) == [5]
    await stop(serving, also_running)
    await stop(worker, running)


async def test_one_that_is_run_again_is_still_known(pool: Pool) -> None:
    job_id = await made_of(pool, collect, 1, queue=QUEUE, expires=0.01)
    await until_too_late(pool, pool.job(job_id))
    worker = worker_of(pool, queue_name=QUEUE)
    running = asyncio.ensure_future(worker.async_run())
    again = pool.job(job_id, queue=QUEUE)
    await asyncio.wait([asyncio.ensure_future(again.result(timeout=PATIENCE_S))])
    await stop(worker, running)
    await pool.delete(pool.store.keys.workflow_names)
    await again.retry()

    assert await pool.signal(job_id, "item", 1) is True


# -- keys ---------------------------------------------------------------------------------------------------------


async def test_with_a_key_an_event_counts_once(pool: Pool) -> None:
    job_id = await made_of(pool, collect, 2)
    for _ in range(3):  # before it has begun
        assert await pool.signal(job_id, "item", "a", key="1")
    worker = worker_of(pool)
    running = asyncio.ensure_future(worker.async_run())
    for _ in range(3):  # while it runs, also a key that it has taken
        assert await pool.signal(job_id, "item", "a", key="1")
        assert await pool.flow(job_id).signal("item", "b", key="2")
    assert await pool.signal(job_id, "other", key="2")  # a key is one of its event
    assert await reply_of(pool.llen(pool.store.keys.flow_log(job_id))) == 3
    assert await pool.signal(job_id, "end")

    assert await pool.job(job_id).result(timeout=PATIENCE_S) == ["a", "b"]
    assert await pool.pttl(pool.store.keys.flow_sent(job_id)) > 0
    assert await pool.signal(job_id, "item", "a", key="1") is False  # it has ended
    await stop(worker, running)
    assert await pool.flow(job_id).forget()
    assert not await pool.exists(pool.store.keys.flow_sent(job_id))


async def test_many_senders_of_one_key_count_once(pool: Pool) -> None:
    job_id = await made_of(pool, collect, 1)
    sent = await asyncio.gather(*(pool.signal(job_id, "item", number, key="k") for number in range(50)))

    assert sent == [True] * 50
    assert await reply_of(pool.llen(pool.store.keys.flow_log(job_id))) == 1


async def test_a_key_counts_once_over_all_rounds_of_a_workflow_and_anew_in_its_next_life(pool: Pool) -> None:
    job_id = "rounds"
    assert await pool.enqueue(in_rounds.options(job_id=job_id)) is not None
    worker = worker_of(pool)
    running = asyncio.ensure_future(worker.async_run())
    assert await pool.signal(job_id, "item", "first", key="k")

    async def is_in_round_two() -> bool:
        return await pool.hget(pool.store.keys.flow(job_id), "rounds") == b"1"  # type: ignore[misc]

    await wait_until(is_in_round_two, "it has begun anew")
    assert await pool.signal(job_id, "item", "again", key="k")  # counts no more
    assert await pool.signal(job_id, "item", "second")
    assert await pool.signal(job_id, "end")
    assert await pool.job(job_id).result(timeout=PATIENCE_S) == "second"
    await stop(worker, running)

    await pool.delete(pool.store.keys.result(job_id))
    assert await pool.enqueue(collect.options(job_id=job_id), 1) is not None
    assert await pool.signal(job_id, "item", "of another life", key="k")
    assert await pool.signal(job_id, "end")
    worker = worker_of(pool)
    running = asyncio.ensure_future(worker.async_run())
    assert await pool.job(job_id).result(timeout=PATIENCE_S) == ["of another life"]
    await stop(worker, running)


@pytest.mark.parametrize("key", ["", 5, b"k"])
async def test_a_key_is_text(pool: Pool, key: Any) -> None:
    with pytest.raises(ArgumentsError, match="signal: key: expected a str of at least one character"):
        await pool.signal("any", "item", key=key)


@pytest.mark.parametrize("flow_id", [None, 5, b"a", ""])
async def test_an_id_that_is_none_is_refused(pool: Pool, flow_id: Any) -> None:
    with pytest.raises(ArgumentsError, match="signal: flow id: expected a str of at least one character"):
        await pool.signal(flow_id, "go")
