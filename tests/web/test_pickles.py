"""Pickles are shown in outline and retried, and never unpickled."""

from __future__ import annotations

import pickle
import pickletools
from typing import Any

import pytest

from arqestra import Pool, Worker, create_pool
from arqestra.protocol.serializers import SERIALIZERS
from arqestra.protocol.wire import JobEnd, Payload, encode_result
from arqestra.web.pickles import outline, retry_payload
from arqestra.web.safe_serializer import SAFE_SERIALIZER, format_of
from tests.support.wait import wait_until
from tests.web.conftest import Client
from tests.web.web_jobs import FUNCTIONS

CALLED: list[str] = []


class Bomb:
    """Tells when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return CALLED.append, ("unpickled",)


def result_of(protocol: int, **more: Any) -> tuple[dict[str, Any], bytes]:
    options = {"x": 5_000, "n": "a nonce", "h": {"trace": "7"}, "p": 3}
    fields = {
        **{"t": 2, "f": "fail", "a": (1, [2, {"s": True, "f": "nested"}], Bomb()), "k": {"s": True, "q": "nested"}},
        **{"et": 1_000, "s": False, "r": ValueError("no"), "st": 1_100, "ft": 1_200, "q": "arq:queue", "id": "one"},
        **{"o": options, "tb": "Traceback" + " x" * 40_000, **more},
    }
    return fields, pickle.dumps(fields, protocol=protocol)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_outline_of_a_result(protocol: int) -> None:
    fields, data = result_of(protocol)
    known = outline(data)
    assert known is not None
    assert known.fields == {key: fields[key] for key in ("t", "f", "et", "s", "st", "ft", "q", "id", "tb")}
    assert known.options == fields["o"]
    assert CALLED == []


def test_what_is_after_the_end_of_a_pickle_is_not_written_on() -> None:
    """A reader stops at the first end: the payload would be the result, with the deadline that is over."""
    _, data = result_of(5)
    assert format_of(data + b"more.") == "pickle"
    assert outline(data + b"more.") is None


def test_a_payload_that_would_lose_options_is_not_made() -> None:
    _, data = result_of(5)
    data = pickletools.optimize(data)
    known = outline(data)
    assert known is not None
    assert known.options["p"] == 3
    with pytest.raises(ValueError, match="options"):
        retry_payload(data, known, 100_000, 60_000)


@pytest.mark.parametrize("deadline_ms", [2**70, 10**400])
async def test_an_impossible_deadline_is_a_reason(redis_url: str, web: Client, deadline_ms: int) -> None:
    async with await create_pool(redis_url) as pool:
        await pool.set("arq:result:one", result_of(5, a=(), o={"x": deadline_ms})[1])
    body = {"jobs": [{"id": "one", "queue": "arq:queue"}]}
    answer = (await web.post("/api/actions/jobs/retry", json=body)).json()
    assert "cannot be run again without unpickling" in answer["problems"][0]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("load", [pickle.loads, pickle._loads])  # type: ignore[attr-defined] # the one in Python
def test_a_result_becomes_a_payload(protocol: int, load: Any) -> None:
    fields, data = result_of(protocol, a=(1, "two"))
    known = outline(data)
    assert known is not None
    again = load(retry_payload(data, known, 100_000, 60_000))
    assert (again["f"], again["a"], again["k"], again["t"], again["et"]) == (
        "fail",
        (1, "two"),
        fields["k"],
        None,
        100_000,
    )
    assert again["o"] == {"x": 104_000, "n": None, "h": {"trace": "7"}, "p": 3}, "as long to start as it had"
    del fields["o"]
    data = pickle.dumps(fields, protocol=protocol)
    known = outline(data)
    assert known is not None
    assert load(retry_payload(data, known, 100_000, 60_000))["o"] == {"x": 160_000}


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80\x05", b"\x80\x05.", pickle.dumps([1]), pickle.dumps({"a": 1})[:-4], b"\x80\x04u.", b"\x80\x04jx."],
)
def test_what_is_no_pickle_of_a_dictionary_has_no_outline(data: bytes) -> None:
    assert outline(data) is None


def test_a_pickle_that_would_take_long_has_no_outline() -> None:
    assert outline(pickle.dumps({"f": "many", "a": list(range(100_000))})) is None


def test_formats_are_told_apart() -> None:
    fields, data = result_of(5, a=(), r="no")
    assert format_of(data) == "pickle"
    for name in ("msgpack", "json"):
        written = SERIALIZERS[name].dumps({**fields, "r": "no"})
        assert format_of(written) == name
        assert SAFE_SERIALIZER.loads(written)["f"] == "fail"
    with pytest.raises(ValueError, match="pickle"):
        SAFE_SERIALIZER.loads(data)
    assert format_of(b"\x00\x01") == "unknown"


async def test_pages_show_pickled_jobs_without_unpickling(redis_url: str, web: Client, no_unpickling: None) -> None:
    pickled = await create_pool(redis_url)
    await pickled.enqueue_job("fail", Bomb(), "text", _job_id="pickled")
    await pickled.aclose()
    page = (await web.get("/job", params={"id": "pickled"})).text
    assert "pickle: not shown" in page
    assert "<h1>fail" in page, "the function's name is in the outline"
    assert "pickle: not shown" in (await web.get("/jobs")).text
    assert (await web.get("/api/job", params={"id": "pickled"})).json()["contents"]["args"] is None
    assert CALLED == []


async def test_a_pickled_job_is_retried(redis_url: str, web: Client) -> None:
    pickled = await create_pool(redis_url)
    worker = Worker(functions=FUNCTIONS, redis_settings=redis_url, burst=True, handle_signals=False, max_tries=1)
    await pickled.enqueue_job("fail", "why not", _job_id="pickled", _headers={"trace": "7"}, _priority=2)
    await worker.async_run()
    page = (await web.get("/api/job", params={"id": "pickled"})).json()
    assert (page["state"], page["retryable"]) == ("dead", True)
    assert "why not" in page["contents"]["traceback"]
    answer = await web.post("/api/actions/jobs/retry", json={"jobs": [{"id": "pickled", "queue": "arq:queue"}]})
    assert answer.json()["done"] == 1, answer.text
    payload = await pickled.job("pickled").info()
    assert payload is not None
    assert (payload.function, payload.args) == ("fail", ("why not",))
    await worker.close()
    again = Worker(functions=FUNCTIONS, redis_settings=redis_url, burst=True, handle_signals=False)
    await again.async_run()
    info = await pickled.job("pickled").result_info()
    assert info is not None
    assert str(info.result) == "why not"
    await again.close()
    await pickled.aclose()


async def test_a_pickled_job_that_completed_is_not_retried(pool: Pool, web: Client) -> None:
    end = JobEnd(Payload("add", (), {}, None, 1, {}), "done", "arq:queue", 1, True, 3, 2, 3)
    data = encode_result(SERIALIZERS["pickle"], end)
    assert data is not None
    await pool.set("arq:result:done", data)
    answer = await web.post("/api/actions/jobs/retry", json={"jobs": [{"id": "done", "queue": "arq:queue"}]})
    assert answer.json()["done"] == 0
    assert "completed" in answer.json()["problems"][0]


async def test_a_pickled_schedule_is_run_and_edited(redis_url: str, web: Client) -> None:
    from arqestra import schedule

    pickled = await create_pool(redis_url)
    await pickled.schedules.upsert(schedule("0 3 * * *", "add", args=(20, 1), name="pickled"))
    assert "pickle: not shown" in (await web.get("/schedule", params={"name": "pickled"})).text
    answer = await web.post("/api/actions/schedules/run", json={"name": "pickled"})
    assert answer.json()["done"] == 1, answer.text
    job_id = answer.json()["message"].split()[-3]
    info = await pickled.job(job_id).info()
    assert info is not None
    assert (info.function, info.args) == ("add", (20, 1))
    edit = {"name": "pickled", "when": "every 90s", "timezone": "Asia/Seoul", "jitter_s": 5}
    assert (await web.post("/api/actions/schedules/edit", json=edit)).json()["done"] == 1
    found = await pickled.schedules.get("pickled")
    assert found.words.startswith("every 1 minute 30 seconds")
    job = await pickled.schedules.run_now("pickled")
    again = await job.info()
    assert again is not None
    assert again.args == (20, 1), "its arguments stayed as they were"
    await pickled.aclose()
    await wait_until(lambda: web.get("/schedules"))
