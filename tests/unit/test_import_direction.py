"""The check of imports, commands and keys passes on this repository, and catches each kind of violation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.import_direction import main, violations
from tests.support.repository import REPOSITORY


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository in order."""
    files = {
        "arqestra/__init__.py": "from .client.pool import Pool\n__all__ = ('Pool',)\n",
        "arqestra/protocol/keys.py": "JOB = 'arq:job:'\n",
        "arqestra/store/__init__.py": "",
        "arqestra/store/store.py": "from ..protocol.keys import JOB\nasync def add(r): await r.zadd(JOB, {})\n",
        "arqestra/client/pool.py": "from ..store.store import add\nfrom ..protocol import keys\n",
        "arqestra/worker/__init__.py": "",
        "arqestra/worker/worker.py": "from ..client.pool import Pool\nfrom .claim import claim\n",
        "jobs/email.py": "import arqestra\nfrom arqestra import Pool\npool: arqestra.Pool\n",
        "scheduler.py": "from arqestra.embedded import EmbeddedRedis\nfrom jobs.email import pool\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_this_repository_is_in_order() -> None:
    assert violations(REPOSITORY) == []


def test_a_tree_in_order_has_no_violations(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tree) == 0
    assert capsys.readouterr().out == "import direction: in order\n"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("arqestra/client/pool.py", "from arqestra.protocol.keys import JOB\n", "expected a relative import"),
        ("arqestra/client/pool.py", "import arqestra\n", "expected a relative import"),
        ("arqestra/store/store.py", "from .. import Pool\n", "from the package's own __init__"),
        ("arqestra/store/store.py", "from ...jobs import email\n", "leaves the package"),
        ("arqestra/client/pool.py", "async def f(r): await r.zadd('q', {})\n", "the Redis command .zadd("),
        ("arqestra/client/pool.py", "COMMAND = 'EVALSHA'\n", "the Redis command 'EVALSHA'"),
        ("arqestra/client/pool.py", "KEY = f'arq:job:{1}'\n", "the Redis key 'arq:job:'"),
        ("jobs/email.py", "from arqestra import Worker\n", "Worker is not in arqestra.__all__"),
        ("jobs/email.py", "from arqestra import *\n", "* is not in arqestra.__all__"),
        ("jobs/email.py", "import arqestra\narqestra.pool\n", "arqestra.pool is not in arqestra.__all__"),
        ("scheduler.py", "from arqestra.pool import Pool\n", "the service imports arqestra.pool"),
        ("worker.py", "import arqestra.store.store\n", "the service imports arqestra.store.store"),
    ],
)
def test_a_violation_is_found(
    tree: Path, file: str, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / file).write_text(text, encoding="utf-8")

    assert main(tree) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{file}:")
    assert message in lines[0]
