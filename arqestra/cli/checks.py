"""The checks of `arqestra doctor`: pure functions of what was read from the server and the queues."""

from typing import Literal, NamedTuple

from ..store.queues import QueueSurvey
from ..store.server import ServerFacts
from .output import count_of, span

__all__ = ("Finding", "Level", "check_queue", "check_server")

Level = Literal["ok", "warning", "problem"]
MIN_VERSION = (6, 2)
CLOCK_OFF_MS = 1_000
SLOW_PING_MS = 5.0
VERY_SLOW_PING_MS = 50.0
MEMORY_NEARLY_FULL = 0.9
OLD_DUE_MS = 5 * 60_000


class Finding(NamedTuple):
    """What a check found.

    :ivar advice: what to do; "" if nothing has to be done
    """

    subject: str
    level: Level
    text: str
    advice: str = ""


def check_server(facts: ServerFacts) -> list[Finding]:
    """The server's version, scripts, memory, persistence, clock and latency."""
    return [
        _version(facts),
        _role(facts),
        _scripts(facts),
        _eviction(facts),
        _memory(facts),
        _persistence(facts),
        _clock(facts),
        _latency(facts),
    ]


def _version(facts: ServerFacts) -> Finding:
    if not facts.name:
        text = "the server does not tell its version, role and memory: this user may not use INFO"
        return Finding("version", "warning", text, "allow it (ACL: +info), or see that it is 6.2 or later")
    text = f"{facts.name}, speaks Redis {facts.version}" if facts.name != "Redis" else f"Redis {facts.version}"
    numbers = tuple(int(part) for part in facts.version.split(".")[:2] if part.isdigit())
    if len(numbers) < 2:
        return Finding("version", "warning", "the server does not tell its version", "6.2 is the least that will do")
    if numbers < MIN_VERSION:
        return Finding("version", "problem", f"{text}: at least 6.2 is expected", "upgrade the server")
    return Finding("version", "ok", text)


def _role(facts: ServerFacts) -> Finding:
    if not facts.name:
        return Finding("role", "warning", "the server does not tell its role", "see that it is a primary")
    if facts.replica:
        return Finding("role", "problem", "a replica: it takes no writes", "connect to the primary, or by Sentinel")
    if facts.cluster:
        return Finding("role", "problem", "a Redis Cluster, which is not supported yet", "use a server without cluster")
    return Finding("role", "ok", "primary")


def _scripts(facts: ServerFacts) -> Finding:
    if facts.scripts:
        advice = (
            "allow FCALL and FUNCTION LOAD, or EVAL and EVALSHA, to this user (ACL), or use a server with Lua scripts"
        )
        return Finding("scripts", "problem", f"our scripts do not run: {facts.scripts}", advice)
    return Finding("scripts", "ok", "our scripts run")


def _eviction(facts: ServerFacts) -> Finding:
    if not facts.eviction:
        return Finding("eviction", "warning", "the server does not tell its policy", "see that it is noeviction")
    if facts.eviction == "noeviction":
        return Finding("eviction", "ok", "noeviction: a full server refuses writes and loses no job")
    level: Level = "problem" if facts.maxmemory_bytes else "warning"
    return Finding(
        "eviction",
        level,
        f"{facts.eviction}: when the memory is full, jobs vanish",
        "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf",
    )


def _memory(facts: ServerFacts) -> Finding:
    if facts.maxmemory_bytes is None:
        return Finding("memory", "warning", "the server does not tell its memory", "see that it does not get full")
    used = facts.used_memory_bytes / 2**20
    if not facts.maxmemory_bytes:
        return Finding("memory", "ok", f"{used:,.0f} MB used, no limit set")
    text = f"{used:,.0f} of {facts.maxmemory_bytes / 2**20:,.0f} MB used"
    if facts.used_memory_bytes > MEMORY_NEARLY_FULL * facts.maxmemory_bytes:
        return Finding("memory", "warning", text, "raise maxmemory, or keep results for a shorter time (keep_result)")
    return Finding("memory", "ok", text)


def _persistence(facts: ServerFacts) -> Finding:
    if facts.write_failed:
        return Finding("persistence", "problem", "the last write to disk failed", "see the server's log and its disk")
    if facts.append_only:
        return Finding("persistence", "ok", "append-only file")
    advice = "CONFIG SET appendonly yes, and the same in redis.conf"
    if facts.append_only is None:
        return Finding("persistence", "warning", "the server does not tell", "see that its append-only file is on")
    if facts.snapshots:
        text = "snapshots only: a crash of the server loses the jobs since the last one"
        return Finding("persistence", "warning", text, advice)
    if facts.snapshots is None:
        return Finding("persistence", "warning", "no append-only file; the server does not tell of snapshots", advice)
    return Finding("persistence", "warning", "none: a restart of the server loses all jobs", advice)


def _clock(facts: ServerFacts) -> Finding:
    off_ms = abs(facts.clock_offset_ms)
    text = f"{span(off_ms)} {'ahead of' if facts.clock_offset_ms > 0 else 'behind'} this machine's"
    if off_ms > CLOCK_OFF_MS:
        return Finding(
            "clock",
            "warning",
            f"the server's clock is {text}",
            "run NTP on both. Jobs go by the server's clock; deadlines and logs of this machine are off by as much",
        )
    return Finding("clock", "ok", f"within {span(max(off_ms, 1))} of this machine's")


def _latency(facts: ServerFacts) -> Finding:
    p50_ms = facts.ping_ms[len(facts.ping_ms) // 2]
    text = f"PING takes {p50_ms:.2f} ms (p50 of {len(facts.ping_ms)}), {facts.ping_ms[-1]:.2f} ms at most"
    advice = "put workers and server into one network; look for slow commands: SLOWLOG GET"
    if p50_ms > VERY_SLOW_PING_MS:
        return Finding("latency", "problem", text, advice)
    return Finding("latency", "warning", text, advice) if p50_ms > SLOW_PING_MS else Finding("latency", "ok", text)


def check_queue(queue: QueueSurvey) -> list[Finding]:
    """Whether workers serve a queue, and whether it has stuck jobs, dead jobs or jobs of stock arq workers."""
    subject = f"queue {queue.name}"
    found: list[Finding] = []
    if queue.stuck:
        found.append(
            Finding(
                subject,
                "problem",
                f"{count_of(queue.stuck, 'job')} whose worker died over a minute ago, not taken by another",
                "start a worker of this queue; resume it if it is paused",
            )
        )
    pending = queue.due + queue.deferred + queue.held + queue.waiting
    oldest_ms = queue.oldest_due_age_ms
    if queue.paused:
        advice = f"arqestra queues resume {queue.name}"
        found.append(
            Finding(subject, "warning" if queue.due else "ok", f"paused, {count_of(queue.due, 'job')} due", advice)
        )
    elif pending and not queue.served:
        found.append(
            Finding(
                subject,
                "problem",
                f"{count_of(pending, 'job')}, and no worker serves it",
                "start a worker of this queue",
            )
        )
    elif oldest_ms > OLD_DUE_MS:
        text = f"{count_of(queue.due, 'job')} due, the oldest for {span(oldest_ms)}"
        found.append(Finding(subject, "warning", text, "start more workers, or raise their max_jobs"))
    if queue.stock_running:
        stock = count_of(queue.stock_running, "job")
        found.append(
            Finding(
                subject,
                "warning",
                f"{stock} held by stock arq workers, which recover only after their timeout",
                "fine during a migration; replace those workers to end it (docs/migrating-from-arq.md)",
            )
        )
    if queue.dead:
        advice = f"arqestra jobs list --state dead --queue {queue.name}"
        found.append(Finding(subject, "warning", f"{count_of(queue.dead, 'job')} in the dead set", advice))
    if not found:
        found.append(Finding(subject, "ok", f"{count_of(queue.due, 'job')} due, {queue.running} running"))
    return found
