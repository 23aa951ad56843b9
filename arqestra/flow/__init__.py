"""Flows: graphs of jobs, and durable workflows.

A graph is a canvas that a producer stores as a whole (`submit.py`) and watches by a `FlowHandle` (`handle.py`). A
workflow is a function that awaits jobs (`workflow.py`, `orchestrator.py`); `execution.py` runs it against its history,
without I/O, and the worker feeds it. The protocols are "Flows and joins" and "Replay of workflows" in
docs/protocols.md.

May use `handles`, `store`, `protocol` and `definitions`. Start with `submit.py` for graphs and `execution.py` for
workflows.
"""
