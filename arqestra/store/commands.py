"""Plain commands over a store's own connection, with the methods of redis-py's client.

So what is read takes no connection of the pool, however few that has; its replies are bytes, whatever the pool decodes;
and it waits no longer than a script call does.
"""

import inspect
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from .calls import Command
from .link import Links

__all__ = ("CommandClient",)


class CommandClient(Redis):
    """A redis client without connections of its own.

    :param redis: a client; only how its connections are made is taken of it
    :param links: what carries the commands
    """

    def __init__(self, redis: Redis, links: Links) -> None:
        super().__init__(connection_pool=redis.connection_pool)
        self._links = links

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        [reply] = await self._links.call([_command(args)])
        if isinstance(reply, Exception):
            raise reply
        return await _parsed(self.response_callbacks, args[0], reply, options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "CommandPipeline":
        return CommandPipeline(self, self._links, transaction)


class CommandPipeline(Pipeline):
    """Commands that are sent together: their replies come together."""

    def __init__(self, client: CommandClient, links: Links, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._links = links

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack, self.command_stack = self.command_stack, []
        if not stack:
            return []
        calls = [_command(args) for args, _ in stack]
        if self.is_transaction:
            *answers, replies = await self._links.call([Command(("MULTI",)), *calls, Command(("EXEC",))])
            refused = [answer for answer in (*answers, replies) if isinstance(answer, Exception)]
            if refused:
                raise refused[0]
        else:
            replies = await self._links.call(calls)
        parsed = [
            reply
            if isinstance(reply, Exception)
            else await _parsed(self.response_callbacks, args[0], reply, dict(options))
            for (args, options), reply in zip(stack, replies, strict=True)
        ]
        wrong = [reply for reply in parsed if isinstance(reply, Exception)]
        if wrong and raise_on_error:
            raise wrong[0]
        return parsed


def _command(args: tuple[Any, ...]) -> Command:
    """redis-py writes `CONFIG GET` as one word."""
    return Command((*str(args[0]).split(), *args[1:]))


async def _parsed(callbacks: Any, name: Any, reply: Any, options: dict[str, Any]) -> Any:
    """The reply as redis-py gives it."""
    options.pop("keys", None)
    callback = callbacks.get(name)
    if callback is None:
        return reply
    value = callback(reply, **options)
    return await value if inspect.isawaitable(value) else value
