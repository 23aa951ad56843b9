"""The chart of the README: throughput and start latency of all the queues."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from .catalogue import OURS
from .measurements import PeerResults

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


def draw_chart(peers: dict[str, PeerResults], where: str, file: Path) -> None:
    """Write the chart as PNG; `where` is the line about machine and server below it."""
    with plt.rc_context(STYLE):
        figure, (rates, delays) = plt.subplots(
            1, 2, figsize=(12, 0.36 * len(peers) + 1.5), width_ratios=[3, 2], layout="constrained"
        )
        figure.get_layout_engine().set(w_pad=0.15, h_pad=0.1)
        _throughput_bars(rates, peers)
        _latency_dots(delays, peers)
        figure.supxlabel(where, fontsize=9, color=FAINT, x=0.01, ha="left")
        figure.savefig(file, dpi=150, facecolor="white")
        plt.close(figure)


def _colour(peer: PeerResults) -> str:
    return OUR_COLOUR if peer.key == OURS else THEIR_COLOUR


def _throughput_bars(axes: Axes, peers: dict[str, PeerResults]) -> None:
    figures = {peer.key: peer.median_at(LEVEL, "jobs_per_s") for peer in peers.values()}
    measured = sorted((peer for peer in peers.values() if figures[peer.key]), key=lambda peer: figures[peer.key])
    axes.set_title(f"Jobs per second, one worker process, concurrency {LEVEL}", loc="left", fontweight="bold")
    if not measured:
        return
    widths = [figures[peer.key] for peer in measured]
    bars = axes.barh([peer.title for peer in measured], widths, color=[_colour(peer) for peer in measured])
    axes.bar_label(bars, [f"{width:,.0f}" for width in widths], padding=5)
    axes.set_xlim(0, max(widths) * 1.14)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(axis="x", colors=FAINT)


def _latency_dots(axes: Axes, peers: dict[str, PeerResults]) -> None:
    measured = sorted(
        (peer for peer in peers.values() if peer.start_latency), key=lambda peer: -peer.start_latency.p50_ms
    )
    axes.set_title("Start latency on an idle queue, ms", loc="left", fontweight="bold")
    if not measured:
        return
    for row, peer in enumerate(measured):
        p50, p99 = peer.start_latency.p50_ms, peer.start_latency.p99_ms
        axes.plot([p50, p99], [row, row], color=_colour(peer), linewidth=4, solid_capstyle="round", alpha=0.5)
        axes.plot(p50, row, "o", color=_colour(peer), markersize=9)
        axes.annotate(f"{p50:.3g}", (p99, row), xytext=(8, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(measured)), [peer.title for peer in measured])
    axes.set_ylim(-0.6, len(measured) - 0.4)
    axes.spines["bottom"].set_visible(False)
    axes.set_xscale("log")
    axes.set_xlim(right=max(peer.start_latency.p99_ms for peer in measured) * 4)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(axis="x", color=FAINT, alpha=0.25)
    axes.tick_params(axis="x", colors=FAINT)
