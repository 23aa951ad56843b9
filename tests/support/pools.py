"""The `pool` fixture's serializer, and where a pool is connected to."""

from __future__ import annotations

from typing import Any

import pytest

from arqestra import Pool

__all__ = ("serializers", "url_of")


def serializers(*names: str) -> Any:
    """A fixture that says what the `pool` of a module or folder is to use: each test runs once with each of them.

    serializer = serializers("pickle", "msgpack")
    """
    if len(names) == 1:
        return pytest.fixture(lambda: names[0], name="serializer")

    def chosen(request: pytest.FixtureRequest) -> Any:
        return request.param

    return pytest.fixture(params=names, name="serializer")(chosen)


def url_of(pool: Pool) -> str:
    """The URL of the server that a pool is connected to."""
    options = pool.connection_pool.connection_kwargs
    return f"unix://{options['path']}" if "path" in options else f"redis://{options['host']}:{options['port']}"
