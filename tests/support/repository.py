"""Where the files of the repository are."""

from __future__ import annotations

from pathlib import Path

__all__ = ("REPOSITORY",)

REPOSITORY = Path(__file__).resolve().parents[2]
