"""Isolated environments: a venv per Python peer, a node_modules folder for BullMQ, made once and kept."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from .catalogue import PEERS_FOLDER, PeerFacts

ENVIRONMENTS_FOLDER = Path(__file__).parent / ".envs"
PEER_SIDE_FOLDER = Path(__file__).parent / "peer_side"
REPOSITORY = Path(__file__).parent.parent
INSTALL_TIMEOUT_S = 600
STAMP_NAME = ".made-from"


class EnvironmentUnavailableError(Exception):
    """A peer cannot be installed or imported here; the message says why."""


@dataclass(frozen=True)
class PeerEnvironment:
    """How to start a peer's adapter: the command before its arguments, and the variables it needs."""

    command: tuple[str, ...]
    variables: dict[str, str]
    version: str


def make_environment(peer: PeerFacts) -> PeerEnvironment:
    """The peer's environment, made if it is not there or was made from other versions.

    Raises:
        EnvironmentUnavailableError: it cannot be made.
    """
    if peer.folder == "arqestra":
        return _our_environment(peer)
    if (PEERS_FOLDER / peer.folder / "package.json").exists():
        return _node_environment(peer)
    return _python_environment(peer)


def _our_environment(peer: PeerFacts) -> PeerEnvironment:
    _run([sys.executable, "-c", "from arqestra import Worker, create_pool"])
    adapter = PEERS_FOLDER / peer.folder / "adapter.py"
    variables = _python_variables(peer)
    # The engine beside these benchmarks, wherever the installed package points.
    variables["PYTHONPATH"] += os.pathsep + str(REPOSITORY)
    return PeerEnvironment((sys.executable, str(adapter)), variables, version("arqestra"))


def _python_environment(peer: PeerFacts) -> PeerEnvironment:
    folder = ENVIRONMENTS_FOLDER / peer.folder
    python = folder / "bin" / "python"
    requirements = PEERS_FOLDER / peer.folder / "requirements.txt"

    def make() -> None:
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements)])

    _make_once(folder, f"{sys.version}\n{requirements.read_text()}", make)
    adapter = PEERS_FOLDER / peer.folder / "adapter.py"
    return PeerEnvironment((str(python), str(adapter)), _python_variables(peer), _pinned(peer, requirements))


def _node_environment(peer: PeerFacts) -> PeerEnvironment:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise EnvironmentUnavailableError("node and npm are not on PATH")
    folder = ENVIRONMENTS_FOLDER / peer.folder
    package = PEERS_FOLDER / peer.folder / "package.json"

    def make() -> None:
        folder.mkdir(parents=True)
        shutil.copy(package, folder)
        _run([npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--prefix", str(folder)])

    _make_once(folder, package.read_text(), make)
    pinned = json.loads(package.read_text())["dependencies"][peer.distribution]
    adapter = PEERS_FOLDER / peer.folder / "adapter.js"
    variables = {"BENCH_MODULES": str(folder), "NODE_ENV": "production", **peer.variables}
    return PeerEnvironment((node, str(adapter)), variables, pinned)


def _make_once(folder: Path, made_from: str, make) -> None:
    stamp = folder / STAMP_NAME
    if stamp.exists() and stamp.read_text() == made_from:
        return
    shutil.rmtree(folder, ignore_errors=True)
    try:
        make()
    except EnvironmentUnavailableError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    stamp.write_text(made_from)


def _python_variables(peer: PeerFacts) -> dict[str, str]:
    return {"PYTHONPATH": str(PEER_SIDE_FOLDER), "PYTHONDONTWRITEBYTECODE": "1", **peer.variables}


def _pinned(peer: PeerFacts, requirements: Path) -> str:
    found = re.search(rf"^{re.escape(peer.distribution)}==(\S+)", requirements.read_text(), re.MULTILINE)
    if found is None:
        raise EnvironmentUnavailableError(f"expected {peer.distribution}==... in {requirements.name}")
    return found[1]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": ""},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentUnavailableError(str(error)) from error
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise EnvironmentUnavailableError(lines[-1] if lines else f"{command[0]} ended with {done.returncode}")
