"""Addresses of the dashboard's pages, below its root."""

from urllib.parse import urlencode

__all__ = ("link",)


def link(path: str, **query: object) -> str:
    """A path with a query, without values that are None or "". Ids may hold any character: no path has one."""
    given = {name: str(value) for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path
