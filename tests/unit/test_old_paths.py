"""Modules of arqestra that moved are found by their old paths."""

import pickle
import subprocess
import sys
from importlib import import_module

import pytest

import arqestra
from arqestra.drop_in.old_paths import FOLDER_OF


@pytest.mark.parametrize("old", sorted(FOLDER_OF))
def test_an_old_path_is_the_module_that_moved(old: str) -> None:
    assert import_module(f"arqestra.{old}") is import_module(f"arqestra.{FOLDER_OF[old]}")


def test_old_paths_work_in_every_form_of_import_and_hide_no_public_name() -> None:
    lines = (
        "import arqestra.pool, arqestra.job",
        "from arqestra import limits",
        "from arqestra.retry import Backoff",
        "assert arqestra.pool.Pool is arqestra.Pool and limits.RateLimit is arqestra.RateLimit",
        "assert Backoff is arqestra.Backoff and isinstance(arqestra.job(max_tries=2)(len_of), arqestra.JobFunction)",
    )
    code = "async def len_of(ctx, text): return len(text)\n" + "\n".join(lines)
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_a_pickle_that_names_an_old_path_is_read() -> None:
    now = pickle.dumps(arqestra.Snooze(5), protocol=0)
    module = arqestra.Snooze.__module__.encode()
    before = now.replace(module, b"arqestra." + module.rpartition(b".")[2])
    assert before != now
    assert isinstance(pickle.loads(before), arqestra.Snooze)
