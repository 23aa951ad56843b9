"""`arqestra cron`."""

from __future__ import annotations

from arqestra import Pool, Worker, schedule
from tests.support.command_line import CommandLine, plain
from tests.support.wait import wait_until


async def test_a_schedule_in_code(arqestra: CommandLine, working: Worker, pool: Pool) -> None:
    (listed,) = (await arqestra("cron", "list", "--json")).document["schedules"]
    table = plain((await arqestra("cron", "list")).out)
    shown = plain((await arqestra("cron", "show", "nightly")).out)
    times = (await arqestra("cron", "next", "nightly", "-n", "2", "--json")).document["next"]
    lines = (await arqestra("cron", "next", "nightly")).out.splitlines()

    assert (listed["name"], listed["function"], listed["source"], listed["paused"]) == (
        *("nightly", "double", "code"),
        False,
    )
    assert "nightly at 03:00 every day, Asia/Seoul double arq:queue in " in table
    assert "defined in code" in shown
    assert [time[10:] for time in times] == ["T03:00:00+09:00"] * 2
    assert len(lines) == 5
    assert all("03:00:00 KST" in line for line in lines)


async def test_run_by_hand_and_its_history(arqestra: CommandLine, working: Worker, pool: Pool) -> None:
    before = await arqestra("cron", "history", "nightly")
    ran = await arqestra("cron", "run", "nightly")
    job_id = ran.out.strip()
    assert (before.out, ran.code) == ("schedule nightly has not been fired yet\n", 0)
    assert await pool.job(job_id).result(10) == 42

    async def has_ended() -> bool:
        return (await pool.schedules.history("nightly"))[0].outcome == "complete"

    await wait_until(has_ended)
    (run,) = (await arqestra("cron", "history", "nightly", "--json")).document["history"]
    assert (run["how"], run["outcome"], run["job_id"]) == ("by hand", "complete", job_id)
    table = plain((await arqestra("cron", "history", "nightly")).out)
    assert " by hand complete " in table
    assert job_id in table


async def test_pause_and_resume(arqestra: CommandLine, pool: Pool) -> None:
    await pool.schedules.upsert(schedule("* * * * *", "double", name="often"))

    paused, again = await arqestra("cron", "pause", "often"), await arqestra("cron", "pause", "often")
    assert (paused.out, again.out) == ("schedule often: paused\n", "schedule often: was paused already\n")
    assert (await arqestra("cron", "list", "--json")).document["schedules"][0]["paused"] is True
    resumed = await arqestra("cron", "resume", "often")
    assert (resumed.code, resumed.out) == (0, "schedule often: resumed\n")


async def test_a_schedule_that_is_not_there(arqestra: CommandLine) -> None:
    for words in (("show", "x"), ("run", "x"), ("pause", "x"), ("next", "x"), ("history", "x")):
        ran = await arqestra("cron", *words)
        assert (ran.code, ran.out) == (1, "")
        assert "got 'x', which is none" in ran.err


async def test_queue_filters_the_list_and_is_no_option_of_the_others(arqestra: CommandLine, pool: Pool) -> None:
    await pool.schedules.upsert(schedule("* * * * *", "double", name="often"))
    await pool.schedules.upsert(schedule("* * * * *", "double", name="mails", queue="mail"))

    listed = (await arqestra("cron", "list", "--queue", "mail", "--json")).document["schedules"]
    assert [each["name"] for each in listed] == ["mails"]
    for words in (("show",), ("run",), ("pause",), ("resume",), ("next",), ("history",)):
        ran = await arqestra("cron", *words, "often", "--queue", "mail")
        assert ran.code == 2
        assert "No such option" in ran.err
