"""The text of an error's traceback, as `traceback.format_exception` gives it, made quickly.

Many jobs that fail at once fail at the same place. Python 3.11 and later parse the source line of each frame, to mark
the part of it that failed: that takes longer than all else that a failed job costs. So the texts of whole stacks, and
those of their frames, are remembered, and so are the names that Python suggests where they depend on nothing else.
Whatever may differ from one error to the next, its message above all, is told anew.
"""

import sys
import traceback
from inspect import CO_OPTIMIZED
from types import CodeType, TracebackType
from typing import Any

__all__ = ("TRACEBACK_LIMIT_CHARS", "traceback_of")

TRACEBACK_LIMIT_CHARS = 20_000
MAX_FRAMES_REMEMBERED = 2_000
MAX_STACKS_REMEMBERED = 500
MAX_FRAMES_A_STACK = 100  # a longer one is put together out of its frames each time

HEADING = "Traceback (most recent call last):\n"
CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"

# Errors of which Python tells more than type and message: members, source.
TOLD_AT_LENGTH = (BaseExceptionGroup, SyntaxError)
# Those for which it may suggest another name.
SUGGESTING: tuple[type[BaseException], ...] = ()
if sys.version_info >= (3, 12):
    SUGGESTING = (NameError, AttributeError, ImportError)
# Each object of such a type has the same attributes: what Python suggests depends on the type and the wrong name.
ALIKE = frozenset((type(None), bool, int, float, str, bytes, list, tuple, dict, set))
MAX_LINES_REMEMBERED = 500


class _False(Exception):
    def __bool__(self) -> bool:
        return False


def _have_false_errors_causes() -> bool:
    error = _False()
    error.__cause__ = Exception()
    return traceback.TracebackException.from_exception(error).__cause__ is not None


# Until some release Python told no cause of an error that is false as a value.
FALSE_HAVE_CAUSES = _have_false_errors_causes()

# By code object and instruction. A code object equals the same code in another file, so its id stands for it; what is
# remembered refers to it, that no other object gets this id.
_frames: dict[tuple[int, int], "tuple[_Frame, CodeType]"] = {}
_stacks: dict[tuple[int, ...], tuple[str, list[CodeType]]] = {}
_lines: dict[tuple[type, str, str, type], str] = {}


def traceback_of(error: BaseException) -> str:
    """The traceback as text, its middle left out where it is long."""
    if "tracebacklimit" in vars(sys):  # somebody has asked Python for short ones
        text = "".join(traceback.format_exception(error))
    else:
        text = _plain_text(error) or _text_at_length(error)
    if len(text) > TRACEBACK_LIMIT_CHARS:
        half = TRACEBACK_LIMIT_CHARS // 2
        text = f"{text[:half]}\n  [... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
    return text


# -- an error and those that led to it --------------------------------------------------------------------------------


def _plain_text(error: BaseException) -> str:
    """The text of errors of which nothing but stack, type and message is told; "" if one of them is another."""
    parts: list[str] = []  # from the end
    told: set[int] = set()
    earlier: BaseException | None = error
    while earlier is not None:
        error = earlier
        if isinstance(error, TOLD_AT_LENGTH) or getattr(error, "__notes__", None) is not None:
            return ""
        try:
            message = str(error)
        except BaseException:  # Python tells that it failed
            return ""
        is_suggesting = isinstance(error, SUGGESTING)
        line = _suggesting_line(error, message) if is_suggesting else _last_line(type(error), message)
        if not line:
            return ""
        parts += (line, _stack_text(error.__traceback__))
        told.add(id(error))
        earlier, between = _earlier(error, told)
        parts.append(between)
    return "".join(reversed(parts))


def _earlier(error: BaseException, told: set[int]) -> tuple[BaseException | None, str]:
    """The error that is told before this one, and what Python writes between them."""
    cause, context = error.__cause__, error.__context__
    if (cause is None and context is None) or not (FALSE_HAVE_CAUSES or error):
        return None, ""
    if cause is not None and id(cause) not in told:
        return cause, CAUSE
    if context is not None and id(context) not in told and not error.__suppress_context__:
        return context, CONTEXT
    return None, ""


def _last_line(kind: type[BaseException], message: str) -> str:
    is_bare = kind.__module__ in ("builtins", "__main__")
    name = kind.__qualname__ if is_bare else f"{kind.__module__}.{kind.__qualname__}"
    return f"{name}: {message}\n" if message else f"{name}\n"


def _suggesting_line(error: Any, message: str) -> str:
    """The last line of an error for which Python may suggest another name; "" if that needs more than the error.

    Python 3.12 compares the wrong name with each right one, which takes longer than all else that a failed job costs.
    """
    name = getattr(error, "name_from" if isinstance(error, ImportError) else "name", None)
    if name is None:
        return _last_line(type(error), message)
    is_alike = isinstance(error, AttributeError) and type(error.obj) in ALIKE and type(name) is str
    if not is_alike or _may_know_self(error.__traceback__):
        return ""
    key = (type(error), message, name, type(error.obj))
    line = _lines.get(key)
    if line is None:
        if len(_lines) >= MAX_LINES_REMEMBERED:
            _lines.clear()
        line = _lines[key] = "".join(traceback.format_exception_only(error))
    return line


def _may_know_self(entry: TracebackType | None) -> bool:
    """Whether the innermost frame may have a variable `self`: of that object, Python suggests private names too."""
    if entry is None:
        return False
    while entry.tb_next is not None:
        entry = entry.tb_next
    code = entry.tb_frame.f_code
    is_function = bool(code.co_flags & CO_OPTIMIZED)  # the variables of other code are not known before it runs
    return not is_function or "self" in (*code.co_varnames, *code.co_cellvars, *code.co_freevars)


def _text_at_length(error: BaseException) -> str:
    """The text as Python puts it together, out of remembered stacks."""
    whole = traceback.TracebackException(type(error), error, error.__traceback__, limit=0, compact=True)
    pairs: list[tuple[Any, Any]] = [(whole, error)]
    for told, raised in pairs:
        if raised.__traceback__ is not None:
            told.stack = _MadeStack(_stack_text(raised.__traceback__).removeprefix(HEADING))
        if told.__cause__ is not None:
            pairs.append((told.__cause__, raised.__cause__))
        if told.__context__ is not None:
            pairs.append((told.__context__, raised.__context__))
        if told.exceptions is not None:
            pairs += zip(told.exceptions, raised.exceptions, strict=True)
    return "".join(whole.format())


class _MadeStack(traceback.StackSummary):
    """A stack whose text is made.

    :param text: of it, without a heading
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def __bool__(self) -> bool:
        return True  # Python writes no heading over an empty list

    def format(self, **_: Any) -> list[str]:
        return [self._text]


# -- stacks -----------------------------------------------------------------------------------------------------------


def _stack_text(first: TracebackType | None) -> str:
    """The text of a stack, with its heading; "" of none."""
    if first is None:
        return ""
    key: list[int] = []
    codes: list[CodeType] = []
    entry: TracebackType | None = first
    while entry is not None:
        code = entry.tb_frame.f_code
        codes.append(code)
        key += (id(code), entry.tb_lasti)
        entry = entry.tb_next
    place = tuple(key)
    found = _stacks.get(place)
    if found is not None:
        return found[0]
    text = HEADING + "".join(_frames_of(first).format())
    if len(codes) <= MAX_FRAMES_A_STACK:
        if len(_stacks) >= MAX_STACKS_REMEMBERED:
            _stacks.clear()
        _stacks[place] = (text, codes)
    return text


class _Frame(traceback.FrameSummary):
    """One frame of a stack, with its text."""

    __slots__ = ("text",)

    def __init__(self, frame: traceback.FrameSummary) -> None:
        super().__init__(frame.filename, frame.lineno, frame.name, lookup_line=False, line="")
        self.text = "".join(traceback.StackSummary.from_list([frame]).format())


class _Frames(traceback.StackSummary):
    """Frames whose texts are made. Python joins them, and leaves out those that repeat themselves."""

    def format_frame_summary(self, frame_summary: traceback.FrameSummary, **_: Any) -> str:
        assert isinstance(frame_summary, _Frame)
        return frame_summary.text


def _frames_of(entry: TracebackType | None) -> _Frames:
    frames = _Frames()
    while entry is not None:
        code = entry.tb_frame.f_code
        place = (id(code), entry.tb_lasti)
        found = _frames.get(place)
        if found is None:
            if len(_frames) >= MAX_FRAMES_REMEMBERED:
                _frames.clear()
            found = _frames[place] = (_Frame(traceback.extract_tb(entry, 1)[0]), code)
        frames.append(found[0])
        entry = entry.tb_next
    return frames
