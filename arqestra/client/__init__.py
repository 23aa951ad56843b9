"""What a producer uses: `create_pool` and `Pool`, and `SyncPool` for code without asyncio.

A `Pool` is a redis client that enqueues jobs and flows, and reads what the fleet does (`fleet_views.py`). May use
`flow`, `scheduling`, `handles`, `store`, `protocol` and `definitions`. Start with `enqueue.py`; for `SyncPool`, with
`sync_connection.py`.
"""
