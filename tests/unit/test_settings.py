"""Worker settings: every name, its type and range; unknown names; settings classes."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from datetime import UTC, timedelta
from functools import partial
from typing import Any, ClassVar

import arq.worker
import pytest
from arq.connections import RedisSettings

from arqestra import FunctionsError, Middleware, SettingsError, Worker, create_worker, worker_settings
from arqestra.definitions.redact import shown_value
from arqestra.worker.settings import SETTING_NAMES, WorkerOptions


async def work(ctx: dict[Any, Any]) -> None:
    """A job."""


async def hook(ctx: dict[Any, Any]) -> None:
    """A hook."""


# For each setting: a value that is taken, and values that are not.
SECONDS = (1, (-1, "1", True, None, timedelta(seconds=-1), [1]))
FLAG = (True, (1, "yes", None))
HOOK = (hook, ("hook", 1))
POSITIVE = (3, (0, -1, 1.5, "3", True, None))
SETTINGS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "functions": ([work], ("work", work, None, 1)),
    "queue_name": ("q", (1, b"q")),
    "cron_jobs": ([], (1, "cron")),
    "redis_settings": ("redis://localhost", (1, {"host": "localhost"})),
    "redis_pool": (None, ("redis://localhost", 1)),
    "burst": FLAG,
    "on_startup": HOOK,
    "on_shutdown": HOOK,
    "on_job_start": HOOK,
    "on_job_end": HOOK,
    "after_job_end": HOOK,
    "handle_signals": FLAG,
    "job_completion_wait": SECONDS,
    "max_jobs": POSITIVE,
    "job_timeout": (timedelta(minutes=1), (0, -1, "1", True)),
    "keep_result": SECONDS,
    "keep_result_forever": FLAG,
    "poll_delay": SECONDS,
    "queue_read_limit": (50, (0, 1.5, "50", True)),
    "max_tries": POSITIVE,
    "health_check_interval": SECONDS,
    "health_check_key": ("key", (1, b"key")),
    "ctx": ({"a": 1}, ([], "ctx")),
    "retry_jobs": FLAG,
    "allow_abort_jobs": FLAG,
    "max_burst_jobs": (-1, (1.5, "1", True, None)),
    "job_serializer": (repr, ("repr", 1)),
    "job_deserializer": (repr, ("repr", 1)),
    "expires_extra_ms": (0, (-1, 1.5, "0", True, None)),
    "timezone": (UTC, ("Asia/Soul", "", 0)),
    "log_results": FLAG,
    "lease": (5, (0, -1, "5", True, None)),
    "serializer": ("msgpack", ("yaml", 1, b"json")),
    "max_crashes": POSITIVE,
    "stuck_after": (60, (0, -1, "60", True)),
    "queues": (["critical", "default"], ("critical", [], ["a", "a"], {"a": 0}, {"a": "1"}, {}, [1])),
    "cron_queue": ("arq:queue", (1, "another")),
    "queue_slots": ({"arq:queue": 1}, ({"a": 0}, {"a": True}, ["a"], {1: 1})),
    "schedules": ([], ("s", 1)),
    "scheduler": (False, (1, "yes", None)),
    "queue_concurrency": ({"arq:queue": 1}, ({"a": 0}, {"a": True}, ["a"], {1: 1})),
    "middleware": ([], ("m", 1, None, [1], [Middleware], [None])),
    "on_retries_exhausted": HOOK,
    "on_expired": HOOK,
    "keep_dead": SECONDS,
    "threads": POSITIVE,
    "processes": (3, (0, -1, 1.5, "3", True)),
    "max_calls_per_process": (3, (0, -1, 1.5, "3", True)),
    "cancel_grace": (5, (0, -1, "5", True, None)),
    "max_jobs_per_child": (3, (0, -1, 1.5, "3", True)),
    "max_memory_per_child": ("512MB", (0, -1, 1.5, "3", "1KB", "lots", True)),
    "preload": (False, (0, "no", None)),
    "metrics_port": (0, (-1, 65536, 1.5, "9750", True)),
    "metrics_host": ("0.0.0.0", (1, None, b"::1")),
    "unknown_functions": ("fail", ("ignore", "", 0, -1, True, [])),
    "uvloop": FLAG,
    "key_prefix": ("app1", (1, b"app1", "a:b", "arq", "app*")),
}
WRONG = [(name, value) for name, (_, wrong) in SETTINGS.items() for value in wrong]
ANYTHING: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        1.5,
        float("nan"),
        float("inf"),
        10**400,
        "",
        "x",
        "\ud800",
        b"x",
        (),
        [1],
        [None],
        {},
        {1: 1},
    ),
    *({"a": -1}, {1, 2}, range(3), object(), object, work, timedelta(1), timedelta.max, UTC),
]


def test_every_setting_is_in_the_table() -> None:
    assert set(SETTING_NAMES) == set(SETTINGS)


def test_every_keyword_of_arqs_worker_has_arqs_default() -> None:
    ours = {field.name: field for field in dataclasses.fields(WorkerOptions)}
    for name, parameter in inspect.signature(arq.worker.Worker.__init__).parameters.items():
        if name == "self":
            continue
        field = ours[name]
        default = parameter.default if parameter.default is not inspect.Parameter.empty else ()
        assert getattr(WorkerOptions(), name) == default, field


@pytest.mark.parametrize("name", SETTINGS)
def test_a_right_value_is_taken(name: str) -> None:
    value = SETTINGS[name][0]

    assert getattr(WorkerOptions.of({name: value}), name) == value


# Every way in which settings come.
WAYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "options": WorkerOptions.of,
    "keywords": lambda settings: Worker(**settings),
    "class": lambda settings: worker_settings(type("Settings", (), settings)),
    "dict": lambda settings: create_worker(settings),
    "keywords over a class": lambda settings: create_worker(Base, **settings),
    "undecorated class": lambda settings: create_worker(type("Settings", (), settings)),
}


@pytest.mark.parametrize(("name", "value"), WRONG)
async def test_a_wrong_value_is_refused_by_name_with_what_was_expected_and_got(name: str, value: Any) -> None:
    for way, give in WAYS.items():
        with pytest.raises(SettingsError) as caught:
            give({"functions": [work], name: value})

        assert str(caught.value).startswith(f"{name}: expected "), way
        assert shown_value(value) in str(caught.value) or name == "redis_settings", way
        assert isinstance(caught.value, TypeError), way


@pytest.mark.parametrize("name", SETTINGS)
async def test_whatever_a_setting_is_given_it_is_taken_or_refused_by_its_name(name: str) -> None:
    for value in ANYTHING:
        message = _refusal({"functions": [work], "handle_signals": False, name: value})
        assert not message or re.match(rf"{name}: .*\bexpected .*, got ", message), message


def _refusal(settings: dict[str, Any]) -> str:
    try:
        Worker(**settings)
    except SettingsError as error:
        return str(error)
    except ValueError:
        if settings.get("queue_name", "") is not None:  # arq's error, in arq's words
            raise
    return ""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("cron_jobs", [5], r"cron_jobs: expected a sequence of cron\(\.\.\.\), got \[5\]"),
        ("cron_jobs", 5, r"cron_jobs: expected a sequence of cron\(\.\.\.\), got 5"),
        ("schedules", [5], r"schedules: expected a sequence of schedule\(\.\.\.\) or cron.*, got \[5\]"),
        ("functions", b"work", r"functions: expected a sequence of job functions, .*, got b'work'"),
    ],
)
async def test_a_list_of_something_else_is_refused_by_the_name_of_its_setting(
    way: str, name: str, value: Any, words: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{words}"):
        WAYS[way]({"functions": [work], name: value})


async def test_what_arq_refuses_with_a_runtime_error_is_one_too() -> None:
    wrong: list[dict[str, Any]] = [{"functions": [5]}, {"functions": []}, {"cron_jobs": [5]}]
    for settings in wrong:
        with pytest.raises(RuntimeError) as caught:
            Worker(**settings)
        assert isinstance(caught.value, FunctionsError)


@pytest.mark.parametrize("function", [5, None, "work", "no.such.module", "json.nothing", "not a path", partial(print)])
async def test_what_is_no_function_is_refused_as_one_of_functions(function: Any) -> None:
    with pytest.raises((SettingsError, ImportError), match=r"^functions: .*"):
        Worker([function])


async def test_a_url_without_a_scheme_is_refused_by_the_name_of_its_setting() -> None:
    with pytest.raises(SettingsError, match=r"^redis_settings: expected a URL redis://.*, got text without a scheme"):
        Worker([work], redis_settings="localhost:6379")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("max_job", "max_jobs"), ("que_name", "queue_name"), ("on_start_up", "on_startup"), ("poll_dely", "poll_delay")],
)
def test_a_misspelt_name_is_refused_with_the_one_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=f"unknown setting '{name}'; did you mean '{meant}'"):
        WorkerOptions.of({name: 1})


def test_a_name_like_none_is_refused_with_the_list() -> None:
    with pytest.raises(SettingsError, match=r"unknown setting 'zzz'; expected one of: after_job_end, "):
        WorkerOptions.of({"zzz": 1})


def test_options_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        WorkerOptions().max_jobs = 3  # type: ignore[misc]


def test_the_time_after_which_a_blocked_loop_is_given_up_follows_the_lease() -> None:
    assert WorkerOptions().stuck_after_s == 60
    assert WorkerOptions(lease=60).stuck_after_s == 240
    assert WorkerOptions(lease=60, stuck_after=5).stuck_after_s == 5


async def test_a_worker_refuses_what_the_options_refuse() -> None:
    with pytest.raises(SettingsError, match="did you mean 'max_jobs'"):
        Worker([work], max_job=3)  # type: ignore[call-arg]


async def test_a_worker_without_functions_is_refused_as_by_arq() -> None:
    with pytest.raises(RuntimeError, match="at least one function or cron_job must be registered"):
        Worker([])


# -- settings classes ---------------------------------------------------------------------------------------------


class Base:
    functions: ClassVar[list[Any]] = [work]
    max_jobs = 7
    redis_settings = "redis://example.invalid:7000/3"


def test_a_settings_class_takes_inherited_settings_in() -> None:
    @worker_settings
    class Derived(Base):
        max_tries = 2

    assert vars(Derived)["max_jobs"] == 7  # where arq's command line looks
    assert vars(Derived)["functions"] == [work]
    assert Derived.max_tries == 2


def test_a_settings_class_may_override_what_it_inherits() -> None:
    @worker_settings
    class Derived(Base):
        max_jobs = 8

    assert vars(Derived)["max_jobs"] == 8


def test_a_url_becomes_redis_settings() -> None:
    @worker_settings
    class Derived(Base):
        pass

    settings: Any = Derived.redis_settings
    assert isinstance(settings, RedisSettings)
    assert (settings.host, settings.port, settings.database) == ("example.invalid", 7000, 3)


def test_a_misspelt_setting_of_a_class_is_refused() -> None:
    with pytest.raises(SettingsError, match="settings class Misspelt: unknown setting 'max_job'"):

        @worker_settings
        class Misspelt(Base):
            max_job = 3


def test_a_wrong_value_in_a_class_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"max_jobs: expected an int of at least 1 .*, got 'ten'"):

        @worker_settings
        class Wrong(Base):
            max_jobs = "ten"  # type: ignore[assignment]


def test_private_names_are_the_classs_own() -> None:
    @worker_settings
    class Private(Base):
        _note = "not a setting"

    assert Private._note == "not a setting"


async def test_hooks_may_be_static_methods_plain_functions_or_names() -> None:
    calls: list[str] = []

    @worker_settings
    class Hooked(Base):
        on_job_start = hook

        @staticmethod
        async def on_startup(ctx: dict[Any, Any]) -> None:
            calls.append("static")

        async def on_shutdown(ctx: dict[Any, Any]) -> None:  # type: ignore[misc]  # noqa: N805
            calls.append("plain")

    worker = create_worker(Hooked, handle_signals=False)
    assert worker.on_job_start is hook
    await worker.on_startup({})  # type: ignore[misc]
    await worker.on_shutdown({})  # type: ignore[misc]
    assert calls == ["static", "plain"]


async def test_keywords_win_over_the_class() -> None:
    @worker_settings
    class Derived(Base):
        pass

    assert create_worker(Derived, max_jobs=3, handle_signals=False).max_jobs == 3
    assert create_worker({"functions": [work], "max_tries": 9}, handle_signals=False).max_tries == 9


@pytest.mark.parametrize("source", [None, "worker.WorkerSettings", 3, [work], work])
def test_what_has_no_settings_is_refused(source: Any) -> None:
    with pytest.raises(SettingsError, match="expected a class, an object with attributes or a dict, got "):
        worker_settings(source)


def test_a_partial_is_shown_without_its_arguments() -> None:
    assert shown_value(partial(print, "hunter2")) == "<partial>"
