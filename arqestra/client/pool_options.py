"""What the options of `create_pool` and `Pool` may be. Their signatures and docstrings say the rest."""

from collections.abc import Mapping
from typing import Any

from arq.connections import RedisSettings

from ..definitions.middleware import is_middleware
from ..definitions.rules import CALLABLE, COUNT, MS, TEXT, Rule, is_int
from ..protocol.keys import KEY_PREFIX
from ..protocol.serializers import SERIALIZERS, Serializer

__all__ = ("MIDDLEWARE", "NAME", "POOL_RULES", "REDIS", "SERIALIZER", "check_pool_options")


def _is_serializer(value: Any) -> bool:
    return isinstance(value, Serializer) or (isinstance(value, str) and value in SERIALIZERS)


NAME = Rule("a str", lambda value: isinstance(value, str))
REDIS = Rule("RedisSettings or a URL", lambda value: isinstance(value, RedisSettings | str))
MIDDLEWARE = Rule("a sequence of Middleware objects", is_middleware)
SERIALIZER = Rule('one of "pickle", "msgpack", "json"', _is_serializer)

POOL_RULES: Mapping[str, Rule] = {
    "settings_": REDIS,
    "retry": Rule("an int", is_int),
    "job_serializer": CALLABLE,
    "job_deserializer": CALLABLE,
    "default_queue_name": TEXT,
    "expires_extra_ms": MS,
    "serializer": SERIALIZER,
    "max_payload_bytes": COUNT,
    "middleware": MIDDLEWARE,
    "key_prefix": KEY_PREFIX,
}


def check_pool_options(where: str, options: Mapping[str, Any]) -> None:
    """Refuse the first option whose value is impossible. None says nothing, and is always allowed.

    :param where: who was given them, for the message
    :raises SettingsError: says what was expected, and what was got
    """
    for name, value in options.items():
        if value is not None:
            POOL_RULES[name].check(f"{where}: {name}", value)
