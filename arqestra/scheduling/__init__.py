"""Schedules: what is enqueued again and again, or once at a time, exactly once a tick. `scheduler.py` tells how."""
