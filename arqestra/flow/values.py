"""Reads what the nodes of a flow ended with, when somebody needs it: from the results of its jobs."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from arq.worker import JobExecutionFailed

from ..errors import ArqestraError, FlowCancelled, RemoteTraceback, UpstreamFailed
from ..protocol.serializers import Serializer
from ..protocol.wire import decode_result, decode_value
from ..store.flows import FlowStore, Reference, Value

__all__ = ("FlowGone", "FlowValues", "error_of")


class FlowGone(ArqestraError):
    """The flow was forgotten, or is not kept any more."""


class FlowValues:
    """Reads the values of one flow.

    :param coerce: called with a job's number and its value, gives the value to return; default the same value
    """

    def __init__(
        self,
        flows: FlowStore,
        serializer: Serializer,
        flow_id: str,
        coerce: Callable[[int, Any], Any] = lambda _, value: value,
    ) -> None:
        self._flows = flows
        self._serializer = serializer
        self._flow_id = flow_id
        self._coerce = coerce

    async def state(self, number: int) -> str:
        """The state of a node; '' if it has not ended."""
        [value] = await self._read([number])
        return value.state

    async def value(self, number: int) -> Any:
        """The value of a node that has ended, a list for a join; the exception if it did not complete.

        :raises FlowGone: there is no such flow any more
        """
        return self._built(number, await self._known([number]))

    async def referred(self, reference: Reference) -> Any:
        """The value that a reference stands for.

        :raises FlowGone: there is no such flow any more
        """
        return self._of_reference(reference, await self._known([*_numbers_in(reference)]))

    async def _known(self, wanted: list[int]) -> dict[int, Value]:
        """Read these nodes, and those that their values are made of."""
        known: dict[int, Value] = {}
        while wanted:
            read = await self._read(wanted)
            known.update(zip(wanted, read, strict=True))
            wanted = [
                each for value in read for each in (*(value.parents or ()), *_fault_of(value)) if each not in known
            ]
        return known

    def _of_reference(self, reference: Reference, known: dict[int, Value]) -> Any:
        if isinstance(reference, str):
            return self._upstream_failed(int(reference[1:]), known)
        if isinstance(reference, int):
            return self._built(reference, known)
        return [self._of_reference(each, known) for each in reference]

    async def failure(self, number: int) -> UpstreamFailed:
        """Why a node did not complete.

        :raises FlowGone: there is no such flow any more
        """
        error = await self.value(number)
        if isinstance(error, UpstreamFailed):
            return error
        [value] = await self._read([number])
        function = "" if value.result is None else decode_result(self._serializer, value.result)[0].function
        return UpstreamFailed(
            value.job_id or self._flow_id, function, error if isinstance(error, BaseException) else None
        )

    async def _read(self, numbers: Sequence[int]) -> list[Value]:
        values = await self._flows.values(self._flow_id, numbers)
        if values is None:
            raise FlowGone(f"flow {self._flow_id}: expected it to exist; it was forgotten, or is not kept any more")
        return values

    def _built(self, number: int, known: dict[int, Value]) -> Any:
        value = known[number]
        letter = value.state[:1]
        if letter == "u":
            return self._upstream_failed(int(value.state[1:]), known)
        if letter == "d":
            return FlowCancelled(f"flow {self._flow_id} was cancelled")
        if value.parents is not None:
            return [self._built(each, known) for each in value.parents]
        if letter == "s":
            return None
        if value.result is None and letter == "c":
            raise FlowGone(f"job {value.job_id} is complete, but its result is gone: expected it to be kept")
        if value.result is None:
            return JobExecutionFailed(
                f"job {value.job_id} was deleted, withdrawn, or aborted before it could run; or its result is not kept"
            )
        return self._decoded(number, value.result)

    def _upstream_failed(self, number: int, known: dict[int, Value]) -> UpstreamFailed:
        """The error of a node that did not run; it names the job at fault."""
        fault = known[number]
        error = self._built(number, known)
        if isinstance(error, UpstreamFailed):
            return error
        function = "" if fault.result is None else decode_result(self._serializer, fault.result)[0].function
        return UpstreamFailed(fault.job_id, function, error if isinstance(error, BaseException) else None)

    def _decoded(self, number: int, data: bytes) -> Any:
        success, value, remote_traceback = decode_value(self._serializer, data)
        if success:
            return self._coerce(number, value)
        error = value if isinstance(value, BaseException) else JobExecutionFailed(str(value))
        if remote_traceback and error.__cause__ is None:
            error.__cause__ = RemoteTraceback(remote_traceback)
        return error


def _numbers_in(reference: Reference) -> Iterator[int]:
    if isinstance(reference, str):
        yield int(reference[1:])
    elif isinstance(reference, int):
        yield reference
    else:
        for each in reference:
            yield from _numbers_in(each)


def _fault_of(value: Value) -> tuple[int, ...]:
    return (int(value.state[1:]),) if value.state[:1] == "u" else ()


def error_of(value: Any) -> BaseException | None:
    """The exception to raise for a value that is a failure: what the job at fault raised; None if it is none."""
    if isinstance(value, UpstreamFailed) and isinstance(value.error, Exception):
        return value.error
    return value if isinstance(value, BaseException) else None
