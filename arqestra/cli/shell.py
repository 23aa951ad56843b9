"""What all commands that talk to Redis share: options, connection, output and exit codes.

Exit codes: 0 done; 1 the command failed, or there is no such thing; 2 wrong usage, or no Redis answers; 3 not in time.
An expected error is one line on stderr.
"""

import asyncio
import functools
import inspect
import logging
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn, ParamSpec, get_type_hints

import typer
from arq.jobs import DeserializationError, ResultNotFound, SerializationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..client.connect import create_pool, settings_of
from ..client.pool import Pool
from ..errors import ArgumentsError, ArqestraError, SettingsError
from ..protocol.clock import timestamp_ms
from ..protocol.keys import DEFAULT_QUEUE
from ..protocol.serializers import serializer_of
from .arguments import learn_signatures
from .output import Output

__all__ = (
    "FAILED",
    "TIMED_OUT",
    "USAGE",
    "KeyPrefix",
    "RedisUrl",
    "Shell",
    "Stop",
    "command",
    "quiet_logging",
    "redacted",
    "redis_url_of",
)

P = ParamSpec("P")
FAILED, USAGE, TIMED_OUT = 1, 2, 3
PROGRAM = "arqestra"
CONNECT_S = 3  # one attempt: a person waits
DEFAULT_URL = "redis://localhost:6379"

RedisUrl = Annotated[
    str | None, typer.Option("--redis-url", envvar="REDIS_URL", help=f"Redis to talk to (default: {DEFAULT_URL})")
]
SerializerName = Annotated[
    str | None,
    typer.Option("--serializer", envvar="ARQESTRA_SERIALIZER", help="that of the workers: pickle, msgpack or json"),
]
QueueName = Annotated[
    str | None, typer.Option("--queue", "-q", envvar="ARQESTRA_QUEUE", help=f"queue (default: {DEFAULT_QUEUE})")
]
KeyPrefix = Annotated[
    str | None,
    typer.Option("--key-prefix", envvar="ARQESTRA_KEY_PREFIX", help="of the application, as its pool and workers have"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document and nothing else")]
SettingsClass = Annotated[
    str | None,
    typer.Option(
        "--settings",
        envvar="ARQESTRA_SETTINGS",
        help="settings class of the workers, as worker.WorkerSettings: masks secret arguments by their parameters",
    ),
]
COMMON = {
    "redis_url": RedisUrl,
    "key_prefix": KeyPrefix,
    "serializer": SerializerName,
    "settings": SettingsClass,
    "queue": QueueName,
    "as_json": AsJson,
}


class Stop(Exception):
    """Ends a command with one line on stderr.

    :param message: the line
    :param code: exit code
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Shell:
    """What a command works with.

    :ivar chosen_queue: the queue that was given; None if none was
    """

    pool: Pool
    out: Output
    url: str
    chosen_queue: str | None

    @property
    def queue(self) -> str:
        """The queue that was given, or the default."""
        return self.chosen_queue or DEFAULT_QUEUE

    def now_ms(self) -> int:
        """The time on Redis' clock."""
        return timestamp_ms() + self.pool.clock_offset_ms


def command(
    app: typer.Typer, name: str, *, of_a_queue: bool = True, **settings: Any
) -> Callable[[Callable[..., Awaitable[None]]], Any]:
    """Make an async function a command. Its first parameter is the `Shell`, the others are its own options.

    The command also has the options of `COMMON`.

    :param of_a_queue: the command has `--queue`
    """
    shared = {each: hint for each, hint in COMMON.items() if of_a_queue or each != "queue"}

    def register(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        own = list(inspect.signature(function).parameters.values())[1:]
        hints = get_type_hints(function, include_extras=True)

        @functools.wraps(function)
        def run(**options: Any) -> None:
            common = {each: options.pop(each, None) for each in COMMON}
            with errors_as_exit_codes(common["redis_url"]):
                asyncio.run(_within_shell(function, options, **common))

        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [each.replace(kind=keyword, annotation=hints[each.name]) for each in own]
        for each, annotation in shared.items():
            default = False if each == "as_json" else None
            parameters.append(inspect.Parameter(each, keyword, default=default, annotation=annotation))
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        del run.__wrapped__
        app.command(name, **settings)(run)
        return function

    return register


async def _within_shell(
    function: Callable[..., Awaitable[None]],
    options: dict[str, Any],
    *,
    redis_url: str | None,
    key_prefix: str | None,
    serializer: str | None,
    settings: str | None,
    queue: str | None,
    as_json: bool,
) -> None:
    quiet_logging()
    learn_signatures(settings)
    chosen = serializer_of(serializer) if serializer is not None else None
    url = redis_url_of(redis_url)
    connection = settings_of(url)
    connection.conn_timeout = max(connection.conn_timeout, CONNECT_S)
    if queue is not None:
        queue.encode()  # fails if the bytes of the command line are no text
    try:
        pool = await create_pool(
            connection,
            retry=connection.conn_retries,
            serializer=chosen,
            default_queue_name=queue or DEFAULT_QUEUE,
            key_prefix=key_prefix,
        )
    except (RedisError, OSError) as error:
        raise _unreachable(url, error) from None
    try:
        await function(Shell(pool, Output(as_json=as_json), url, queue), **options)
    finally:
        await pool.aclose()


def redis_url_of(given: str | None) -> str:
    """The Redis to talk to: the one that was given (by the option or REDIS_URL), or the local one."""
    return given or DEFAULT_URL


def redacted(url: str) -> str:
    """A URL without its password."""
    url = re.sub(r"(//[^/@:]*):.*@", r"\1:***@", url)  # a password may hold an @, too
    return re.sub(r"([?&][^=&]*password=)[^&]*", r"\1***", url)


def quiet_logging() -> None:
    """Send the library's warnings to stderr, one line each."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)


def _unreachable(url: str, error: BaseException) -> Stop:
    text = str(error).replace("\n", " ").rstrip(".") or type(error).__name__
    return Stop(f"no Redis answers at {redacted(url)}: {text}. Give another by --redis-url or REDIS_URL", USAGE)


class errors_as_exit_codes:  # noqa: N801 - used as a statement
    """Turns an expected error into one line on stderr and an exit code.

    :param redis_url: the one that was given
    """

    def __init__(self, redis_url: str | None = None) -> None:
        self._url = redis_url_of(redis_url)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        match error:
            case Stop(code=code):
                _end(str(error), code)
            case DeserializationError():  # a SerializationError too
                _end(f"{_with_cause(error)}. Give the workers' --serializer: pickle, msgpack or json", FAILED)
            case SettingsError() | ArgumentsError() | SerializationError():
                _end(_with_cause(error), USAGE)
            case RedisConnectionError() | RedisTimeoutError():
                _end(str(_unreachable(self._url, error)), USAGE)
            case RedisError():
                _end(f"Redis refused: {error}", FAILED)
            case ArqestraError() | ResultNotFound():
                _end(str(error), FAILED)
            case UnicodeEncodeError(object=text):  # bytes of the command line that are no text
                _end(f"expected text in UTF-8, got {text!r}", USAGE)
            case TimeoutError():
                _end(str(error) or "not in time", TIMED_OUT)
            case OSError() if not isinstance(error, BrokenPipeError):
                _end(str(_unreachable(self._url, error)), USAGE)


def _with_cause(error: BaseException) -> str:
    cause = error.__cause__
    return str(error) if cause is None else f"{error}: {str(cause) or type(cause).__name__}"


def _end(message: str, code: int) -> NoReturn:
    typer.echo(f"{PROGRAM}: {message}", err=True)
    raise typer.Exit(code) from None
