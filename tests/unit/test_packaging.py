"""What pyproject.toml asks for can be installed: by `make install` with its pins, and by pip alone."""

import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from typer.testing import CliRunner

import arqestra
from arqestra.cli import app
from tests.support.repository import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
# Debian's and CI's are no older; they are the versions that README says the suite was run on.
VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def asked_for() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(text) for text in (*PROJECT["dependencies"], *(text for extra in extras for text in extra))]


def range_of(requirements: list[Requirement], name: str) -> SpecifierSet:
    """What is asked of a package, from the narrowest place."""
    found = [each.specifier for each in requirements if canonicalize_name(each.name) == name and not each.marker]
    return max(found, key=len)


def pins() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text().split()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


@pytest.mark.parametrize("requirement", [each for each in asked_for() if each.name != "arqestra"], ids=str)
def test_each_requirement_has_a_pin_that_fits(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


def test_the_s3_server_and_the_s3_client_ask_for_one_botocore() -> None:
    """moto takes any boto3, which takes its own botocore; aiobotocore takes only a few. Without bounds pip gives up."""
    of_the_client = range_of([Requirement(text) for text in requires("aiobotocore") or ()], "botocore")
    assert range_of(asked_for(), "boto3") == of_the_client


def test_the_classifiers_name_the_versions_that_are_supported() -> None:
    stem = "Programming Language :: Python :: "
    named = [text.removeprefix(stem) for text in PROJECT["classifiers"] if text.startswith(stem + "3.")]
    assert tuple(named) == VERSIONS
    assert SpecifierSet(PROJECT["requires-python"]).contains("3.11.0")


def test_the_classifiers_say_what_a_chooser_asks() -> None:
    """For whom it is, how far it is, where it runs. The licence is an expression: a classifier beside it is refused."""
    topics = {text.split(" :: ")[0] for text in PROJECT["classifiers"]}
    assert topics >= {"Development Status", "Intended Audience", "Operating System", "Topic", "Typing"}
    assert "License" not in topics
    assert "Programming Language :: Python :: 3 :: Only" in PROJECT["classifiers"]
    assert "Programming Language :: Python :: Implementation :: CPython" in PROJECT["classifiers"]


def test_the_version_stands_in_one_place() -> None:
    """In arqestra/version.py. After a change of it `make install` renews the metadata of an editable checkout."""
    assert "version" not in PROJECT
    assert "version" in PROJECT["dynamic"]
    assert arqestra.VERSION == arqestra.__version__ == version("arqestra")
    assert str(Version(arqestra.VERSION)) == arqestra.VERSION, "expected the form that PEP 440 calls normal"


def test_the_command_line_prints_the_version() -> None:
    result = CliRunner().invoke(app, ["--version"])

    assert (result.exit_code, result.stdout) == (0, f"arqestra {version('arqestra')}\n")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pip_alone_finds_versions_that_go_together(tmp_path: Path) -> None:
    """Needs a package registry. The metadata of a hundred packages are read; nothing is installed."""
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)  # a folder of its own: nothing is built in the repository
    for name in ("README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path)
    (tmp_path / "arqestra").mkdir()
    shutil.copy(REPOSITORY / "arqestra" / "version.py", tmp_path / "arqestra")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    reached = subprocess.run(
        [*pip, "--retries", "0", "download", "--no-deps", "--dest", str(tmp_path / "probe"), "six"], capture_output=True
    )
    if reached.returncode != 0:
        pytest.skip("no package registry answers")
    resolved = subprocess.run(
        [*pip, "install", "--dry-run", "--ignore-installed", "-e", f"{tmp_path}[dev]"], capture_output=True, text=True
    )
    assert resolved.returncode == 0, resolved.stderr[-2000:]
    assert "Would install" in resolved.stdout
