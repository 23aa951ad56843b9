"""`check_health`: whether a worker of these settings lives, by the health check key that it writes."""

import asyncio
import logging
from typing import Any

from arq.connections import RedisSettings
from arq.constants import default_queue_name, health_check_key_suffix

from ...client.connect import create_pool
from ...protocol.keys import Keys
from ...store.presence import read_health
from ..command_line import options_of

__all__ = ("async_check_health", "check_health")

logger = logging.getLogger("arq.worker")


def check_health(settings_cls: Any) -> int:
    """Whether a worker of a settings class, an instance or a dict lives, as `arq.worker.check_health` says it.

    Of a worker that serves several queues the key is that of the first, unless `health_check_key` names it.

    :returns: 0 if it lives, 1 if not
    :raises SettingsError: a setting is unknown or has a wrong value
    """
    options = options_of(settings_cls)
    queue = options.queue_name if options.queues is None else next(iter(options.queues))
    return asyncio.run(async_check_health(options.redis_settings, options.health_check_key, queue, options.key_prefix))


async def async_check_health(
    redis_settings: RedisSettings | str | None,
    health_check_key: str | None = None,
    queue_name: str | None = None,
    key_prefix: str | None = None,
) -> int:
    """Whether a worker writes the health check key.

    :param redis_settings: also a URL; None for localhost
    :param health_check_key: default that of the queue
    :param queue_name: default arq's
    :param key_prefix: that of the worker
    :returns: 0 if the key is there, 1 if not
    """
    key = health_check_key or (queue_name or default_queue_name) + health_check_key_suffix
    key = Keys.of(key_prefix).health_check(key)
    pool = await create_pool(redis_settings)
    try:
        data = await read_health(pool, key)
    finally:
        await pool.aclose(close_connection_pool=True)
    if not data:
        logger.warning("Health check failed: no health check sentinel value found")
        return 1
    logger.info("Health check successful: %s", data)
    return 0
