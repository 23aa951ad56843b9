"""Settings as people keep them: classes, instances, dicts, modules, with all that stands beside the settings."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import traceback
import types
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import arq.cli
import arq.worker
import pytest
from arq.connections import RedisSettings

import arqestra
from arqestra import SettingsError, Worker, create_pool, create_worker, run_worker, worker_settings
from arqestra.worker import settings_source
from arqestra.worker.command_line import get_kwargs, is_ours
from arqestra.worker.settings import SETTING_NAMES, WorkerOptions

SECRET = "hunter2"


async def work(ctx: dict[Any, Any]) -> None:
    """A job."""


async def startup(ctx: dict[Any, Any]) -> None:
    """A hook."""


@pytest.fixture(autouse=True)
def nothing_told_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_source, "_told", set())


class Plain:
    functions: ClassVar = [work]
    max_jobs = 3
    on_startup = startup


@dataclasses.dataclass
class Fields:
    functions: list[Any] = dataclasses.field(default_factory=lambda: [work])
    max_jobs: int = 3
    on_startup: Any = startup


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenFields:
    functions: Any = (work,)
    max_jobs: int = 3
    on_startup: Any = startup


class Named(NamedTuple):
    functions: Any = (work,)
    max_jobs: int = 3
    on_startup: Any = startup


class WithMethods:
    """Hooks that are methods, and a property."""

    max_jobs = 3

    def __init__(self) -> None:
        self._started: list[Any] = []

    @property
    def functions(self) -> list[Any]:
        return [work]

    async def on_startup(self, ctx: dict[Any, Any]) -> None:
        self._started.append(ctx)


class OfStockWorker(arq.worker.Worker):
    functions: ClassVar[Any] = [work]  # type: ignore[misc]  # settings of a worker's class are those of its instances
    max_jobs = 3
    on_startup: Any = startup


class OfOurWorker(Worker):
    functions: ClassVar[Any] = [work]  # type: ignore[misc]  # as above
    max_jobs = 3
    on_startup: Any = startup


def _module() -> types.ModuleType:
    module = types.ModuleType("settings_of_a_project")
    vars(module).update(functions=[work], max_jobs=3, on_startup=startup, os=contextlib, max_job=9)
    return module


SOURCES: dict[str, Any] = {
    "class": Plain,
    "instance": Plain(),
    "dict": {"functions": [work], "max_jobs": 3, "on_startup": startup},
    "type": type("Made", (), {"functions": [work], "max_jobs": 3, "on_startup": startup}),
    "dataclass instance": Fields(),
    "frozen dataclass instance with slots": FrozenFields(),
    "named tuple": Named(),
    "instance with methods": WithMethods(),
    "namespace": types.SimpleNamespace(functions=[work], max_jobs=3, on_startup=startup),
    "class of stock arq's worker": OfStockWorker,
    "class of our worker": OfOurWorker,
    "module": _module(),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))
@pytest.mark.parametrize("decorated", [False, True])
async def test_each_source_makes_the_same_worker(source: Any, decorated: bool) -> None:
    if decorated:
        assert worker_settings(source) is source
        assert is_ours(source)
    worker = create_worker(source, handle_signals=False)

    assert type(worker) is Worker
    assert list(worker.functions) == ["work"]
    assert worker.max_jobs == 3
    assert worker.on_startup is not None
    await worker.on_startup({"a": 1})


async def test_hooks_that_are_methods_know_their_instance() -> None:
    settings = WithMethods()
    worker = create_worker(settings, handle_signals=False)

    await worker.on_startup({"a": 1})  # type: ignore[misc]
    assert settings._started == [{"a": 1}]


async def test_keywords_beside_the_settings_are_judged_as_the_workers_own() -> None:
    for use in (create_worker, run_worker):
        with pytest.raises(SettingsError, match="unknown setting 'colour'"):
            use({"functions": [work], "uvloop": False}, colour="blue")


def test_a_dict_that_equals_a_decorated_one_is_not_decorated() -> None:
    worker_settings(decorated := {"functions": [work]})

    assert is_ours(decorated)
    assert not is_ours(dict(decorated))


async def test_settings_that_stock_arq_runs_are_told_once_each(caplog: pytest.LogCaptureFixture) -> None:
    one, two = ({"functions": [work], "max_jobs": number, "handle_signals": False} for number in (1, 2))
    made = type("Undecorated", (), {"functions": [work]})
    for settings in (one, two, one, made, made):
        assert type(arq.worker.create_worker(settings, handle_signals=False)) is arq.worker.Worker

    told = [text for text in _warnings(caplog) if "runs under stock arq, although arqestra is imported" in text]
    assert [text.split(" runs")[0] for text in told] == ["settings dict", "settings dict", "settings class Undecorated"]
    assert "worker_settings({...})" in told[0]
    assert "@arqestra.worker_settings" in told[2]


async def test_a_function_of_arqs_that_was_imported_before_runs_ours_too() -> None:
    ours = worker_settings({"functions": [work], "handle_signals": False})

    made: list[Any] = [arq.worker.create_worker(ours), vars(arq.cli)["create_worker"](ours)]
    assert [type(worker) for worker in made] == [Worker, Worker]  # imported after arqestra, as a rule before it


# -- what stands beside the settings ----------------------------------------------------------------------------------


class Crowded:
    """What projects have in their settings classes."""

    import os  # an imported name
    from json import dumps  # type: ignore[misc]

    colour = "blue"
    QUEUE_NAME = "mail"
    queue_name = QUEUE_NAME
    retries: ClassVar[list[int]] = []
    _connections: ClassVar[dict[str, Any]] = {}

    class Config:
        """Another class."""

    async def startup(ctx: dict[Any, Any]) -> None:  # type: ignore[misc]  # noqa: N805
        """Used below."""

    async def job(ctx: dict[Any, Any]) -> None:  # type: ignore[misc]  # noqa: N805
        """Used below."""

    on_startup = startup
    functions: ClassVar = [job]

    def process(self) -> None:
        """A helper whose name is nearly that of a setting that takes a number."""

    @classmethod
    def build(cls) -> None:
        """A helper."""

    @staticmethod
    def connect() -> None:
        """A helper."""

    @cached_property
    def client(self) -> None:
        """A helper."""

    def _private(self) -> None:
        """A helper of its own."""


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_names_that_are_no_settings_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    worker_settings(Crowded)
    get_kwargs(Crowded)
    create_worker(Crowded, handle_signals=False)

    assert _warnings(caplog) == [
        "settings class Crowded: no settings of a worker, so they are not read: "
        "Config, QUEUE_NAME, build, client, colour, connect, dumps, os, process, retries"
    ]


@pytest.mark.parametrize("make", [lambda names: names, lambda names: type("Made", (), names)], ids=["dict", "class"])
async def test_names_of_other_sources_are_told_too(caplog: pytest.LogCaptureFixture, make: Any) -> None:
    create_worker(make({"functions": [work], "colour": "blue"}), handle_signals=False)

    assert len(_warnings(caplog)) == 1
    assert "colour" in _warnings(caplog)[0]
    assert "blue" not in _warnings(caplog)[0]


async def test_names_of_a_librarys_base_class_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    pydantic: Any = pytest.importorskip("pydantic")

    class Settings(pydantic.BaseModel):  # type: ignore[misc]
        functions: Any = (work,)
        max_jobs: int = 3

    assert create_worker(Settings(), handle_signals=False).max_jobs == 3
    assert "model_dump" not in "".join(_warnings(caplog))


async def test_all_settings_and_nothing_else_is_told_nothing(caplog: pytest.LogCaptureFixture) -> None:
    for source in SOURCES.values():
        get_kwargs(source)

    assert _warnings(caplog) == []


NEAR = [
    ("max_job", 5, "max_jobs"),
    ("maxJobs", 5, "max_jobs"),
    ("MAX_JOBS", 5, "max_jobs"),
    ("max_retries", 5, "max_tries"),
    ("leese", 5, "lease"),
    ("queue", "mail", "queues"),
    ("poll_dealy", 1, "poll_delay"),
    ("cronjobs", [], "cron_jobs"),
    ("redis_setting", None, "redis_settings"),
    ("on_start", startup, "on_startup"),
    ("on_job_started", startup, "on_job_start"),
    ("after_job_ends", staticmethod(startup), "after_job_end"),
    ("on_statup", None, "on_startup"),
]


@pytest.mark.parametrize(("name", "value", "meant"), NEAR)
@pytest.mark.parametrize("kind", ["class", "instance", "dict"])
async def test_a_near_miss_is_an_error(name: str, value: Any, meant: str, kind: str) -> None:
    names = {"functions": [work], name: value}
    cls = type("Made", (), names)
    source: Any = {"class": cls, "instance": cls(), "dict": names}[kind]

    for use in (worker_settings, create_worker, get_kwargs):
        with pytest.raises(SettingsError, match=f"unknown setting '{name}'; did you mean '{meant}'"):
            use(source)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("process", startup),
        ("setup", startup),
        ("schedule", startup),
        ("health_check", startup),
        ("timeout", 3),
        ("redis_url", "redis://localhost"),
        ("log_level", "INFO"),
        ("max_size", 3),
        ("burst_mode", True),
        ("name", "mail"),
    ],
)
def test_a_name_of_ones_own_is_no_near_miss(name: str, value: Any) -> None:
    assert get_kwargs({"functions": [work], name: value}) == {"functions": [work]}


# -- passwords --------------------------------------------------------------------------------------------------------

URL = f"redis://user:{SECRET}@localhost/0"
SECRETS: dict[str, Any] = {
    "redis settings": RedisSettings(password=SECRET),
    "url": URL,
    "url as bytes": URL.encode(),
    "another scheme": f"https://user:{SECRET}@localhost",
    "no scheme": f"{SECRET}@localhost",
    "port": f"redis://user:p@ss/{SECRET}@localhost:x",
    "dict": {"host": "localhost", "password": SECRET},
    "list": [RedisSettings(password=SECRET), URL],
    "nested": {"a": [{"b": (URL,)}]},
    "object": types.SimpleNamespace(password=SECRET),
    "query": f"redis://localhost?password={SECRET}",
}


@pytest.mark.parametrize("value", SECRETS.values(), ids=list(SECRETS))
async def test_no_message_shows_a_password(value: Any) -> None:
    refused = 0
    for name in SETTING_NAMES:
        for use in (WorkerOptions.of, worker_settings, lambda given: create_worker(given, handle_signals=False)):
            with _errors() as errors:
                use({"functions": [work], name: value})
            refused += len(errors)
            assert SECRET not in "".join(map(repr, errors)), name
    assert refused > 50


async def test_no_message_about_other_names_shows_a_password(caplog: pytest.LogCaptureFixture) -> None:
    get_kwargs({"functions": [work], "database": URL, "password": SECRET})
    with pytest.raises(SettingsError) as caught:
        get_kwargs({"functions": [work], "redis_setting": URL})

    assert SECRET not in str(caught.value) + "".join(_warnings(caplog))


def test_options_that_are_shown_show_no_password() -> None:
    options = WorkerOptions(redis_settings=RedisSettings(password=SECRET), ctx={"password": SECRET}, max_jobs=3)

    assert SECRET not in repr(options)
    assert "max_jobs=3" in repr(options)


@contextlib.contextmanager
def _errors() -> Iterator[list[BaseException]]:
    found: list[BaseException] = []
    try:
        yield found
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            found.append(cause)
            cause = cause.__cause__ if cause.__suppress_context__ else cause.__context__


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("redis://:s3cret@host:port/0", "whose port or database is no number"),
        ("rediss://:s3cret@host/name", "whose port or database is no number"),
        ("http://:s3cret@host", "got one of scheme 'http'"),
        (":s3cret@host", "got text without a scheme"),
        (RedisSettings(host="redis://:s3cret@host"), "host: expected the name of a host, got a URL"),
        (arqestra.RedisSettings(host="redis://:s3cret@host"), "host: expected the name of a host, got a URL"),
    ],
)
async def test_a_wrong_address_is_told_without_its_password(given: Any, expected: str) -> None:
    with pytest.raises(SettingsError) as raised:
        await create_pool(given)
    assert expected in str(raised.value)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))
    assert "s3cret" not in repr(arqestra.RedisSettings(host="redis://:s3cret@host"))
