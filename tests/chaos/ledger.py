"""What Redis holds once all is done: the recorded ends of jobs, and what an empty queue must not leave behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

import redis.asyncio
from arq.jobs import JobResult, deserialize_result

from arqestra.protocol.keys import DEFAULT_QUEUE, Keys
from tests.support.wait import PATIENCE_S, wait_until

__all__ = ("Ledger",)

KEYS = Keys()
CHUNK = 1000


class Ledger:
    """Looks at Redis with a plain client and arq's own reader of results.

    :param client: a client of its own, without any proxy between
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def raw_results(self, job_ids: Sequence[str]) -> dict[str, bytes | None]:
        """The stored result of each job, as bytes."""
        found: dict[str, bytes | None] = {}
        for first in range(0, len(job_ids), CHUNK):
            chunk = job_ids[first : first + CHUNK]
            found.update(zip(chunk, await self.client.mget([KEYS.result(job_id) for job_id in chunk]), strict=True))
        return found

    async def results(self, job_ids: Sequence[str]) -> dict[str, JobResult]:
        """The recorded ends, of those jobs that have one."""
        raw = await self.raw_results(job_ids)
        return {job_id: deserialize_result(data) for job_id, data in raw.items() if data is not None}

    async def queued(self) -> int:
        """Jobs that have not ended, running ones included."""
        return int(await self.client.zcard(DEFAULT_QUEUE))

    async def dead(self) -> set[str]:
        """Ids in the dead set."""
        return {job_id.decode() for job_id in await self.client.zrange(KEYS.dead(DEFAULT_QUEUE), 0, -1)}

    async def lease_holder(self, job_id: str) -> str | None:
        """The token of the job's lease, without its end."""
        record = await self.client.get(KEYS.lease(job_id))
        return None if record is None else record.decode().split("|")[0]

    async def attempts(self, job_id: str) -> int:
        """Attempts counted for a job that has not ended."""
        return int(await self.client.get(KEYS.attempts(job_id)) or 0)

    async def until_empty(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until no job is queued or running."""

        async def is_empty() -> bool:
            return await self.queued() == 0

        await wait_until(is_empty, "an empty queue, but jobs are queued", timeout_s=timeout_s, poll_s=0.05)

    async def leftovers(self) -> set[str]:
        """Keys of jobs that must be gone once all have ended."""
        prefixes = (KEYS.job(""), KEYS.lease(""), KEYS.attempts(""))
        return {key async for key in self._keys() if key.startswith(prefixes) or key in (DEFAULT_QUEUE, KEYS.aborts)}

    async def assert_all_complete(self, job_ids: Iterable[str]) -> dict[str, JobResult]:
        """Every job has one recorded end, a success, and nothing else of it is left."""
        wanted = list(job_ids)
        results = await self.results(wanted)
        missing = [job_id for job_id in wanted if job_id not in results]
        assert not missing, f"expected a recorded end of each job, {len(missing)} have none: {missing[:5]}"
        failed = {job_id: result.result for job_id, result in results.items() if not result.success}
        assert not failed, f"expected successes, {len(failed)} failed: {dict(list(failed.items())[:5])}"
        leftovers = await self.leftovers()
        assert not leftovers, f"expected no keys of ended jobs, got {len(leftovers)}: {sorted(leftovers)[:5]}"
        return results

    async def _keys(self) -> AsyncIterator[str]:
        async for key in self.client.scan_iter(count=CHUNK):
            yield key.decode()
