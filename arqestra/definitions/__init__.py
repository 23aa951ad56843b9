"""What a user declares: job functions and their options, calls and graphs of calls, limits, retries, middleware.

Plain values that are checked when they are made. Nothing here knows Redis, a worker or the clock. May use `errors` and
`drop_in` alone. Start with `decorator.py` (`@job`), `function.py`, and `signature.py` (calls and canvases).
"""
