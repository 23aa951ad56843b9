"""`arqestra scheduler`: a process that fires schedules and runs no jobs."""

import asyncio
import logging.config
import os
import signal
import sys
from collections.abc import Mapping
from datetime import tzinfo
from typing import Annotated, Any, NamedTuple

import typer
from arq.connections import RedisSettings
from arq.cron import CronJob
from arq.utils import import_string
from redis.exceptions import RedisError

from ..client.connect import create_pool
from ..errors import ArqestraError, SettingsError
from ..observe.json_logs import LogFormat, log_config
from ..protocol.keys import DEFAULT_QUEUE
from ..protocol.serializers import Serializer, serializer_of
from ..scheduling.definition import Schedule, checked_schedules
from ..scheduling.scheduler import Scheduler
from ..scheduling.timetable import Timetable, timezone_of
from ..scheduling.zone import named_zone, zone_of
from ..worker.attributes import schedules_of
from ..worker.command_line import options_of, use_uvloop
from ..worker.settings import SETTINGS, WorkerOptions

__all__ = ("add_scheduler",)

logger = logging.getLogger("arq.scheduler")
CANNOT_START = 2


class Plan(NamedTuple):
    """What a scheduler process runs."""

    schedules: list[Schedule]
    redis_settings: RedisSettings | str | None
    serializer: str | Serializer | None
    zone: tzinfo | None
    queue: str
    queues: tuple[str, ...] = ()
    run_time_zone: tzinfo | None = None
    key_prefix: str | None = None


def add_scheduler(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="scheduler")(scheduler)


def scheduler(
    target: Annotated[
        str, typer.Argument(help="import string of a list of schedules or of a settings class: scheduler.SCHEDULES")
    ],
    redis_url: Annotated[str | None, typer.Option(help="default that of the target, then REDIS_URL")] = None,
    serializer: Annotated[str | None, typer.Option(help="that of the workers: pickle, msgpack or json")] = None,
    key_prefix: Annotated[str | None, typer.Option(help="default that of the target, then ARQESTRA_KEY_PREFIX")] = None,
    timezone: Annotated[str | None, typer.Option(help="of schedules that name none, as Asia/Seoul")] = None,
    queue: Annotated[str | None, typer.Option(help="of schedules that name none")] = None,
    queues: Annotated[str | None, typer.Option(help="a,b: more queues whose run-time schedules are fired")] = None,
    verbose: Annotated[bool, typer.Option(help="log more")] = False,
    log_format: Annotated[LogFormat, typer.Option(help="of the log lines")] = "text",
) -> None:
    """Fire schedules: those of the target, and those that were made at run time. Any number of such processes may run.

    It runs no job. SIGTERM and Ctrl-C end it.
    """
    logging.config.dictConfig(log_config(verbose, log_format))
    sys.path.insert(0, os.getcwd())
    try:
        found = import_string(target)
        plan = _plan_of(found, target)
    except (ArqestraError, ImportError, AttributeError) as error:
        raise typer.BadParameter(f"{target}: {error}") from None
    try:
        zone = None if timezone is None else zone_of(timezone, "--timezone")
        SETTINGS["serializer"].check(serializer, "--serializer")
        SETTINGS["key_prefix"].check(key_prefix, "--key-prefix")
        plan = plan._replace(
            redis_settings=redis_url or plan.redis_settings or os.environ.get("REDIS_URL"),
            serializer=serializer or plan.serializer,
            key_prefix=key_prefix or plan.key_prefix or os.environ.get("ARQESTRA_KEY_PREFIX"),
            zone=zone or plan.zone,
            run_time_zone=zone or plan.run_time_zone,
            queue=queue or plan.queue,
            queues=(*plan.queues, *filter(None, (queues or "").split(","))),
        )
        use_uvloop()
        asyncio.run(_run(plan))
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from None
    except (RedisError, OSError) as error:
        logger.error("no Redis answers: %s", error)
        raise typer.Exit(CANNOT_START) from None


def _plan_of(found: Any, target: str) -> Plan:
    if isinstance(found, Timetable):
        queue = found.queue or DEFAULT_QUEUE
        return Plan(
            schedules=found.schedules(),
            redis_settings=found.redis_settings,
            serializer=found.serializer,
            zone=found.timezone,
            queue=queue,
            key_prefix=found.key_prefix,
        )
    if isinstance(found, list | tuple):
        return Plan(checked_schedules(found), None, None, None, DEFAULT_QUEUE)
    if isinstance(found, type | Mapping) or hasattr(found, "functions"):
        return _plan_of_options(options_of(found))
    if isinstance(found, Schedule | CronJob):
        raise SettingsError(f"expected a list of schedules, got one schedule: [{target}]")
    raise SettingsError(f"expected a list of schedules or a settings class, got {type(found).__name__}")


def _plan_of_options(options: WorkerOptions) -> Plan:
    first = options.queue_name if options.queues is None else next(iter(options.queues))
    return Plan(
        schedules=schedules_of(options),
        redis_settings=options.redis_settings,
        serializer=serializer_of(options.serializer, options.job_serializer, options.job_deserializer),
        zone=named_zone(options.timezone),
        queue=options.cron_queue or first or DEFAULT_QUEUE,
        queues=(first or DEFAULT_QUEUE,) if options.queues is None else tuple(options.queues),
        run_time_zone=timezone_of(options.schedules),
        key_prefix=options.key_prefix,
    )


async def _run(plan: Plan) -> None:
    pool = await create_pool(
        plan.redis_settings,
        serializer=plan.serializer,
        default_queue_name=plan.queue,
        key_prefix=plan.key_prefix,
    )
    try:
        schedule_runner = Scheduler(
            pool,
            plan.schedules,
            home=plan.queue,
            queues=plan.queues,
            zone=plan.zone,
            run_time_zone=plan.run_time_zone,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, schedule_runner.stop)
        queues = ", ".join(part.queue for part in schedule_runner.parts)
        logger.info("scheduler of %s: %d schedules in code", queues, len(plan.schedules))
        await schedule_runner.run()
        logger.info("scheduler: %d jobs were fired by this process", schedule_runner.fired)
    finally:
        await pool.aclose()
