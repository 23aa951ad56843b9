"""Types that jobs of the unit tests take and return."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import pydantic


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int


@dataclass
class Order:
    id: UUID
    placed: datetime
    colour: Colour
    route: list[Point]


class Customer(pydantic.BaseModel):
    name: str
    birthday: datetime
    tags: set[str]


class QuietError(Exception):
    """Pickles and does not unpickle: its __init__ takes other parameters than `args`."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class PlainError(Exception):
    """Rebuilt from its args."""
