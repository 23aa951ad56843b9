"""Schedules: what is enqueued again and again, or once at a time, exactly once a tick.

`definition.py` has what a user declares, `timing.py` when it is due, `plan.py` the decision what to do with ticks that
are due. `queue_scheduler.py` fires: the protocol is "Schedules" in docs/protocols.md. `schedules.py` is what
`pool.schedules` does at run time.

May use `handles`, `store`, `protocol` and `definitions`. Start with `definition.py`, then `queue_scheduler.py`.
"""
