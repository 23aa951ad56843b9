"""What a worker says of its server when it starts: arq's line, and a warning where the server may evict jobs.

Both are nice to know. A server that refuses to tell (its ACL allows no INFO, a host has renamed CONFIG) or that cannot
tell yet (it is LOADING) keeps no worker from starting.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from ..store.server import eviction_policy

__all__ = ("log_server",)

logger = logging.getLogger("arq.worker")

LIMIT_S = 5.0  # a server that answers nothing is the exchange's to wait for
SAFE_POLICY = "noeviction"


async def log_server(redis: Redis, describe: Callable[..., Awaitable[None]]) -> None:
    """Log what the server says of itself.

    :param redis: the worker's client
    :param describe: `arq.connections.log_redis_info`
    """
    try:
        async with asyncio.timeout(LIMIT_S):
            await describe(redis, logger.info)
    except Exception as error:  # whatever it is, it is about a line of the log
        logger.info("the server does not describe itself: %s: %s", type(error).__name__, error)
    try:
        async with asyncio.timeout(LIMIT_S):
            policy = await eviction_policy(redis)
    except Exception as error:
        logger.debug("the server does not tell its eviction policy: %s: %s", type(error).__name__, error)
        return
    if policy not in ("", SAFE_POLICY):
        logger.warning(
            "the server's maxmemory-policy is %s: when its memory is full it removes leases, results and jobs. "
            "Expected %s: CONFIG SET maxmemory-policy %s, and the same in redis.conf",
            policy,
            SAFE_POLICY,
            SAFE_POLICY,
        )
