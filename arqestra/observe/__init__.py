"""How operators watch a deployment: metrics for Prometheus, OpenTelemetry spans, log lines as JSON.

It may use `client/` and below. Workers, the command line and the dashboard use it. Start with `metrics.py`, the table
of all metrics: `fleet.py` and `process_metrics.py` gather their values, and `exposition.py` makes text of them.
"""
