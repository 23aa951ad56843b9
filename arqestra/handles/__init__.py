"""What a caller holds: `Job`, a handle on one job, and `Queue`, a handle on one queue.

A handle has a name and a store; it asks Redis when it is asked. May use `store`, `protocol` and `definitions`. Start
with `job.py`.
"""
