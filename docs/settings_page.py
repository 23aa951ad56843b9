"""Makes docs/settings.md: every setting and option, from the places in the code that decide on them.

    python -m docs.settings_page    # or: make settings-page

Of a worker's settings all is in one table, `arqestra/worker/settings.py`. Of a function's options, names and defaults
are those of its signature, what they do is told by its docstring, and what they may be by the rules that check them.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

import arq.worker

from arqestra import Pool, RedisSettings, create_pool, cron, job, workflow
from arqestra.cli.worker import OPTIONS_OF_SETTINGS
from arqestra.client.pool_options import POOL_RULES
from arqestra.definitions.function import JobFunction
from arqestra.definitions.options import rule_of
from arqestra.definitions.rules import Rule
from arqestra.definitions.signature import NodeOptions
from arqestra.worker.settings import SETTINGS, Setting

__all__ = ("PAGE", "page")

PAGE = Path(__file__).with_name("settings.md")
_FIELD = re.compile(r"^:(?:param|ivar) ([\w, ]+): (.*?)(?=^:|\Z)", re.M | re.S)

HEAD = """\
# Settings

Made by `make settings-page` out of the code; change it there (`docs/settings_page.py` says where).

A value that a setting cannot have is refused where it is written, by a `SettingsError` that names the setting and says
what was expected and what was got. A name that is no setting is refused too, with the one that was probably meant.

"What it may be" is what that error says. A setting whose default is None may be None as well. Seconds may be an int, a
float or a timedelta.
"""

WORKER = """\
## A worker

The attributes of a settings class (or the keys of a dict) for `arq worker.WorkerSettings` and `arqestra worker`, and
the keywords of `Worker` and `create_worker`:

```python
@arqestra.worker_settings
class WorkerSettings:
    functions = [send_email]
    max_jobs = 100
```
"""

OPTIONS = """\
These options of `arqestra worker` stand for settings, and win over those of the class: {}.
"""

JOB = """\
## Job functions

Options of `@job(...)`. None is the worker's setting, where it has one of that name.
"""

WORKFLOW = """\
Options of `@workflow(...)`:
"""

ARQ = """\
arq's `func(...)` and `cron(...)` take `name`, `timeout`, `keep_result`, `keep_result_forever` and `max_tries` of these,
and `cron(...)` also:
"""

CALL = """\
## One enqueue

Options of `function.options(...)`, for `pool.enqueue` and `function.bind`, and of `.set(...)` for a call in a flow.
None is the function's own.
"""

ON_FAILURE = """\
`.set(...)` alone takes `on_failure`, {}: {}.
"""

ENQUEUE_JOB = """\
Keywords of `pool.enqueue_job`, arq's way, by the name of a function:
"""

FLOW = """\
Options of `pool.enqueue_flow`:
"""

POOL = """\
## A pool

Options of `create_pool`, and of `Pool` but for the first two:
"""

REDIS = """\
## Redis

Fields of `RedisSettings`: arq's, and the last three for Sentinels with users of their own. A URL `redis://`, `rediss://`
or `unix://` stands for them wherever settings of Redis are taken.
"""


class Row(NamedTuple):
    """A setting or option. Text, but for the default."""

    name: str
    default: Any
    expects: str
    about: str


def page() -> str:
    """The whole of docs/settings.md."""
    parts = [HEAD, *_of_worker(), JOB, _table(_rows("@job", job)), WORKFLOW, _table(_rows("@workflow", workflow))]
    own = ("job_id", "unique", "run_at_startup")
    parts += [ARQ, _table([row for row in _rows("cron", cron) if row.name in own])]
    on_failure = rule_of("set", "on_failure")
    assert on_failure is not None
    parts += [CALL, _table(_rows("options", JobFunction.options))]
    parts += [ON_FAILURE.format(on_failure.expects, _abouts(NodeOptions)["on_failure"])]
    parts += [ENQUEUE_JOB, _table(_rows("enqueue_job", Pool.enqueue_job))]
    parts += [FLOW, _table(_rows("enqueue_flow", Pool.enqueue_flow))]
    parts += [POOL, _table(_rows("create_pool", create_pool, POOL_RULES.get))]
    parts += [REDIS, _table(_rows("RedisSettings", RedisSettings, lambda name: None))]
    return "\n".join(parts)


def _of_worker() -> Iterator[str]:
    rows = [Row(each.name, each.default, _expects(each), each.about) for each in SETTINGS.values()]
    of_arq = inspect.signature(arq.worker.Worker).parameters
    yield WORKER
    yield "### arq's settings, with arq's defaults\n"
    yield _table([row for row in rows if row.name in of_arq])
    yield "### arqestra's\n"
    yield _table([row for row in rows if row.name not in of_arq])
    yield OPTIONS.format(", ".join(f"`{option}` for `{name}`" for name, option in OPTIONS_OF_SETTINGS.items()))


def _expects(setting: Setting) -> str:
    said = setting.default is None or not setting.optional
    return setting.rule.expects if said else f"{setting.rule.expects}, or None"


def _rows(where: str, function: Callable[..., Any], rules: Callable[[str], Rule | None] | None = None) -> Iterator[Row]:
    """The options of a function that have a default: not what it enqueues or decorates.

    :param rules: name -> rule, where they are not in the table of options
    """
    abouts = _abouts(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name in abouts and parameter.default is not parameter.empty:
            rule = rule_of(where, name.lstrip("_")) if rules is None else rules(name)
            expects = _type(parameter.annotation) if rule is None else rule.expects
            yield Row(name, parameter.default, expects, abouts[name])


def _type(annotation: Any) -> str:
    """A type in words: where no rule of ours judges."""
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(map(_type, get_args(annotation)))
    return "None" if annotation is NoneType else inspect.formatannotation(annotation)


def _abouts(documented: Any) -> dict[str, str]:
    """What a docstring says of each parameter, or field."""
    text = inspect.getdoc(documented) or ""
    return {
        name: " ".join(about.split()).rstrip(".") for names, about in _FIELD.findall(text) for name in names.split(", ")
    }


def _table(rows: Iterable[Row]) -> str:
    lines = ["| name | default | what it may be | what it does |", "|---|---|---|---|"]
    for row in rows:
        cells = (f"`{row.name}`", _default(row.default), row.expects, row.about)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _default(value: Any) -> str:
    return f"`{value!r}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
