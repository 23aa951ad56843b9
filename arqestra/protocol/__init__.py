"""What stands in Redis, as plain Python: key names, payloads, serializers, ids, entries of streams and hashes.

No I/O: `store/` reads and writes what these modules describe. Producers, workers and the dashboard share them. Start
with `keys.py` and `wire.py`.
"""
