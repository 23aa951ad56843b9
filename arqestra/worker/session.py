"""What a worker has while it is connected to Redis: one `Session`, until the worker is closed."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from ..client.pool import Pool
from ..store.listener import Listener
from ..store.records import LeasedJob
from ..store.store import Store
from .leasing.claim import ClaimPolicy
from .leasing.lease_renewer import LeaseRenewer, RenewalSettings
from .leasing.slots import Slots
from .leasing.sync_loop import SyncLoop
from .leasing.watchdog import Watchdog
from .run.context import RunContext

__all__ = ("LEAVE_WAIT_S", "Session")

LEAVE_WAIT_S = 2.0


class Session:
    """The store, the listener, the sync loop and the lease renewer of one connected worker.

    :param pool: the worker's client; it lends its store and its listener if it is ours
    :param claims: decides when to claim
    :param slots: has the leases to renew, and is told what becomes of outcomes
    :param start_job: called with each claimed job
    :param keep_dead_ms: how long the dead set keeps a job
    :ivar run: what the runs of jobs need of the worker; set by the worker when it has made the session
    """

    def __init__(
        self,
        pool: ArqRedis,
        claims: ClaimPolicy,
        slots: Slots,
        start_job: Callable[[LeasedJob], None],
        keep_dead_ms: int,
    ) -> None:
        self.pool = pool
        self.is_open = True
        self.store = pool.store if isinstance(pool, Pool) else Store(pool)
        self.listener = pool.listener if isinstance(pool, Pool) else Listener(pool.connection_pool, self.store.pulse)
        self.claims = claims
        self.sync = SyncLoop(self.store, claims, start_job, slots.resolve, keep_dead_ms)
        self.run: RunContext
        self._slots = slots
        self._renewer: LeaseRenewer | None = None
        self._listening = contextlib.ExitStack()

    # -- taking jobs ----------------------------------------------------------------------------------------------

    def start_claiming(self, handle: Callable[[bytes | None], None]) -> None:
        """Listen on the worker's channel, and claim.

        :param handle: called with each message; with None when the subscription has become active
        """
        channel = self.store.keys.worker_channel(self.claims.settings.worker_id)
        self._listening.enter_context(self.listener.listen(channel, handle))
        self.claims.active = True

    def stop_claiming(self) -> None:
        """Claim no more, and stop listening, so that no wake-up is spent on this worker."""
        self.claims.active = False
        self._listening.close()

    async def leave_queues(self, queues: Sequence[str]) -> None:
        """Wait for jobs no more: no wake-up is to be spent on this worker. Stops if the worker takes jobs again."""
        with contextlib.suppress(RedisError, OSError):  # TimeoutError is an OSError
            async with asyncio.timeout(LEAVE_WAIT_S):
                for queue in queues:
                    if self.claims.takes_jobs:
                        return
                    self.claims.withdraw_offer()
                    claims = self.claims
                    await self.store.leave(queue, claims.settings.worker_id, claims.last_used_offer, claims.number)

    # -- keeping leases -------------------------------------------------------------------------------------------

    def start_renewing(self, settings: RenewalSettings, watchdog: Watchdog | None) -> None:
        """Renew the leases from now on; once is enough.

        :param watchdog: watches the event loop of a supervised worker
        """
        if self._renewer is None:
            slots = self._slots
            self._renewer = LeaseRenewer(self.pool, self.store.keys, settings, slots.leased, slots.apply)
            self._renewer.watchdog = watchdog
            self._renewer.start()

    async def stop_renewing(self) -> None:
        """Renew no more."""
        renewer, self._renewer = self._renewer, None
        if renewer is not None:
            await renewer.stop()

    # -- the end --------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close the connections."""
        self.is_open = False
        if not isinstance(self.pool, Pool):
            await self.listener.close()
            await self.store.close()
        await self.pool.aclose(close_connection_pool=True)
