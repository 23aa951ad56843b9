"""How far a job is, and figures over time, in characters."""

from collections.abc import Sequence

__all__ = ("progress_text", "sparkline")

_BLOCKS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = " ▁▂▃▄▅▆▇█"


def progress_text(done: float, total: float | None, message: str, width: int = 10) -> str:
    """A bar with a percentage and the message: `████▌      45% page 9`; without a total what is done.

    :param width: of the bar
    """
    if total is None:
        text = f"{done:g} done"
    else:
        share = 1.0 if total <= 0 else min(1.0, max(0.0, done / total))
        text = f"{_bar(share, width)} {share:4.0%}"
    return f"{text} {message}".rstrip() if message else text


def _bar(share: float, width: int) -> str:
    eighths = int(share * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_BLOCKS[rest] if rest else "")).ljust(width, "░")


def sparkline(values: Sequence[float], highest: float) -> str:
    """One character for each value; a value that is not 0 can be seen.

    :param highest: the value of the full height
    """
    return "".join(_HEIGHTS[_height(value, highest)] for value in values)


def _height(value: float, highest: float) -> int:
    if value <= 0 or highest <= 0:
        return 0
    return max(1, min(8, round(value / highest * 8)))
