"""Error replies of a server, as exceptions."""

import re
from typing import cast

from redis._parsers import BaseParser
from redis.exceptions import BusyLoadingError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = (
    "CLUSTER_ADVICE",
    "ClaimRefused",
    "NoFunctionError",
    "NoFunctionsError",
    "ServerIsCluster",
    "ServerIsReplica",
    "ServerNotReady",
    "function_error",
    "reply_error",
)

# Answers of a server that is alive but cannot carry out the call now: out of memory, a script that runs too long, a
# full disk, a master without its replicas, a replica. LOADING has a type of its own.
_NOT_NOW = ("OOM", "BUSY", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN")
# As Redis before 7 puts them where a script was refused.
_NOT_NOW_IN_SCRIPT = re.compile(r"ERR Error running script.* -(OOM|READONLY|MISCONF|NOREPLICAS) ", re.DOTALL)
_NO_FUNCTIONS = re.compile(
    r"(?:(?:ERR )?unknown (?:sub)?command ['`]|(?:NOPERM )?.*to run the ')(?:fcall|function)\b", re.IGNORECASE
)
_OF_CLUSTER = ("MOVED ", "ASK ", "CROSSSLOT ")
CLUSTER_ADVICE = (
    "expected one Redis server (or Sentinels), got a node of a Redis Cluster; arqestra's keys are not spread over "
    "slots, so it needs a server with `cluster-enabled no`"
)


class ServerNotReady(RedisConnectionError):
    """The server answers, and cannot carry out the call now: it is out of memory, its disk is full, it has become a
    replica, it lacks replicas, it loads its data, or a script keeps it busy. Nothing was changed; the call was
    tried several times.

    A `redis.exceptions.ConnectionError`, like every other trouble that passes.
    """


class ServerIsReplica(ServerNotReady, ReadOnlyError):
    """The server is a replica: its master may be another one by now. Also redis-py's `ReadOnlyError`."""


class ServerIsLoading(ServerNotReady, BusyLoadingError):
    """The server reads its data from disk after a start. Also redis-py's `BusyLoadingError`."""


class ServerIsCluster(ResponseError):
    """The server is a node of a Redis Cluster, which arqestra does not run on."""


class NoFunctionError(ResponseError):
    """The server does not have the library of our functions."""


class NoFunctionsError(ResponseError):
    """The server has no functions at all, or this user may not call them."""


class ClaimRefused(ResponseError):
    """Redis took the outcomes of a turn, and refused its claim.

    :ivar written: what became of the outcomes
    """

    def __init__(self, reason: ResponseError, written: list[bool | None]) -> None:
        super().__init__(str(reason))
        self.written = written


def function_error(message: str) -> ResponseError | None:
    """The error if a reply says that our functions are not there; with or without its code, as redis-py cuts it off."""
    if message.endswith("Function not found"):
        return NoFunctionError(message)
    return NoFunctionsError(message) if _NO_FUNCTIONS.match(message) is not None else None


def reply_error(message: str) -> Exception:
    """The exception that an error reply stands for."""
    refused = _NOT_NOW_IN_SCRIPT.match(message)
    if message.startswith("READONLY") or (refused is not None and refused[1] == "READONLY"):
        return ServerIsReplica(message)
    if message.startswith("LOADING"):
        return ServerIsLoading(message)
    if refused is not None or message.startswith(_NOT_NOW):
        return ServerNotReady(message)
    no_function = function_error(message)
    if no_function is not None:
        return no_function
    if message.startswith(_OF_CLUSTER):
        return ServerIsCluster(f"{CLUSTER_ADVICE} ({message})")
    return cast(Exception, BaseParser.parse_error(message))
