"""Each tick is fired once; what a look says; missed ticks."""

from __future__ import annotations

from typing import Any

import pytest

from arqestra import cron, schedule
from arqestra.scheduling.definition import schedule_of_cron
from arqestra.store.codec import encode_extra
from arqestra.store.schedule_records import NewFiring, ScheduleRecord
from tests.schedule.harness import DAY_MS, HOUR_MS, KEYS, MINUTE_MS, QUEUE, ScheduleHarness, minutely
from tests.support.replies import reply_of
from tests.support.store_harness import Subscriber


async def test_a_tick_is_fired_when_it_is_due_and_not_before(harness: ScheduleHarness) -> None:
    assert await harness.upsert(minutely()) == "new"

    assert await harness.fired() == 0
    assert await harness.fired(MINUTE_MS - 1) == 0
    assert await harness.fired(1) == 1
    assert await harness.fired() == 0
    assert await harness.fired(MINUTE_MS) == 1
    assert [run.how for run in await harness.runs()] == ["t", "t"]
    assert len(await harness.queued()) == 2


async def test_of_two_schedulers_that_saw_the_same_one_fires(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    harness.clock.advance(MINUTE_MS)
    one, other = await harness.look(), await harness.look()

    assert await harness.fire(one) == ["fired"]
    assert await harness.fire(other) == ["changed"]
    assert await harness.queued() == [one[0].job_id]


async def test_a_call_that_is_sent_again_fires_nothing_more(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(missed="all"))
    await harness.turn()
    harness.clock.advance(3 * MINUTE_MS)
    seen = await harness.look()

    assert await harness.fire(seen) == ["fired"] * 3
    assert await harness.fire(seen) == ["changed"] * 3
    assert await harness.queued() == [step.job_id for step in seen]
    assert len(await harness.runs()) == 3


async def test_who_is_before_the_time_fires_nothing(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    harness.clock.advance(MINUTE_MS - 300)
    seen = await harness.look(ahead_ms=400)

    assert [step.note for step in seen] == ["t"]
    assert await harness.fire(seen) == ["early"]
    harness.clock.advance(300)
    assert await harness.fire(seen) == ["fired"]


async def test_what_was_changed_since_the_look_is_not_fired(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    harness.clock.advance(MINUTE_MS)
    seen = await harness.look()
    await harness.upsert(minutely("other"))

    assert await harness.fire(seen) == ["changed"]
    assert await harness.queued() == []
    assert await harness.fired() == 1  # the tick itself is not lost


@pytest.mark.parametrize("what", ["pause", "remove"])
async def test_what_was_paused_or_removed_since_the_look_is_not_fired(harness: ScheduleHarness, what: Any) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    harness.clock.advance(MINUTE_MS)
    seen = await harness.look()
    assert await harness.store.set("report", what)

    assert await harness.fire(seen) == ["changed"]
    assert await harness.fired(MINUTE_MS) == 0


async def test_a_tick_is_not_fired_again_when_its_result_is_gone(harness: ScheduleHarness) -> None:
    await harness.upsert(schedule_of_cron(cron(tidy, second=0, microsecond=0), "report"))
    await harness.turn()
    harness.clock.advance(MINUTE_MS)
    seen = await harness.look()
    assert await harness.fire(seen) == ["fired"]
    assert await harness.finish_jobs() == 1
    assert not {KEYS.job(seen[0].job_id), KEYS.result(seen[0].job_id)} & await harness.keys()

    assert await harness.fire(seen) == ["changed"]
    assert await harness.fired() == 0


async def tidy(ctx: Any) -> None: ...


async def test_a_tick_that_a_stock_worker_has_enqueued_is_not_doubled(harness: ScheduleHarness) -> None:
    made = schedule_of_cron(cron(tidy, second=0, microsecond=0), "report")
    await harness.upsert(made)
    await harness.turn()
    harness.clock.advance(MINUTE_MS)
    stock_id = f"{tidy.__qualname__}"
    stock_id = f"cron:{stock_id}:{harness.clock()}"
    await harness.redis.psetex(KEYS.job(stock_id), DAY_MS, b"payload")
    await harness.redis.zadd(harness.queue, {stock_id: harness.clock()})

    assert await harness.turn() == ["refused"]
    assert await harness.redis.get(KEYS.job(stock_id)) == b"payload"
    assert await harness.queued() == [stock_id]
    assert await harness.outcomes() == ["r"]
    assert await harness.fired(MINUTE_MS) == 1  # the next tick is nobody's


@pytest.mark.parametrize("seed", range(3))
async def test_any_number_of_schedulers_fire_each_tick_once(harness: ScheduleHarness, seed: int) -> None:
    """Each stops somewhere between look and fire, and comes back with what it saw."""
    await harness.upsert(minutely(missed="all"))
    await harness.turn()
    stopped: list[list[Any]] = []
    fired = 0
    for turn in range(60):
        harness.clock.advance((17_000, 43_000, 1_000, 75_000)[(turn * 7 + seed) % 4])
        stopped.append(await harness.look(ahead_ms=400))
        if (turn + seed) % 3 == 0:
            waiting, stopped = stopped[::-1] if seed % 2 else stopped, []
            for seen in waiting:
                fired += (await harness.fire(seen)).count("fired")
    fired += await harness.fired()

    minutes = (harness.clock() - harness.clock() % MINUTE_MS - (await harness.runs())[-1].tick) // MINUTE_MS
    assert fired == len(await harness.queued())
    assert minutes == 19  # twenty runs are kept, one for each minute
    assert fired == await ticks_since_start(harness)


async def ticks_since_start(harness: ScheduleHarness) -> int:
    changed = int(await reply_of(harness.redis.hget(KEYS.schedule("report"), "changed")))
    return (harness.clock() - changed) // MINUTE_MS


async def test_a_look_says_when_the_next_tick_is_and_leaves_out_what_is_not_due(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.upsert(schedule("0 * * * *", "hourly"))
    await harness.turn()
    harness.clock.advance(1_000)

    look = await harness.store.fetch_due(400, 1000)
    assert (look.now_ms, look.next_in_ms, look.due) == (harness.clock(), 59_000, [])
    look = await harness.store.fetch_due(MINUTE_MS, 1000)
    assert ([each.name for each in look.due], look.next_in_ms) == (["report"], HOUR_MS - 1_000)
    look = await harness.store.fetch_due(2 * HOUR_MS, 1000)
    assert ([each.name for each in look.due], look.next_in_ms) == (["report", "hourly"], None)
    look = await harness.store.fetch_due(2 * HOUR_MS, 1, 1)
    assert [each.name for each in look.due] == ["hourly"]


async def test_a_look_forgets_what_has_no_record(harness: ScheduleHarness) -> None:
    await harness.redis.zadd(KEYS.schedules(harness.queue), {"ghost": 0})

    assert (await harness.store.fetch_due(0, 10)).due == []
    assert await harness.redis.exists(KEYS.schedules(harness.queue)) == 0


async def test_dropped_ticks_are_noted(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(grace="30s"))
    await harness.turn()
    harness.clock.advance(10 * MINUTE_MS + 45_000)

    assert await harness.turn() == ["done"]
    (run,) = await harness.runs()
    assert (run.how, run.outcome, run.job_id, run.tick) == ("d", "d", "", harness.clock() - 45_000)
    assert await harness.fired(15_000) == 1


async def test_a_late_tick_is_noted_as_late(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    assert await harness.fired(MINUTE_MS + 5_000) == 1

    (run,) = await harness.runs()
    assert (run.how, run.fired_ms - run.due_ms, run.due_ms) == ("l", 5_000, run.tick)


async def test_ticks_of_a_pause_are_not_made_up_for(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(missed="all"))
    await harness.turn()
    assert await harness.store.set("report", "pause") is True
    assert await harness.store.set("report", "pause") is False
    assert await harness.fired(10 * MINUTE_MS) == 0
    assert await harness.store.set("report", "resume") is True
    assert await harness.store.set("report", "resume") is False

    assert await harness.fired() == 0
    assert await harness.fired(MINUTE_MS) == 1


@pytest.mark.parametrize("what", ["pause", "resume", "remove"])
async def test_what_is_not_there_cannot_be_changed(harness: ScheduleHarness, what: Any) -> None:
    assert await harness.store.set("nobody", what) is None
    assert await harness.keys() == set()


async def test_a_pause_survives_a_new_definition(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.store.set("report", "pause")
    assert await harness.upsert(minutely("other")) == "changed"
    process = harness.process(minutely("third"))
    harness.clock.advance(1_000)
    await harness.upsert(minutely("other"))
    later = harness.process(minutely("third"), born_ms=harness.clock() + 1)
    assert (await process.keep(), await later.keep()) == ([], ["changed"])

    assert await harness.fired(MINUTE_MS) == 0
    await harness.store.set("report", "resume")
    await later.keep()
    assert await harness.fired(MINUTE_MS) == 1
    assert await harness.function() == "third"


@pytest.mark.parametrize("entry", [("c", "limit", 5), ("r", "limit", 1000.0, 5)], ids=["concurrency", "rate"])
async def test_a_job_under_a_limit_wakes_a_worker(harness: ScheduleHarness, entry: Any) -> None:
    """Such a job goes into its limit group, not into the queue's order: workers are woken for it all the same."""
    store = harness.store
    extra = encode_extra(0, None, (entry,))
    await store.put(ScheduleRecord("n", "d", "t", None, "x", b"{}", b"p", extra), started_ms=None)
    record = dict(await store.read(["n"]))["n"]
    channel = KEYS.worker_channel("w1")
    await harness.redis.zadd(KEYS.waiting(QUEUE), {"w1": 1})
    fired = NewFiring(
        *("n", 0, record.rev, record.mark, record.mark + 1, record.mark + 10**6, "t", "", record.mark + 1, QUEUE),
        *("job", "", 0, b"payload", extra),
    )
    async with Subscriber(harness.redis, [channel]) as subscriber:
        await store.fire([fired])
        assert await subscriber.heard() == {channel: ["wake"]}
    assert await harness.redis.exists(KEYS.waiting(QUEUE)) == 0
