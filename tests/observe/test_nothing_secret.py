"""A secret that is an argument appears in no log line, no span, no error; it arrives all the same."""

from __future__ import annotations

import json
import logging

import pytest

from arqestra import ArgumentsError, Pool, group
from tests.observe import traced_jobs as jobs
from tests.observe.conftest import Spans, Working
from tests.observe.log_lines import Lines
from tests.support.replies import accepted

SECRET = "hunter2"


async def test_nothing_secret_is_told(
    pool: Pool,
    working: Working,
    spans: Spans,
    lines: Lines,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with working():
        handles = [
            await pool.enqueue(jobs.login, "ann", SECRET, SECRET),
            await pool.enqueue(jobs.login, "ann", password=SECRET, code=SECRET, db={"api_key": SECRET}),
            await pool.enqueue_job("login", "ann", SECRET),
            *await pool.enqueue_many([jobs.login.bind("ann", SECRET)]),
        ]
        for handle in handles:
            assert handle is not None
            assert await handle.result(timeout=10) == {"user": "ann", "token": SECRET}
        flow = await pool.enqueue_flow(group(jobs.login.s("ann", SECRET)) | jobs.add.si(1))
        await flow.result(timeout=10)
        chunks = await pool.enqueue_flow(jobs.login.chunks([("ann", SECRET), ("bob", SECRET)], 2))
        assert (await chunks.result(timeout=10))[0][0]["token"] == SECRET
        taken = await pool.enqueue_flow(jobs.name_of.s() | jobs.login.s(SECRET))
        assert await taken.result(timeout=10) == {"user": "eve", "token": SECRET}
        failing = accepted(await pool.enqueue(jobs.login_badly, SECRET, 1))
        with pytest.raises(RuntimeError, match="login failed"):
            await failing.result(timeout=10)
        with pytest.raises(ArgumentsError) as refused:
            await pool.enqueue(jobs.login, "ann", SECRET, SECRET, user="bob")  # type: ignore[misc]

    told = [record.getMessage() for record in caplog.records]
    assert any("login('ann', '[redacted]', '[redacted]')" in message for message in told)
    assert any("login('ann', code='[redacted]', db={'api_key': '[redacted]'}, password='[red" in text for text in told)
    assert any("arqestra.chunk('login', [['ann', '[redacted]'], ['bob', '[redacted]']])" in text for text in told)
    for text in (*told, caplog.text, *lines.texts, *(span.to_json() for span in spans.all()), str(refused.value)):
        assert SECRET not in text
    assert len(spans.all()) > 10
    assert json.loads(lines.texts[0])
