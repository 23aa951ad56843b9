"""The version of arqestra, under arq's name for it. The arq that it is a drop-in for is `arq.version.VERSION`."""

__all__ = ("VERSION",)

VERSION = "0.1.0"
