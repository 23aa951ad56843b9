"""What a worker tells about itself: statistics, progress, events, presence and metrics.

Nothing here changes what becomes of a job. `reporter.py` writes once a second.
"""
