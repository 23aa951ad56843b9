"""What a producer uses: `create_pool`, `Pool`, and the views of the fleet that a pool gives.

It uses everything below: handles, flows, schedules and the store. Start with `pool.py`.
"""
