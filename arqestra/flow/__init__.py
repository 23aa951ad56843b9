"""Flows: graphs of jobs (`handle.py`), and durable workflows (`orchestrator.py`, `execution.py`)."""
