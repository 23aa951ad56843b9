"""The real promtool and Prometheus: those of the PATH, else of Debian's package, unpacked into a folder of the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.support.wait import wait_until


class Tools:
    """The two programs.

    :param folder: in which they are; None: on the PATH
    """

    def __init__(self, folder: Path | None) -> None:
        self.promtool = "promtool" if folder is None else str(folder / "promtool")
        self.prometheus = "prometheus" if folder is None else str(folder / "prometheus")

    def check(self, *words: str | Path, cwd: Path | None = None, text: str | None = None) -> None:
        """Run promtool; it has to agree."""
        done = subprocess.run(
            [self.promtool, *words], cwd=cwd, input=text, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"promtool {' '.join(map(str, words))}:\n{done.stdout}\n{done.stderr}"


def find_tools(folder: Path) -> Tools:
    """Prometheus' programs; skips the test where there is no way to have them."""
    if shutil.which("promtool") and shutil.which("prometheus"):
        return Tools(None)
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip("needs promtool and prometheus on the PATH, or apt-get to download Debian's package prometheus")
    download = ["apt-get", "download", "prometheus"]
    if subprocess.run(download, cwd=folder, capture_output=True, check=False).returncode != 0:
        subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
        subprocess.run(download, cwd=folder, check=True, capture_output=True)
    (package,) = folder.glob("prometheus_*.deb")
    subprocess.run(["dpkg-deb", "-x", package, folder / "root"], check=True)
    return Tools(folder / "root" / "usr" / "bin")


class NotReady(Exception):
    """It is starting."""


class Prometheus:
    """A server that runs.

    :param url: of its API
    """

    def __init__(self, url: str) -> None:
        self._url = url

    async def ask(self, path: str, **parameters: str) -> Any:
        """What its API answers to a question, which has to be a good one."""
        return await asyncio.to_thread(self._ask, path, parameters)

    def _ask(self, path: str, parameters: dict[str, str]) -> Any:
        try:
            with urlopen(f"{self._url}/api/v1/{path}?{urlencode(parameters, doseq=True)}", timeout=20) as response:
                document = json.load(response)
        except HTTPError as error:
            if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
                raise NotReady from None
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from None
        assert document["status"] == "success", document
        return document["data"]

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """The samples that a query gives."""
        return (await self.ask("query", query=expr))["result"]

    async def ready(self) -> bool:
        try:
            await self.ask("status/buildinfo")
        except (URLError, NotReady):
            return False
        return True


@contextlib.asynccontextmanager
async def running(tools: Tools, config: Path, folder: Path) -> AsyncIterator[Prometheus]:
    """A Prometheus on a loopback port, ended with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "prometheus.log"
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: ASYNC220 - it only starts
            [
                *(tools.prometheus, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"),
                *(f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=1h"),
            ],
            env={**os.environ, "GOMAXPROCS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        prometheus = Prometheus(f"http://127.0.0.1:{port}")

        async def up() -> bool:
            assert process.poll() is None, log.read_text()
            return await prometheus.ready()

        await wait_until(up, log.read_text)
        yield prometheus
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
