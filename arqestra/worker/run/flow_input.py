"""What a node of a flow gets of the node before it: read when it starts."""

import logging

from arq.jobs import SerializationError
from arq.worker import JobExecutionFailed
from redis.exceptions import RedisError

from ...flow.values import FlowGone, FlowValues
from ...store.flows import FlowStore
from .attempt import Attempt
from .context import RunContext
from .outcome import Outcome, State

__all__ = ("fetch_input",)

logger = logging.getLogger("arq.worker")


async def fetch_input(run: RunContext, attempt: Attempt) -> Outcome | None:
    """Read the parent's value, of a group the list of its values; an outcome if that cannot be done."""
    if attempt.node is None:
        lost = JobExecutionFailed("expected the job's flow, found none: it was enqueued anew without it")
        return Outcome(State.FAILED, lost)
    flow_id, _ = attempt.node
    values = FlowValues(FlowStore(run.store), run.serializer, flow_id)
    try:
        before = attempt.payload.options["in"]
        read = values.failure if "er" in attempt.payload.options else values.referred
        attempt.input = (await read(before),)
    except (FlowGone, SerializationError) as error:
        logger.warning("job %s: the result before it cannot be read: %s", attempt.ref, error)
        return Outcome(State.FAILED, error)
    except (RedisError, OSError) as error:
        logger.warning("job %s: the result before it could not be read yet: %s", attempt.ref, error)
        return Outcome(State.RELEASED, error)
    return None
