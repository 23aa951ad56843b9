"""Reads the outline of a pickle, and changes one, without unpickling it.

A pickle is a program for a small stack machine. It is dangerous because a few instructions import and call. `outline`
walks over the instructions that `pickletools` lists, and keeps the strings and numbers in the dictionary that the
program builds. An opaque mark stands for every other value, and for whatever would be imported or called. `outline`
builds nothing, so nothing can run.

`retry_payload` makes the payload that runs a failed job again. A result holds all that a payload has (wire.py). So the
new payload is the same program with a few more instructions at its end: they set the enqueue time and the deadline.
Only the worker, which wrote the pickle, unpickles it.
"""

import itertools
import pickletools
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ("Outline", "function_of", "outline", "retry_payload")

MAX_INSTRUCTIONS = 5_000
FIRST_INSTRUCTIONS = 20
MAX_BYTES = 1024 * 1024
_SCALARS = (str, int, float, bool, type(None))


class Opaque:
    """Stands for a value that we do not read."""


class Outline(NamedTuple):
    """The entries of a pickled payload or result.

    :ivar fields: its entries that are strings, numbers or None
    :ivar options: those of the dictionary under `o`
    :ivar options_memo: index of that dictionary in the memo, needed to change it; None if it is not in the memo
    """

    fields: Mapping[str, Any]
    options: Mapping[str, Any]
    options_memo: int | None


_OPAQUE = Opaque()
_MARK = object()


class _Machine:
    """The stack machine. It keeps dictionaries with text keys, and a mark for everything else."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any, stack_before: list[Any], stack_after: list[Any]) -> None:
        match name:
            case "PROTO" | "FRAME" | "STOP":
                return
            case "MARK":
                self.stack.append(_MARK)
            case "EMPTY_DICT":
                self.stack.append({})
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[int(argument)] = self.stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                self.stack.append(self.memo.get(int(argument), _OPAQUE))
            case "SETITEMS":
                self._set(self._above_mark())
            case "SETITEM":
                pair = self.stack[-2:]
                del self.stack[-2:]
                self._set(pair)
            case "NEWTRUE" | "NEWFALSE" | "NONE":
                self.stack.append({"NEWTRUE": True, "NEWFALSE": False}.get(name))
            case _:
                self._other(argument, stack_before, stack_after)

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is dict:
            target |= {key: value for key, value in zip(items[::2], items[1::2], strict=False) if type(key) is str}

    def _above_mark(self) -> list[Any]:
        at = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def _other(self, argument: Any, stack_before: list[Any], stack_after: list[Any]) -> None:
        """Any other instruction: pop and push as many values as `pickletools` documents for it."""
        if pickletools.markobject in stack_before:
            self._above_mark()
            below = stack_before.index(pickletools.markobject)
        else:
            below = len(stack_before)
        if below:
            del self.stack[-below:]
        plain = argument if not stack_before and type(argument) in _SCALARS else _OPAQUE
        self.stack += [plain if after is not pickletools.anyobject else _OPAQUE for after in stack_after]


def outline(data: bytes) -> Outline | None:
    """The outline of a pickled dictionary of arq; None if the pickle is too large or too odd."""
    if len(data) > MAX_BYTES:
        return None
    machine = _Machine()
    try:
        last = 0
        for count, (code, argument, offset) in enumerate(pickletools.genops(data)):
            if count == MAX_INSTRUCTIONS:
                return None
            last = offset or 0
            machine.step(code.name, argument, code.stack_before, code.stack_after)
    except (ValueError, IndexError, TypeError, struct.error):
        return None
    if last != len(data) - 1 or len(machine.stack) != 1 or type(machine.stack[0]) is not dict:
        return None  # bytes after the end would get in the way of the instructions that we add
    top = machine.stack[0]
    options = top.get("o")
    known = options if type(options) is dict else {}
    memo = next((index for index, value in machine.memo.items() if value is options), None) if known else None
    return Outline(_plain(top), _plain(known) | _headers(known), memo)


def function_of(data: bytes) -> str | None:
    """The function in a pickled payload or result. It is the second entry, so a few instructions are enough."""
    machine = _Machine()
    try:
        for code, argument, _ in itertools.islice(pickletools.genops(data), FIRST_INSTRUCTIONS):
            machine.step(code.name, argument, code.stack_before, code.stack_after)
            match machine.stack:
                case [dict(), _, "t", _, "f", str() as name]:
                    return name
    except (ValueError, IndexError, TypeError, struct.error):
        return None
    return None


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if type(value) in _SCALARS}


def _headers(options: Mapping[str, Any]) -> dict[str, Any]:
    headers = options.get("h")
    return {"h": _plain(headers)} if type(headers) is dict else {}


def retry_payload(data: bytes, known: Outline, now_ms: int, default_life_ms: int) -> bytes:
    """The payload that runs a job again, made from its pickled result.

    :param known: the outline of that result
    :param now_ms: on Redis' clock
    :param default_life_ms: how long it may wait for its start if it had no deadline
    :raises ValueError: it cannot be made without losing options of the job
    """
    if known.options and known.options_memo is None:
        raise ValueError("its pickler left out by what its options could be changed")
    enqueued_ms, deadline_ms = known.fields.get("et"), known.options.get("x")
    life_ms = default_life_ms
    if type(enqueued_ms) is int and type(deadline_ms) is int:
        life_ms = max(0, deadline_ms - enqueued_ms)
    deadline = _text("x") + _number(now_ms + life_ms)
    if known.options_memo is None:
        options = b"(" + _text("o") + b"}(" + deadline + b"uu"
    else:
        # change the dictionary in the memo: headers and priority stay, the nonce of the first enqueue goes
        options = b"j" + struct.pack("<I", known.options_memo) + b"(" + deadline + _text("n") + b"Nu0"
    # MARK takes the place of STOP, which may be the last byte of a frame: a frame must end where an instruction does.
    times = b"(" + _text("t") + b"N" + _text("et") + _number(now_ms) + b"u"
    return data[:-1] + times + options + b"."


def _text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _number(value: int) -> bytes:
    if not -(2**63) <= value < 2**63:
        raise ValueError("a time that no clock tells")
    encoded = value.to_bytes(8, "little", signed=True)
    return b"\x8a\x08" + encoded
