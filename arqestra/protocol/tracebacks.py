"""The text of an error's traceback, as `traceback.format_exception` gives it, made quickly.

Many jobs that fail at once fail at the same place. Python 3.11 and later parse the source line of each frame, to mark
the part of it that failed: that takes longer than all else that a failed job costs. So the texts of frames are
remembered.
"""

import sys
import traceback
from types import CodeType, TracebackType

__all__ = ("TRACEBACK_LIMIT_CHARS", "traceback_of")

TRACEBACK_LIMIT_CHARS = 20_000
MOST_REMEMBERED = 2_000
LONGEST_RUN = 3  # the same frame so often, one after the other: Python leaves out the rest, and says so
# Python looks for names that somebody may have meant, and needs the frames for that.
WITH_SUGGESTIONS = (NameError, AttributeError, ImportError, SyntaxError)

_frames: dict[tuple[CodeType, str, int], str] = {}


def traceback_of(error: BaseException) -> str:
    """The traceback as text, its middle left out where it is long."""
    text = _remembered(error) or "".join(traceback.format_exception(error))
    if len(text) > TRACEBACK_LIMIT_CHARS:
        half = TRACEBACK_LIMIT_CHARS // 2
        text = f"{text[:half]}\n  [... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
    return text


def _remembered(error: BaseException) -> str:
    """The whole text, if it can be had out of what is remembered: of an error that stands for itself alone. Else ""."""
    is_alone = error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
    if not is_alone or isinstance(error, (BaseExceptionGroup, *WITH_SUGGESTIONS)) or error.__traceback__ is None:
        return ""
    if hasattr(sys, "tracebacklimit"):  # somebody wants fewer frames
        return ""
    lines = ["Traceback (most recent call last):\n"]
    entry: TracebackType | None = error.__traceback__
    run = 0
    while entry is not None:
        lines.append(_text_of_frame(entry))
        run = run + 1 if lines[-1] == lines[-2] else 1
        if run > LONGEST_RUN:
            return ""
        entry = entry.tb_next
    return "".join((*lines, *traceback.format_exception_only(error)))


def _text_of_frame(entry: TracebackType) -> str:
    code = entry.tb_frame.f_code
    key = (code, code.co_filename, entry.tb_lasti)  # code is equal to the same code in another file
    text = _frames.get(key)
    if text is None:
        if len(_frames) >= MOST_REMEMBERED:
            _frames.clear()
        text = _frames[key] = "".join(traceback.extract_tb(entry, 1).format())
    return text
