"""FastAPI: what `starlette.py` has."""

from .starlette import Jobs

__all__ = ("Jobs",)
