"""Every key and channel of Redis, from one namespace object.

arq's names keep arq's meaning, so that stock arq and arqestra read each other's data. Ours are all under `arqestra:`.
The Lua scripts use names for the prefixes (`lua_names.py`), so that no script spells a key.

Several applications on one Redis each have a key prefix: all keys and channels of one begin with it, and records,
messages and replies hold bare names all the same.
"""

import re
from dataclasses import dataclass, fields

from arq import constants

from ..definitions.rules import Rule
from ..errors import SettingsError

__all__ = ("DEFAULT_QUEUE", "KEY_PREFIX", "Keys", "checked_queue_name")

DEFAULT_QUEUE = constants.default_queue_name
_PREFIX = re.compile(r"(?!(?:arq|arqestra)$)[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
KEY_PREFIX = Rule(
    'up to 64 letters, digits, "_", "-" and "." (the ":" behind it is ours), the first a letter or a digit, but not '
    '"arq" or "arqestra", with which arq\'s keys and ours begin',
    lambda value: isinstance(value, str) and (value == "" or _PREFIX.fullmatch(value) is not None),
)


def checked_queue_name(name: str, keys: "Keys") -> str:
    """The bare name of a queue.

    :raises SettingsError: it begins with the key prefix already, as a name does that was read off a key
    """
    if keys.prefix and name.startswith(keys.prefix):
        bare = name.removeprefix(keys.prefix)
        raise SettingsError(f"queue: expected its name without the key prefix, {bare!r}, got {name!r}")
    return name


@dataclass(frozen=True, slots=True)
class Keys:
    """The namespace. A subclass or another instance may carry a hash tag for Redis Cluster; the default is arq's.

    :ivar prefix: what all names begin with; "" where they are arq's
    """

    prefix: str = ""
    job_prefix: str = constants.job_key_prefix
    lease_prefix: str = constants.in_progress_key_prefix
    attempts_prefix: str = constants.retry_key_prefix
    result_prefix: str = constants.result_key_prefix
    aborts: str = constants.abort_jobs_ss
    ours: str = "arqestra:"
    done_prefix: str = "arqestra:done:"

    @classmethod
    def of(cls, key_prefix: str | None) -> "Keys":
        """The namespace of an application.

        :param key_prefix: "app1" for keys `app1:arq:job:...`; None or "" for arq's own keys
        :raises SettingsError: it is not what `KEY_PREFIX` says
        """
        if key_prefix is None or key_prefix == "":
            return cls()
        KEY_PREFIX.check("key_prefix", key_prefix)
        prefix = f"{key_prefix}:"
        return cls(prefix, **{each.name: prefix + str(each.default) for each in fields(cls) if each.name != "prefix"})

    @property
    def key_prefix(self) -> str | None:
        """The application's prefix, as `create_pool` takes it; None where the keys are arq's."""
        return self.prefix.removesuffix(":") or None

    def queue(self, name: str) -> str:
        """The queue: job id -> when due (ms), or when its lease ends."""
        return self.prefix + name

    def health_check(self, name: str) -> str:
        """arq's health check key, by the name that settings give it."""
        return self.prefix + name

    def job(self, job_id: str) -> str:
        """Payload of a job that has not ended."""
        return self.job_prefix + job_id

    def lease(self, job_id: str) -> str:
        """Who holds the job: `token|lease end|due|crashes`. A stock arq worker writes `1`."""
        return self.lease_prefix + job_id

    def attempts(self, job_id: str) -> str:
        """Attempts started."""
        return self.attempts_prefix + job_id

    def result(self, job_id: str) -> str:
        """Result of a job that has ended."""
        return self.result_prefix + job_id

    def waiting(self, queue: str) -> str:
        """Workers with free slots that wait to be woken: worker id -> since when (ms)."""
        return f"{self.ours}waiting:{queue}"

    def offer(self, worker_id: str) -> str:
        """A worker without jobs offers to be sent one, or was sent one: `store/lua/_delivery.lua` explains it."""
        return f"{self.ours}offer:{worker_id}"

    def worker_channel(self, worker_id: str) -> str:
        """Channel on which one worker is woken and told of aborts."""
        return f"{self.ours}worker:{worker_id}"

    def done_channel(self, job_id: str) -> str:
        """Channel on which the end of one job is announced."""
        return self.done_prefix + job_id

    def flow(self, flow_id: str) -> str:
        """The record of a flow; `store/lua/_flow.lua` explains these."""
        return f"{self.ours}flow:{flow_id}"

    def flow_nodes(self, flow_id: str) -> str:
        """Its nodes: number -> record."""
        return f"{self.ours}flow-nodes:{flow_id}"

    def flow_states(self, flow_id: str) -> str:
        """States of its nodes: number -> state."""
        return f"{self.ours}flow-states:{flow_id}"

    def flow_pending(self, flow_id: str) -> str:
        """Joins: number -> parents that have not ended."""
        return f"{self.ours}flow-pending:{flow_id}"

    def flow_log(self, flow_id: str) -> str:
        """Events of a workflow, in order."""
        return f"{self.ours}flow-log:{flow_id}"

    def flow_sent(self, flow_id: str) -> str:
        """Events of a workflow that were sent with a key: what is made of it -> when."""
        return f"{self.ours}flow-sent:{flow_id}"

    @property
    def workflow_names(self) -> str:
        """Functions that are workflows: name -> when a worker said so last."""
        return f"{self.ours}workers:workflows"

    def flow_news(self, flow_id: str) -> str:
        """Channel of a flow's news."""
        return f"{self.ours}flow-news:{flow_id}"

    def reserved(self, job_id: str) -> str:
        """A job id that was chosen for a node of a flow, until that is released."""
        return f"{self.ours}reserved:{job_id}"

    @property
    def flows(self) -> str:
        """Flows that run: flow -> since when (ms)."""
        return f"{self.ours}flows"

    @property
    def ended_flows(self) -> str:
        """Flows that have ended and are kept: flow -> until when (ms)."""
        return f"{self.ours}ended-flows"

    @property
    def continuations(self) -> str:
        """What flows have left to do."""
        return f"{self.ours}chores"

    def errors(self, job_id: str) -> str:
        """Errors of the attempts of a job, the latest last, at most 20."""
        return f"{self.ours}errors:{job_id}"

    def interrupts(self, job_id: str) -> str:
        """How often a job was given back after it had begun to run; a day."""
        return f"{self.ours}interrupts:{job_id}"

    def dead(self, queue: str) -> str:
        """Jobs that killed their workers: job id -> when (ms)."""
        return f"{self.ours}dead:{queue}"

    def dead_results(self, queue: str) -> str:
        """Results of the dead set: job id -> result."""
        return f"{self.ours}dead-results:{queue}"

    def specs(self, queue: str) -> str:
        """Limits and locks of the jobs that have some: job id -> msgpack. `store/lua/_limits.lua` explains these."""
        return f"{self.ours}specs:{queue}"

    def throttled(self, queue: str) -> str:
        """Throttled jobs: job id -> the limit group in which it waits."""
        return f"{self.ours}held:{queue}"

    def limit_group(self, queue: str, group: str) -> str:
        """Jobs of one combination of limits that wait for their turn: job id -> score in the queue's order."""
        return f"{self.ours}lane:{queue}|{group}"

    def wait_list(self, queue: str, limit: str) -> str:
        """Limit groups that wait for a limit: group -> its place in the order."""
        return f"{self.ours}turns:{queue}|{limit}"

    def retry_at(self, queue: str) -> str:
        """Limits with a wait list: limit -> when the first job of its first group may be tried (ms)."""
        return f"{self.ours}gates:{queue}"

    def throttled_queues(self, limit: str) -> str:
        """Queues in which jobs wait for a limit."""
        return f"{self.ours}lanes:{limit}"

    def rate(self, limit: str) -> str:
        """The time (ms) by which all starts so far are paid for."""
        return f"{self.ours}rate:{limit}"

    def holders(self, limit: str) -> str:
        """Jobs that run under a concurrency limit: job id -> since when (ms)."""
        return f"{self.ours}holders:{limit}"

    def unique(self, lock: str) -> str:
        """Who holds a lock: `job id|first enqueue in ms|queue`."""
        return f"{self.ours}unique:{lock}"

    def promote(self, queue: str) -> str:
        """Deferred jobs with a priority: job id -> due (ms)."""
        return f"{self.ours}promote:{queue}"

    @property
    def paused(self) -> str:
        """Queues that are paused."""
        return f"{self.ours}paused"

    def watched(self, queue: str) -> tuple[str, ...]:
        """What changes when jobs of a queue may become due, be it by somebody who wakes no worker."""
        return (
            self.queue(queue),
            self.retry_at(queue),
            self.promote(queue),
            self.paused,
            self.aborts,
            self.continuations,
        )

    def resting(self, queue: str) -> str:
        """Workers with free slots that wait for a paused queue: worker id -> since when (ms)."""
        return f"{self.ours}resting:{queue}"

    @property
    def workers(self) -> str:
        """Workers: id -> when it last told of itself (ms)."""
        return f"{self.ours}workers"

    def presence(self, worker_id: str) -> str:
        """What a worker tells of itself."""
        return f"{self.ours}presence:{worker_id}"

    @property
    def schedule_queues(self) -> str:
        """Queues that have schedules."""
        return f"{self.ours}schedule-queues"

    def schedules(self, queue: str) -> str:
        """Schedules: name -> when its next tick is fired (ms). `store/lua/_schedule.lua` explains these."""
        return f"{self.ours}schedules:{queue}"

    def schedule(self, name: str) -> str:
        """The record of a schedule."""
        return f"{self.ours}schedule:{name}"

    def schedule_runs(self, name: str) -> str:
        """Its latest runs."""
        return f"{self.ours}schedule-runs:{name}"

    @property
    def schedules_seen(self) -> str:
        """Schedules that processes define: name -> when one last said so (ms)."""
        return f"{self.ours}schedules-seen"

    @property
    def schedules_rev(self) -> str:
        """Counts the changes of definitions."""
        return f"{self.ours}schedules-rev"

    @property
    def schedule_news(self) -> str:
        """Channel on which schedulers are told that definitions have changed."""
        return f"{self.ours}schedule-news"

    def schedules_clock(self, queue: str) -> str:
        """The latest time that a scheduler has seen."""
        return f"{self.ours}schedules-clock:{queue}"

    def statistics(self, minute: int) -> str:
        """Counters of one minute since the epoch: `queue|function|figure` -> number."""
        return f"{self.ours}stats:{minute}"

    def hourly_statistics(self, hour: int) -> str:
        """The same of one hour since the epoch."""
        return f"{self.ours}stats-hours:{hour}"

    @property
    def totals(self) -> str:
        """All that was ever counted, in the same fields."""
        return f"{self.ours}stats-totals"

    def recorded(self, writer: str) -> str:
        """Number of the last call by which a writer of statistics has added to them."""
        return f"{self.ours}recorded:{writer}"

    @property
    def queues(self) -> str:
        """Queues that were used: name -> when last (ms)."""
        return f"{self.ours}queues"

    def recent_index(self, queue: str) -> str:
        """Lists of attempts of a queue that have ended: `state|function` -> when the latest did (ms)."""
        return f"{self.ours}recent-index:{queue}"

    def recent(self, queue: str, name: str) -> str:
        """Attempts that have ended: entry -> when (ms). The name is `state|function`."""
        return f"{self.ours}recent:{queue}|{name}"

    def progress(self, job_id: str) -> str:
        """What a job tells of itself: its progress, and which job of this id and which write that was."""
        return f"{self.ours}notes:{job_id}"

    def job_log(self, job_id: str) -> str:
        """Lines of its log."""
        return f"{self.ours}job-log:{job_id}"

    def unknown(self, job_id: str) -> str:
        """A job that was given back because a worker does not know its function: how often, and since when."""
        return f"{self.ours}unknown:{job_id}"

    def blocked(self, queue: str) -> str:
        """Workflows that are blocked by code: flow -> when it was last tried (ms)."""
        return f"{self.ours}blocked:{queue}"

    @property
    def events(self) -> str:
        """Channel of events."""
        return f"{self.ours}events"

    @property
    def audit(self) -> str:
        """What people did by the dashboard, the latest first."""
        return f"{self.ours}audit"

    @property
    def deployment(self) -> str:
        """What is true of the whole deployment. Every call of a script names this key: it routes the call, and says by
        its beginning what the prefix is.
        """
        return f"{self.ours}deployment"

    @property
    def libraries(self) -> str:
        """Libraries of Lua functions: name -> when one of our processes last used it (ms)."""
        return f"{self.ours}libraries"
