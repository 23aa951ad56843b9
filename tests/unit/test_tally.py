"""The tally: counts folded in memory, written as sums and maxima, kept while Redis cannot be reached."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from arqestra.histogram import bucket_of
from arqestra.outcome import State
from arqestra.store.store import Store
from arqestra.worker.tally import Tally


class NotingStore(Store):
    """Keeps what it is given, or is out of reach."""

    def __init__(self) -> None:
        self.written: list[tuple[dict[str, int], dict[str, int]]] = []
        self.is_away = False

    async def record(self, minute: int, sums: Iterable[tuple[str, int]], maxima: Iterable[tuple[str, int]]) -> None:
        if self.is_away:
            raise ConnectionError("away")
        self.written.append((dict(sums), dict(maxima)))


async def test_attempts_of_one_function_are_summed() -> None:
    tally, store = Tally(), NotingStore()
    tally.count(("q", "f", State.COMPLETE.value), 10, 1)
    tally.count(("q", "f", State.COMPLETE.value), 30, 2)
    tally.count(("q", "f", State.FAILED.value), 5, 0)
    tally.count(("q", "g", State.ABORTED.value), 0, 7)

    await tally.flush(store)

    assert store.written == [
        (
            {
                "q|f|complete": 2,
                "q|f|run_ms_total": 45,
                "q|f|wait_ms_total": 3,
                **{f"q|f|run_le_{bucket_of(10)}": 1, f"q|f|run_le_{bucket_of(30)}": 1, f"q|f|run_le_{bucket_of(5)}": 1},
                **{"q|f|wait_le_0": 2, f"q|f|wait_le_{bucket_of(2)}": 1},
                "q|f|failed": 1,
                "q|g|aborted": 1,
                "q|g|run_ms_total": 0,
                "q|g|wait_ms_total": 7,
                **{"q|g|run_le_0": 1, f"q|g|wait_le_{bucket_of(7)}": 1},
            },
            {"q|f|run_ms_max": 30, "q|g|run_ms_max": 0},
        )
    ]


@pytest.mark.parametrize(
    ("state", "figure"),
    [
        (State.COMPLETE, "complete"),
        (State.FAILED, "failed"),
        (State.DEAD, "failed"),
        (State.RETRIED, "retried"),
        (State.RELEASED, "retried"),
        (State.ABORTED, "aborted"),
        (State.EXPIRED, "expired"),
    ],
)
async def test_each_state_has_its_figure(state: State, figure: str) -> None:
    tally, store = Tally(), NotingStore()
    tally.count(("q", "f", state.value), 0, 0)
    await tally.flush(store)

    assert store.written[0][0][f"q|f|{figure}"] == 1


async def test_states_of_one_figure_are_added_up() -> None:
    tally, store = Tally(), NotingStore()
    tally.count(("q", "f", State.FAILED.value), 1, 0)
    tally.count(("q", "f", State.DEAD.value), 2, 0)
    await tally.flush(store)

    assert store.written[0][0]["q|f|failed"] == 2


async def test_what_was_written_is_not_written_again() -> None:
    tally, store = Tally(), NotingStore()
    tally.count(("q", "f", State.COMPLETE.value), 1, 1)
    await tally.flush(store)
    await tally.flush(store)

    assert len(store.written) == 1


async def test_counts_are_kept_while_redis_is_away() -> None:
    tally, store = Tally(), NotingStore()
    tally.count(("q", "f", State.COMPLETE.value), 9, 1)
    store.is_away = True
    with pytest.raises(ConnectionError):
        await tally.flush(store)
    tally.count(("q", "f", State.COMPLETE.value), 4, 1)
    store.is_away = False
    await tally.flush(store)

    assert store.written == [
        (
            {
                **{"q|f|complete": 2, "q|f|run_ms_total": 13, "q|f|wait_ms_total": 2, "q|f|wait_le_0": 2},
                **{f"q|f|run_le_{bucket_of(9)}": 1, f"q|f|run_le_{bucket_of(4)}": 1},
            },
            {"q|f|run_ms_max": 9},
        )
    ]
