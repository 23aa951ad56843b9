"""`arqestra init`: a small project to start from."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from .shell import USAGE, Stop, errors_as_exit_codes

__all__ = ("add_init",)

SUFFIX = ".txt"  # the files of the project are templates here, and no modules of ours


def add_init(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="init")(init)


def init(
    folder: Annotated[Path, typer.Argument(help="an empty folder, or one that does not exist yet")] = Path(),
) -> None:
    """Write a small project that runs: jobs, a worker, a producer, tests, and compose.yaml. Nothing is overwritten."""
    with errors_as_exit_codes():
        templates = sorted(
            (each for each in files(__package__).joinpath("project").iterdir() if each.name.endswith(SUFFIX)),
            key=lambda each: each.name,
        )
        _refuse_what_is_there(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for template in templates:
                name = template.name.removesuffix(SUFFIX)
                (folder / name).write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
                typer.echo(f"wrote {folder / name}")
        except OSError as error:
            raise Stop(f"{folder}: {error.strerror or error}", USAGE) from None
    typer.echo("README.md in it says what to do next.")


def _refuse_what_is_there(folder: Path) -> None:
    """A folder with something in it is somebody's work; version control may be there."""
    if folder.exists() and not folder.is_dir():
        raise Stop(f"expected an empty folder, got the file {folder}", USAGE)
    found = sorted(each.name for each in folder.iterdir() if each.name != ".git") if folder.is_dir() else []
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise Stop(f"expected an empty folder, got {folder} with {', '.join(found[:3])}{more}", USAGE)
