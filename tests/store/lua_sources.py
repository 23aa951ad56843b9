"""The sources of the scripts."""

from __future__ import annotations

from importlib.resources import files

LUA = files("arqestra.store").joinpath("lua")


def source(name: str) -> str:
    return LUA.joinpath(f"{name}.lua").read_text(encoding="utf-8")
