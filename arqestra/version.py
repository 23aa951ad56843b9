"""The version of arqestra, under arq's name for it. The arq that it is a drop-in for is `arq.version.VERSION`.

This line is the only place that has it: pyproject.toml reads it when the package is built or installed.
"""

__all__ = ("VERSION",)

VERSION = "0.1.0"
