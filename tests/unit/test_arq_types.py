"""Typed code of arq's users passes the type checkers with its imports changed, if it did before."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import REPOSITORY
from tests.support.user_types import mypy_of_user

SAMPLE = Path(__file__).with_name("arq_sample.py")
Complaints = set[tuple[int, str]]  # line and text


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sample on arq, on arqestra, and on `import arqestra as arq`."""
    code = SAMPLE.read_text(encoding="utf-8")
    changed = re.sub(r"^from arq\b", "from arqestra", code, flags=re.MULTILINE)
    dotted = re.sub(r"^import arq\n", "import arqestra as arq\n", changed, flags=re.MULTILINE)
    dotted = re.sub(r"^import arq\.worker\n", "import arqestra.worker\n", dotted, flags=re.MULTILINE)
    replaced = re.sub(r"\barq\.", "arqestra.", re.sub(r"^import arq\b", "import arqestra", changed, flags=re.MULTILINE))
    folder = tmp_path_factory.mktemp("types")
    found = {}
    for name, text in (("arq", code), ("arqestra", replaced), ("dotted", dotted)):
        found[name] = folder / f"on_{name}.py"
        found[name].write_text(text, encoding="utf-8")
    assert "from arqestra.jobs import" in replaced
    assert " arq." not in replaced
    return found


def _mypy(paths: list[Path]) -> dict[str, Complaints]:
    found: dict[str, Complaints] = {path.name: set() for path in paths}
    for line in mypy_of_user(paths[0].parent, *(path.name for path in paths), cache="arq_types"):
        name, number, text = line.split(":", 2)
        if name in found and " error: " in f" {text}":
            found[name].add((int(number), text.strip()))
    return found


def _pyright(paths: list[Path]) -> dict[str, Complaints]:
    (paths[0].parent / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "standard", "extraPaths": [str(REPOSITORY)], "pythonVersion": "3.11"}),
        encoding="utf-8",
    )
    run = subprocess.run(
        ["pyright", "--outputjson", "--pythonpath", sys.executable, *map(str, paths)],
        cwd=paths[0].parent,
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, Complaints] = {path.name: set() for path in paths}
    for each in json.loads(run.stdout)["generalDiagnostics"]:
        if each["severity"] == "error":
            found[Path(each["file"]).name].add((each["range"]["start"]["line"] + 1, each["message"]))
    return found


def test_mypy_has_nothing_to_say_of_the_sample(samples: dict[str, Path]) -> None:
    found = _mypy(list(samples.values()))

    # Stock arq's own types refuse settings classes with class variables, and nothing else of the sample.
    assert all('incompatible type "type[WorkerSettings]"' in text for _, text in found.pop("on_arq.py"))
    assert found == {"on_arqestra.py": set(), "on_dotted.py": set()}


@pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright is not installed: it comes through npm")
def test_pyright_has_nothing_new_to_say_of_the_sample(samples: dict[str, Path]) -> None:
    found = _pyright(list(samples.values()))

    before = {line for line, _ in found["on_arq.py"]}
    for name, complaints in found.items():
        assert {complaint for complaint in complaints if complaint[0] not in before} == set(), name
