"""The public names: importable, sorted, complete; and those by which an arq user changes one import."""

from __future__ import annotations

import types

import arq
import pytest

import arqestra


def test_every_public_name_is_there() -> None:
    assert [name for name in arqestra.__all__ if not hasattr(arqestra, name)] == []


def test_the_list_is_sorted_and_without_repetition() -> None:
    assert list(arqestra.__all__) == sorted(set(arqestra.__all__), key=lambda name: (not name.isupper(), name))


def test_nothing_public_is_left_out_of_the_list() -> None:
    for name in arqestra.__all__:
        getattr(arqestra, name)  # the worker's are there once they are used
    public = {
        name
        for name, value in vars(arqestra).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }

    assert public == set(arqestra.__all__) - {"__version__"}


@pytest.mark.parametrize(
    "name",
    [
        "Job",
        "Pool",
        "RedisSettings",
        "Retry",
        "Worker",
        "create_pool",
        "cron",
        "current_job",
        "func",
        "job",
        "worker_settings",
    ],
)
def test_the_names_that_were_promised_are_public(name: str) -> None:
    assert name in arqestra.__all__


def test_what_arq_exports_is_exported_here() -> None:
    exported = {name for name in arq.__all__ if name not in ("VERSION", "__version__")}

    assert exported <= set(arqestra.__all__)


@pytest.mark.parametrize("name", ["Retry", "RetryJob", "JobStatus", "JobResult", "ResultNotFound"])
def test_arqs_own_types_are_arqs_so_that_except_and_isinstance_go_on_working(name: str) -> None:
    assert getattr(arqestra, name).__module__.startswith("arq.")


def test_every_error_has_the_one_root() -> None:
    for name in ("SettingsError", "ArgumentsError", "PayloadTooLarge", "JobRunning", "JobNotRetryable", "RemoteError"):
        assert issubclass(getattr(arqestra, name), arqestra.ArqestraError), name
