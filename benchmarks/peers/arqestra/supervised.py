"""The settings of the supervised processes in the row `recycling`."""

import asyncio

from benchmark_peer import redis_url

from arqestra import RedisSettings


async def sleeper(ctx, sleep_s):
    await asyncio.sleep(sleep_s)


class WorkerSettings:
    functions = (sleeper,)
    redis_settings = RedisSettings.from_dsn(redis_url())
