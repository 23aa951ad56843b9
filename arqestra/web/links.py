"""Addresses of the dashboard's pages, below its root."""

from urllib.parse import urlencode

__all__ = ("link",)


def link(path: str, **query: object) -> str:
    """A path with a query; what is None or "" is left out. Ids may hold anything: they are never part of the path."""
    given = {name: str(value) for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path
