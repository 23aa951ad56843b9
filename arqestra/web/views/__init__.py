"""What pages and API show: each module has functions that take the app state and a query, and return frozen values.

They only read. `catalogue.py` lists them. Start with `workers.py`, the shortest.
"""
