"""`arqestra queues`."""

from __future__ import annotations

from arqestra import Pool, Worker
from arqestra.cli.fleet import read_fleet
from tests.support.command_line import CommandLine, plain
from tests.support.wait import wait_until


async def test_queues_are_found_and_counted(arqestra: CommandLine, pool: Pool) -> None:
    await pool.enqueue_job("double", _priority=2)
    await pool.enqueue_job("double", _defer_by=60)
    await pool.enqueue_job("double", _queue_name="mail")
    await pool.zadd("somebody-elses", {"member": 1})
    await pool.queue("quiet").pause()

    document = (await arqestra("queues", "list", "--json")).document
    only = (await arqestra("queues", "list", "--json", "--queue", "mail")).document
    table = plain((await arqestra("queues", "list")).out)

    found = {each["queue"]: each for each in document["queues"]}
    assert set(found) == {"arq:queue", "mail", "quiet"}
    assert (found["arq:queue"]["due"], found["arq:queue"]["deferred"]) == (1, 1)
    assert 0 <= found["arq:queue"]["oldest_due_age_s"] < 60
    assert found["quiet"]["paused"] is True
    assert [each["queue"] for each in only["queues"]] == ["mail"]
    assert "arq:queue 1 1 0 0 0 0 " in table


async def test_no_queue(arqestra: CommandLine) -> None:
    assert (await arqestra("queues", "list")).out == "no queue holds a job\n"


async def test_a_key_that_is_no_queue_hides_no_other(arqestra: CommandLine, pool: Pool) -> None:
    await pool.enqueue_job("double", _queue_name="taken", _job_id="gone")
    await pool.job("gone", queue="taken").delete()
    await pool.enqueue_job("double")

    async def both_used() -> bool:
        return {"taken", "arq:queue"} <= set(await pool.used_queues())

    await wait_until(both_used)
    await pool.set("taken", "by another program")

    listed = await arqestra("queues", "list", "--json")
    said = (await arqestra("queues", "list")).err
    doctor = await arqestra("doctor", "--json")
    fleet = await read_fleet(pool, None)

    assert [each["queue"] for each in listed.document["queues"]] == ["arq:queue"]
    assert "queue taken is left out: the key of its name is no queue" in said
    (finding,) = (each for each in doctor.document["findings"] if each["subject"] == "queue taken")
    assert (doctor.code, finding["level"]) == (2, "problem")
    assert [each.name for each in fleet.queues] == ["arq:queue"]


async def test_a_worker_is_seen(arqestra: CommandLine, working: Worker) -> None:
    (found,) = (await arqestra("queues", "list", "--json")).document["queues"]

    assert (found["queue"], found["workers_idle"]) == ("arq:queue", 1)


async def test_pause_and_resume(arqestra: CommandLine, pool: Pool) -> None:
    paused = await arqestra("queues", "pause", "a", "b")
    again = await arqestra("queues", "pause", "a", "--json")
    assert (paused.code, paused.out) == (0, "queue a: paused\nqueue b: paused\n")
    assert again.document == {"queues": [{"queue": "a", "changed": False}]}
    assert await pool.queue("a").is_paused()

    resumed = await arqestra("queues", "resume", "a", "b")
    assert (resumed.code, resumed.out) == (0, "queue a: resumed\nqueue b: resumed\n")
    assert not await pool.queue("a").is_paused()


async def test_purge_asks_first(arqestra: CommandLine, pool: Pool) -> None:
    await pool.enqueue_many([("double",)] * 3)

    refused = await arqestra("queues", "purge", "arq:queue")
    dry = await arqestra("queues", "purge", "arq:queue", "--dry-run")
    assert (refused.code, refused.out) == (2, "")
    assert (dry.code, dry.out) == (0, "would delete 3 jobs of queue arq:queue\n")
    assert await pool.queue().depth() == 3

    done = await arqestra("queues", "purge", "arq:queue", "-y")
    again = await arqestra("queues", "purge", "arq:queue")
    assert (done.code, done.out) == (0, "3 deleted\n")
    assert (again.code, again.out) == (0, "queue arq:queue holds no job that could be deleted\n")


async def test_a_queue_that_was_used_is_listed_without_a_trace_of_jobs(arqestra: CommandLine, pool: Pool) -> None:
    job = await pool.enqueue_job("double", _queue_name="mail")
    assert job is not None
    await wait_until(lambda: _is_known(pool, "mail"))
    await job.delete()
    await pool.zadd("stock", {"job": 1})
    await pool.set(pool.store.keys.job("job"), b"of stock arq")

    found = (await arqestra("queues", "list", "--json")).document["queues"]

    assert [(each["queue"], each["due"]) for each in found] == [("mail", 0), ("stock", 1)]


async def _is_known(pool: Pool, queue: str) -> bool:
    return queue in await pool.used_queues()
