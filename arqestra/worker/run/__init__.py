"""One job, from its lease to its outcome.

`execute.py` is the life of a job, stage by stage. An `Attempt` (`attempt.py`) is one run of one job. What is decided
(`outcome.py`) is a value; Redis is told by the sync loop of `leasing/`.
"""
