"""Testing jobs: one attempt without a server, what stands in the queues, running all that is due, moving the time.

Start with `perform` and `drain`; docs/testing.md has a small project. For workflows `replay` says whether code fits the
histories of production: docs/testing-workflows.md. `pytest_arqestra` has fixtures for pytest. The functions here work
with any test runner.
"""

from .clock import Clock, travelling
from .drain import drain
from .enqueued import EnqueuedJob, assert_enqueued, enqueued, refute_enqueued
from .modes import inline, manual
from .outcomes import Drained, JobOutcome
from .perform import perform
from .replay import Replay, assert_replays, replay, replay_all
from .workers import TestWorker, make_worker

__all__ = (
    "Clock",
    "Drained",
    "EnqueuedJob",
    "JobOutcome",
    "Replay",
    "TestWorker",
    "assert_enqueued",
    "assert_replays",
    "drain",
    "enqueued",
    "inline",
    "make_worker",
    "manual",
    "perform",
    "refute_enqueued",
    "replay",
    "replay_all",
    "travelling",
)
