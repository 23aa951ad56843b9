"""A worker's settings as people keep them: a class, an instance of one, a dict, a module.

arq's command line takes whatever has attributes or keys and picks the names that it knows. So do we; but inherited
attributes count, and a name that is nearly a setting's is an error. All other names are told once.
"""

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import FunctionType, MethodType, ModuleType
from typing import Any

import arq.worker

from ..errors import SettingsError
from .settings import SETTING_NAMES, SETTINGS
from .worker import Worker

__all__ = ("settings_in", "title_of")

logger = logging.getLogger("arq.worker")

# A settings class may derive from a worker. What a worker is made of is no setting.
_WORKERS = frozenset({*Worker.__mro__, *arq.worker.Worker.__mro__})
_PARAMETERS = {"on_retries_exhausted": 2}  # of a hook; all others take ctx, or one value to encode
_MANY_LETTERS = 5  # a name of more letters may have two wrong ones

_Names = dict[str, frozenset[str]]  # a name -> the names that are defined in the same place

_told: set[tuple[str, tuple[str, ...]]] = set()


def settings_in(source: Any) -> dict[str, Any]:
    """The settings of a class, an instance, a dict or a module.

    Names that begin with an underscore are the source's own. Other names that are no settings are named in one warning
    a process, so that helper methods and imported names may stand beside the settings.

    :returns: setting -> value; hooks as functions of ctx, also if they are methods
    :raises SettingsError: a name is nearly that of a setting; or the source is none of these
    """
    if isinstance(source, Mapping):
        found, own = dict(source), _beside(name for name in source if isinstance(name, str))
    elif isinstance(source, type):
        found, own = _of_class(source), _own_names(source)
    elif isinstance(source, ModuleType):
        found, own = dict(vars(source)), {}  # a module imports and defines much that is no setting
    else:
        found, own = _of_instance(source)
    settings = {name: value for name, value in found.items() if name in SETTING_NAMES}
    used = _used(settings)
    others = [
        _Other(name, found.get(name), beside)
        for name, beside in own.items()
        if not (name in settings or name.startswith("_") or id(found.get(name)) in used)
    ]
    _judge(title_of(source), others)
    return settings


def title_of(source: Any) -> str:
    """How messages call a source of settings. Its values are not shown: they may be secret."""
    if isinstance(source, Mapping):
        return "settings dict"
    if isinstance(source, type):
        return f"settings class {source.__name__}"
    if isinstance(source, ModuleType):
        return f"settings module {source.__name__}"
    return f"settings object of class {type(source).__name__}"


def _of_class(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(_bases(cls)):
        for name, value in vars(base).items():
            found[name] = getattr(cls, name) if isinstance(value, staticmethod | classmethod) else value
    return found


def _bases(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if base not in _WORKERS]


def _own_names(cls: type) -> _Names:
    """Names that the class and those bases of it define that are of the same project."""
    project = cls.__module__.partition(".")[0]
    names: _Names = {}
    for base in reversed(_bases(cls)):
        if base.__module__.partition(".")[0] == project:
            names |= _beside(vars(base))
    return names


def _beside(names: Iterable[str]) -> _Names:
    together = frozenset(names)
    return dict.fromkeys(together, together)


def _of_instance(source: Any) -> tuple[dict[str, Any], _Names]:
    """What an instance has, and the names that its class or itself define."""
    cls = type(source)
    if cls.__module__ == "builtins":
        raise SettingsError(f"worker settings: expected a class, an object with attributes or a dict, got {_an(cls)}")
    of_class = _of_class(cls)
    own: dict[str, Any] = getattr(source, "__dict__", {})
    found = {**of_class, **own}
    for name in of_class.keys() & set(SETTING_NAMES) - own.keys():
        value = of_class[name]
        if not isinstance(value, FunctionType):
            found[name] = getattr(source, name)  # a property, a slot
        elif _takes_self(name, value):
            found[name] = MethodType(value, source)
    return found, {**_own_names(cls), **_beside(own)}


def _an(cls: type) -> str:
    return "None" if cls is type(None) else f"an object of class {cls.__name__}"


def _takes_self(name: str, function: FunctionType) -> bool:
    """Whether a hook is a method: it takes one more than a hook does."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [each for each in inspect.signature(function).parameters.values() if each.kind in kinds]
    return len([each for each in needed if each.default is each.empty]) > _PARAMETERS.get(name, 1)


# -- names that are no settings ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Other:
    """A name that is no setting, its value, and the names that are defined in the same place."""

    name: str
    value: Any
    beside: frozenset[str]


def _judge(title: str, others: Sequence[_Other]) -> None:
    """Raise for a name that is nearly a setting's; name all others once."""
    for other in others:
        meant = _meant(other)
        if meant is not None:
            raise SettingsError(
                f"{title}: unknown setting {other.name!r}; did you mean {meant!r}? "
                f"If it is a name of your own, begin it with an underscore: '_{other.name}'"
            )
    names = tuple(sorted(other.name for other in others))
    if names and (title, names) not in _told:
        _told.add((title, names))
        logger.warning("%s: no settings of a worker, so they are not read: %s", title, ", ".join(names))


def _used(settings: Mapping[str, Any]) -> set[int]:
    """Ids of what the settings use: functions that the class body defines and then puts into a list, say."""
    used: set[int] = set()
    for value in settings.values():
        if value is None or isinstance(value, bool | int | float | str | bytes):
            continue  # equal values may be one object
        for item in (value, *(value if isinstance(value, list | tuple | set) else ())):
            used |= {id(item), id(getattr(item, "coroutine", item))}
    return used


def _meant(other: _Other) -> str | None:
    """The setting that a name was probably to be. A function is never meant for a number, nor a number for a hook; and
    who sets the setting beside it meant something else.
    """
    value = other.value
    if isinstance(value, type | ModuleType | property):
        return None
    function = callable(value) or isinstance(value, staticmethod | classmethod)
    candidates: Iterable[str] = (setting for setting in SETTING_NAMES if setting not in other.beside)
    if value is not None:
        candidates = (setting for setting in candidates if (setting in _settings_of_functions()) is function)
    spelt = _spelling(other.name)
    near = [(_distance(spelt, _spelling(setting)), setting) for setting in candidates]
    distance, setting = min(near, default=(len(spelt), ""))
    return setting if distance <= (2 if len(spelt) > _MANY_LETTERS else 1) else None


def _spelling(name: str) -> str:
    """maxJobs, MAX_JOBS and max_jobs are spelt alike."""
    return name.replace("_", "").lower()


@cache
def _settings_of_functions() -> frozenset[str]:
    """The settings whose value is a function."""

    async def probe(ctx: Any) -> None: ...

    return frozenset(name for name, setting in SETTINGS.items() if setting.rule.accepts(probe))


def _distance(one: str, other: str) -> int:
    """Letters to add, drop, change or swap with their neighbours (optimal string alignment)."""
    rows = [list(range(len(other) + 1))]
    for i, letter in enumerate(one, 1):
        above, row = rows[-1], [i]
        for j, wanted in enumerate(other, 1):
            best = min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                best = min(best, rows[i - 2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]
