"""Random workflows in `run_workflow`: the history of each place where one waited fits its code.

A program is a list of what a workflow does, nested; the seed decides on it, on the answers of its steps, on signals, on
an abort and on when it is left.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from arqestra import Flow, chord, job, workflow
from arqestra.testing import Signal, replay_all, run_workflow, takes

Program = list[tuple[str, int]]
SEEDS = 25
MOVES: tuple[str, ...] = (
    "step",
    "sleep",
    "fails",
    "gather",
    "timeout",
    "wait",
    "effect",
    "first",
    "chain",
    "chord",
    "tasks",
    "patched",
)
MOVES += ("chance", "completed", "child", "nested", "anew")
DEEPEST, ROUNDS = 2, 3


@job
async def add(ctx: dict[Any, Any], *numbers: int) -> int:
    return sum(numbers)


@job
async def total(ctx: dict[Any, Any], numbers: list[int]) -> int:
    return sum(numbers)


@job
async def fail(ctx: dict[Any, Any], *_: int) -> None:
    raise ValueError("no good")


def program(dice: random.Random, depth: int = 0) -> Program:
    return [(dice.choice(MOVES), dice.randrange(1000)) for _ in range(dice.randrange(1, 6 - depth))]


class Walk:
    """One walk through a program."""

    def __init__(self, flow: Flow, again: Callable[[], None], depth: int) -> None:
        self.flow, self.again, self.depth = flow, again, depth
        self.seen: list[Any] = []

    async def through(self, moves: Any) -> list[Any]:
        for move, number in moves:
            value = await getattr(self, move)(number, random.Random(number))
            self.seen.append(value)
        return self.seen

    async def step(self, number: int, dice: random.Random) -> Any:
        return await self.flow.run(add.s(number))

    async def sleep(self, number: int, dice: random.Random) -> Any:
        await self.flow.sleep(dice.choice([0, 0.5, 3600, 86_400]))
        return self.flow.now().timestamp()

    async def fails(self, number: int, dice: random.Random) -> Any:
        try:
            await self.flow.run(fail.s(number))
        except ValueError as error:
            return str(error)

    async def gather(self, number: int, dice: random.Random) -> Any:
        calls = (add.s(1), fail.s(2), self.flow.sleep(number), add.s(3))
        return [
            str(each)
            for each in await self.flow.gather(*calls, limit=dice.choice([None, 1, 2]), return_exceptions=True)
        ]

    async def timeout(self, number: int, dice: random.Random) -> Any:
        try:
            async with asyncio.timeout(dice.choice([5, 50])):
                return await self.flow.run(add.s(number))
        except TimeoutError:
            return "late"

    async def wait(self, number: int, dice: random.Random) -> Any:
        try:
            return await self.flow.wait_for(dice.choice("ab"), timeout=dice.choice([10, 1000]))
        except TimeoutError:
            return "silence"

    async def effect(self, number: int, dice: random.Random) -> Any:
        return await self.flow.side_effect(lambda: number)

    async def first(self, number: int, dice: random.Random) -> Any:
        return await self.flow.first(add.s(number), add.s(number + 1), self.flow.sleep(20))

    async def chain(self, number: int, dice: random.Random) -> Any:
        return await self.flow.run(add.s(1) | add.s(number) | add.si(3))

    async def chord(self, number: int, dice: random.Random) -> Any:
        return await self.flow.run(chord([add.s(each) for each in range(number % 4 + 1)], total.s()))

    async def tasks(self, number: int, dice: random.Random) -> Any:
        async def branch(own: int) -> int:
            await self.flow.sleep(own % 7)
            return await self.flow.run(add.s(own))

        async with asyncio.TaskGroup() as group:
            branches = [group.create_task(branch(number + place)) for place in range(3)]
        return [each.result() for each in branches]

    async def patched(self, number: int, dice: random.Random) -> Any:
        return self.flow.patched(f"change {number % 3}")

    async def chance(self, number: int, dice: random.Random) -> Any:
        return [str(self.flow.uuid()), self.flow.random.random()]

    async def completed(self, number: int, dice: random.Random) -> Any:
        return [value async for value in self.flow.as_completed(add.s(1), add.s(2), add.s(number))]

    async def child(self, number: int, dice: random.Random) -> Any:
        if self.depth < DEEPEST:
            return await self.flow.run(inner.s(program(dice, self.depth + 1), self.depth + 1))

    async def nested(self, number: int, dice: random.Random) -> Any:
        if self.depth < DEEPEST:
            return await Walk(self.flow, self.again, self.depth + 1).through(program(dice, self.depth + 1))

    async def anew(self, number: int, dice: random.Random) -> Any:
        self.again()


@workflow
async def inner(flow: Flow, moves: list[Any], depth: int) -> list[Any]:
    try:
        return await Walk(flow, lambda: None, depth).through(moves)
    finally:
        await flow.run(add.s(-1))


@workflow(timeout="20d")
async def outer(flow: Flow, moves: list[Any], rounds: int = 0) -> list[Any]:
    def again() -> None:
        if rounds < ROUNDS:
            flow.continue_as_new(moves, rounds + 1)

    try:
        return await Walk(flow, again, 0).through(moves)
    except asyncio.CancelledError:
        await flow.run(add.s(-2))
        raise


def answers(dice: random.Random) -> dict[Any, Any]:
    def summed(*numbers: int) -> int:
        return sum(numbers)

    by_turns = [takes(dice.randrange(100), summed) for _ in range(3_000)]
    error = ValueError("no good")
    return {
        add: dice.choice([summed, takes(7, summed), takes("1h", summed), by_turns]),
        total: sum,
        fail: dice.choice([error, takes(9, error)]),
    }


@pytest.mark.parametrize("serializer", ["pickle", "msgpack", "json"])
async def test_every_place_where_a_random_workflow_waited_fits_its_code(serializer: str) -> None:
    states: Counter[str] = Counter()
    for seed in range(SEEDS):
        dice = random.Random(f"{serializer} {seed}")
        moves = program(dice)
        events = [(dice.choice("ab"), number, dice.choice([None, dice.randrange(5_000)])) for number in range(4)]
        outcome = await run_workflow(
            outer,
            moves,
            answers=answers(dice),
            signals=[Signal(*event) for event in events],
            abort_after=dice.choice([None, None, 0, 8, 4_000]),
            until=dice.choice([None, None, None, 0, 100, "2d"]),
            _serializer=serializer,
        )
        found = replay_all(outer, [*outcome.histories(), outcome.history])

        assert [str(each) for each in found if not each.fits] == [], (seed, moves)
        assert (found[-1].state, found[-1].value) == (outcome.state, outcome.value), (seed, moves)
        states[outcome.state] += 1
    assert {"complete", "aborted", "waiting"} <= states.keys()
