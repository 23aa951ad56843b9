"""What stands in Redis: keys, payloads, serializers, ids, events, and what workers write of jobs and of themselves.

Names and bytes only: nothing here talks to Redis. May use `definitions` and `errors`. Start with `keys.py`, then
`wire.py` (payloads and results). docs/data-model.md has the same for people.
"""
