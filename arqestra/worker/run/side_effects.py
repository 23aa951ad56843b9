"""What a workflow asks for from outside: called in the worker's loop, and remembered."""

import inspect
from collections.abc import Callable

from arq.jobs import SerializationError
from arq.worker import JobExecutionFailed

from ...flow.execution import Effect
from ...protocol.clock import timestamp_ms
from ...protocol.serializers import Serializer
from ...protocol.wire import JobEnd, Payload, encode_result
from ...store.flows import node_id

__all__ = ("bring_about",)


async def bring_about(
    effect: Effect, serializer: Serializer, flow_id: str, queue: str, is_over: Callable[[], bool]
) -> bytes:
    """Call the function, and encode what it gave or raised.

    :param is_over: whether the workflow's stay in this worker is: then a cancellation is nobody's value
    """
    started_ms = timestamp_ms()
    try:
        value = effect.function()
        if inspect.isawaitable(value):
            value = await value
        success = True
    except BaseException as error:
        if is_over():
            raise
        carried = isinstance(error, Exception) and not isinstance(error, StopIteration)
        value = error if carried else JobExecutionFailed(f"the side effect raised {error!r}")
        success = False
    payload = Payload("side effect", (), {}, job_try=None, enqueued_ms=started_ms, options={})
    end = JobEnd(
        payload,
        job_id=node_id(flow_id, effect.number),
        queue=queue,
        attempt=1,
        success=success,
        value=value,
        started_ms=started_ms,
        finished_ms=timestamp_ms(),
    )
    try:
        return encode_result(serializer, end) or b""
    except SerializationError as refused:  # the workflow is told, as of any other error of the function
        return encode_result(serializer, end._replace(success=False, value=refused)) or b""
