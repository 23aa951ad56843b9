"""What jobs tell: written once, in order, whatever is lost on the way; bounded while Redis does not take it."""

from __future__ import annotations

from typing import Any

import pytest

from arqestra.protocol.keys import Keys
from arqestra.protocol.progress import decode_line
from arqestra.store.records import LeasedJob
from arqestra.store.store import Store
from arqestra.worker.run.attempt import Attempt
from arqestra.worker.telemetry import progress_buffer as notebook_module
from arqestra.worker.telemetry.events import EventPublisher
from arqestra.worker.telemetry.progress_buffer import ProgressBuffer


class NotingStore(Store):
    """Keeps what `notes` is given, as the script does, or loses calls or replies.

    :ivar writes: of each job that was written: id, number, known to have ended, lines
    """

    def __init__(self) -> None:
        self.keys = Keys()
        self.loses_call = self.loses_reply = False
        self.verdict = b"written"
        self.writes: list[tuple[str, int, int, list[str]]] = []
        self.calls = 0

    async def call(self, name: str, *args: Any) -> Any:
        assert name == "progress"
        self.calls += 1
        if self.loses_call:
            raise ConnectionError("away")
        at, verdicts = 2, []
        while at < len(args):
            job_id, _, number, _, ended, _, lines = args[at : at + 7]
            texts = [decode_line(line).text for line in args[at + 7 : at + 7 + lines]]
            if self.verdict == b"written" and (job_id, number) not in [write[:2] for write in self.writes]:
                self.writes.append((job_id, number, ended, texts))
            verdicts.append(self.verdict)
            at += 7 + lines
        if self.loses_reply:
            raise ConnectionError("cut")
        return verdicts


def attempt_at(job_id: str, progress_buffer: ProgressBuffer) -> Attempt:
    return Attempt(LeasedJob("q", "w.1", 0, job_id, b"", 1, 0, 0, ""), None, progress_buffer.noted)  # type: ignore[arg-type]


def empty_buffer() -> ProgressBuffer:
    return ProgressBuffer(EventPublisher("w"))


async def test_lines_whose_reply_was_lost_are_written_once_and_before_newer_ones() -> None:
    notes, store = empty_buffer(), NotingStore()
    attempt = attempt_at("a", notes)
    attempt.tell_line("one")
    store.loses_reply = True
    with pytest.raises(ConnectionError):
        await notes.flush(store)
    attempt.tell_line("two")
    store.loses_reply = False
    await notes.flush(store)
    await notes.flush(store)

    assert [(number, texts) for _, number, _, texts in store.writes] == [(1, ["one"]), (2, ["two"])]


async def test_jobs_that_tell_by_turns_are_each_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook_module, "MAX_ATTEMPTS", 10)
    notes, store = empty_buffer(), NotingStore()
    store.loses_call = True
    attempts = [attempt_at(f"j{number}", notes) for number in range(5)]
    for turn in range(1_000):
        for attempt in attempts:
            attempt.tell_progress(turn, None, "")
    assert len(notes._noted) == 5  # private: memory that is not given back shows nowhere else

    for number in range(100):  # of ended jobs too
        attempt_at(f"k{number}", notes).tell_line("line")
        with pytest.raises(ConnectionError):
            await notes.flush(store)
    assert len(notes._unwritten) == 10


async def test_an_attempt_that_lost_its_lease_tells_nothing() -> None:
    notes, store = empty_buffer(), NotingStore()
    attempt = attempt_at("a", notes)
    attempt.tell_line("one")
    attempt.resolved = False
    await notes.flush(store)

    assert store.calls == 0


@pytest.mark.parametrize(("settled", "written"), [(True, ["last"]), (False, [])])
async def test_what_nobody_holds_is_written_when_its_outcome_was_taken(settled: bool, written: list[str]) -> None:
    notes, store = empty_buffer(), NotingStore()
    attempt = attempt_at("a", notes)
    attempt.tell_line("last")
    store.verdict = b"free"
    await notes.flush(store)
    attempt.resolved, store.verdict = settled, b"written" if settled else b"free"
    await notes.flush(store)
    await notes.flush(store)

    assert [texts for *_, texts in store.writes] == ([written] if written else [])
    assert all(ended for _, _, ended, _ in store.writes)
    assert store.calls == 2
