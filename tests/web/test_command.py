"""`arqestra dashboard`: where it listens, whom it lets in, and that it ends."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.dashboard_process import served
from tests.support.repository import REPOSITORY


def refused(*options: str) -> str:
    """What it says when it does not start."""
    command = [sys.executable, "-m", "arqestra.cli", "dashboard", "--port", "0", *options]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 2, ran.stdout
    assert ran.stdout == ""
    return " ".join(ran.stderr.split())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_another_address_needs_authentication(host: str) -> None:
    assert "refused" in refused("--host", host)
    assert "--users FILE" in refused("--host", host)


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    odd = tmp_path / "users"
    odd.write_text("# who may\nann:admin:secret\n")
    assert "line 2" in refused("--users", str(odd))
    assert "No such file" in refused("--tokens", str(tmp_path / "none"))
    assert "one of" in refused("--users", str(odd), "--tokens", str(odd))
    assert "--auth nowhere.at_all" in refused("--auth", "nowhere.at_all")
    odd.write_text("ann:viewer:x\n")
    assert "at least 8 characters" in refused("--users", str(odd))


def test_it_serves_those_who_may(redis_url: str, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("vera:viewer:a-token-of-a-viewer\n\notto:operator:a-token-of-an-operator\n")
    options = ("--tokens", str(tokens), "--settings", "tests.web.web_jobs.WorkerSettings", "--title", "Jobs of ours")
    with served(redis_url, *options) as address:
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(f"{address}/api/overview", timeout=20)
        assert refusal.value.code == 401
        refusal.value.close()
        request = urllib.request.Request(f"{address}/", headers={"Authorization": "Bearer a-token-of-a-viewer"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert "Jobs of ours" in answer.read().decode()
        with urllib.request.urlopen(f"{address}/healthz", timeout=20) as answer:
            assert answer.read() == b"ok\n"


def test_an_open_stream_does_not_keep_it_from_ending(redis_url: str) -> None:
    with served(redis_url) as address:
        stream = urllib.request.urlopen(f"{address}/live", timeout=20)
        assert stream.readline().startswith(b"retry")
        while not (line := stream.readline()).startswith(b"data"):
            assert line
        assert "totals" in json.loads(line.removeprefix(b"data: "))
    assert stream.read() is not None, "it ended by itself, and the stream with it"
    stream.close()
