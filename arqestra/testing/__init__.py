"""Testing jobs: one attempt without a server, what stands in the queues, running all that is due, moving the time.

Start with `perform` and `drain`; docs/testing.md has a small project. For workflows there are `run_workflow` (without a
server, in no time) and `replay` (whether code fits the histories of production): docs/testing-workflows.md.
`pytest_arqestra` has fixtures for pytest. The functions here work with any test runner.
"""

from .answers import takes
from .clock import Clock, travelling
from .drain import drain
from .enqueued import EnqueuedJob, assert_enqueued, enqueued, refute_enqueued
from .modes import inline, manual
from .outcomes import Drained, JobOutcome
from .perform import perform
from .replay import Replay, assert_replays, replay, replay_all
from .run_workflow import Signal, run_workflow
from .workers import TestWorker, make_worker
from .workflow_outcome import Step, WorkflowOutcome

__all__ = (
    "Clock",
    "Drained",
    "EnqueuedJob",
    "JobOutcome",
    "Replay",
    "Signal",
    "Step",
    "TestWorker",
    "WorkflowOutcome",
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
    "run_workflow",
    "takes",
    "travelling",
)
