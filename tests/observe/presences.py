"""What a worker tells of itself, with a value in each field."""

from __future__ import annotations

from arqestra.protocol.presence import Presence

PRESENCE = Presence("h", 7, "0.1.0", 5_000, ["q"], 10, 3, 1, [], 0, 0, 0, 1_000_000, 2.5, 40, False, 6)
