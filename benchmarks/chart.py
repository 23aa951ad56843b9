"""The chart of the README: throughput and start latency of all the queues."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from .catalogue import OURS, PEERS, PeerFacts
from .figures import Figures
from .rows import at

LEVEL = 100
OUR_COLOUR, THEIR_COLOUR, FAINT, INK = "#d9480f", "#adb5bd", "#868e96", "#212529"
STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": FAINT,
    "text.color": INK,
    "ytick.left": False,
}


def draw_chart(figures: Figures, where: str, file: Path) -> None:
    """Write the chart as PNG; `where` is the line about machine and server below it."""
    measured = [peer for peer in PEERS if any(peer.key in of_row for of_row in figures.values.values())]
    with plt.rc_context(STYLE):
        figure, (rates, delays) = plt.subplots(
            1, 2, figsize=(12, 0.36 * len(measured) + 1.5), width_ratios=[3, 2], layout="constrained"
        )
        figure.get_layout_engine().set(w_pad=0.15, h_pad=0.1)
        _throughput_bars(rates, figures)
        _latency_dots(delays, figures)
        figure.supxlabel(where, fontsize=9, color=FAINT, x=0.01, ha="left")
        figure.savefig(file, dpi=150, facecolor="white")
        plt.close(figure)


def _colour(peer: PeerFacts) -> str:
    return OUR_COLOUR if peer.key == OURS else THEIR_COLOUR


def _throughput_bars(axes: Axes, figures: Figures) -> None:
    rates = {peer.key: figures.median(at(LEVEL), peer.key, "jobs_per_s") for peer in PEERS}
    measured = sorted((peer for peer in PEERS if rates[peer.key]), key=lambda peer: rates[peer.key])
    axes.set_title(f"Jobs per second, one worker process, concurrency {LEVEL}", loc="left", fontweight="bold")
    if not measured:
        return
    widths = [rates[peer.key] for peer in measured]
    bars = axes.barh([peer.title for peer in measured], widths, color=[_colour(peer) for peer in measured])
    axes.bar_label(bars, [f"{width:,.0f}" for width in widths], padding=5)
    axes.set_xlim(0, max(widths) * 1.14)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(axis="x", colors=FAINT)


def _latency_dots(axes: Axes, figures: Figures) -> None:
    waits = {
        peer.key: [figures.median("latency", peer.key, name) for name in ("start_p50_ms", "start_p99_ms")]
        for peer in PEERS
    }
    measured = sorted((peer for peer in PEERS if waits[peer.key][0]), key=lambda peer: -waits[peer.key][0])
    axes.set_title("Start latency on an idle queue, ms", loc="left", fontweight="bold")
    if not measured:
        return
    for row, peer in enumerate(measured):
        p50, p99 = waits[peer.key]
        axes.plot([p50, p99], [row, row], color=_colour(peer), linewidth=4, solid_capstyle="round", alpha=0.5)
        axes.plot(p50, row, "o", color=_colour(peer), markersize=9)
        axes.annotate(f"{p50:.3g}", (p99, row), xytext=(8, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(measured)), [peer.title for peer in measured])
    axes.set_ylim(-0.6, len(measured) - 0.4)
    axes.spines["bottom"].set_visible(False)
    axes.set_xscale("log")
    axes.set_xlim(right=max(waits[peer.key][1] for peer in measured) * 4)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(axis="x", color=FAINT, alpha=0.25)
    axes.tick_params(axis="x", colors=FAINT)
