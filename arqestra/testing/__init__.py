"""Testing jobs and workflows, with any test runner: these are plain functions.

Start with `replay` (does the code fit histories of production?). docs/testing-workflows.md shows how.
"""

from .replay import Replay, assert_replays, replay, replay_all

__all__ = ("Replay", "assert_replays", "replay", "replay_all")
