"""docs/settings.md is what the code says."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from arqestra import create_pool, job
from arqestra.definitions.options import rule_of
from arqestra.worker.settings import SETTINGS
from docs.settings_page import PAGE, page


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make settings-page`"


@pytest.mark.parametrize("name", SETTINGS)
def test_the_page_has_each_setting_with_its_default_rule_and_meaning(name: str) -> None:
    setting = SETTINGS[name]
    line = next(line for line in page().splitlines() if line.startswith(f"| `{name}` |"))

    for part in (f"`{setting.default!r}`", setting.rule.expects, setting.about):
        assert part in line
    assert len(setting.about) > 10


@pytest.mark.parametrize("function", [job, create_pool])
def test_the_page_has_each_option_of_a_function(function: Any) -> None:
    options = [each.name for each in inspect.signature(function).parameters.values() if each.name != "function"]

    assert [name for name in options if f"| `{name}` |" not in page()] == []


def test_every_option_of_a_job_has_a_rule() -> None:
    assert [
        name for name in inspect.signature(job).parameters if name != "function" and not rule_of("@job", name)
    ] == []


def test_the_units_of_times_and_sizes_are_named() -> None:
    for setting in SETTINGS.values():
        takes_time = setting.rule.accepts(0.5) and not setting.rule.accepts("x")
        assert not takes_time or "seconds" in setting.rule.expects, setting.name
