"""A call that is sent again: what goes first without a timer of its own has the same limit in all."""

import asyncio
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from arqestra.store import link
from arqestra.store.link import Links, with_retries


class Connected:
    """Stands for links that are, or are not, connected."""

    def __init__(self, open_link: object) -> None:
        self.open_link = open_link


def timers_now() -> int:
    """Timers that the loop holds."""
    return len(cast(Any, asyncio.get_running_loop())._scheduled)


@pytest.mark.parametrize(("open_link", "timers"), [(object(), 0), (None, 1)])
async def test_a_call_over_an_open_link_starts_no_timer(open_link: object, timers: int) -> None:
    before = timers_now()

    async def call(resent: bool) -> int:
        return timers_now() - before

    assert await with_retries(call, links=cast(Links, Connected(open_link))) == timers


@pytest.mark.parametrize("open_link", [object(), None])
async def test_each_pause_comes_once_and_the_last_error_is_raised(open_link: object) -> None:
    sent: list[bool] = []

    async def call(resent: bool) -> None:
        sent.append(resent)
        raise RedisConnectionError(str(len(sent)))

    links = cast(Links, Connected(open_link))
    with pytest.raises(RedisConnectionError, match="3"):
        await with_retries(call, (0.0, 0.0), links=links)
    assert sent == [False, True, True]
    with pytest.raises(RedisConnectionError, match="4"):
        await with_retries(call, (), links=links)


@pytest.mark.parametrize("open_link", [object(), None])
async def test_all_tries_together_have_one_limit(open_link: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "CALL_LIMIT_S", 0.05)
    sent: list[bool] = []

    async def call(resent: bool) -> None:
        sent.append(resent)
        if len(sent) == 1:
            raise RedisConnectionError("lost")
        await asyncio.Event().wait()

    with pytest.raises(RedisTimeoutError, match=r"within 0\.05 s"):
        await with_retries(call, (0.0, 0.0), links=cast(Links, Connected(open_link)))
    assert sent == [False, True]
