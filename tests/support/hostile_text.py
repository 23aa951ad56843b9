"""A text that does harm where it is not escaped: in HTML, in an attribute, in a template."""

from __future__ import annotations

__all__ = ("EVIL",)

EVIL = "<script>document.title='pwned'</script>\"'><img src=x onerror=alert(1)>{{7*7}}"
