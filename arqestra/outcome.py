"""The path of arqestra 0.1 of `arqestra.worker.run.outcome`: see `drop_in/old_paths.py`."""

import sys

from .worker.run import outcome

sys.modules[__name__] = outcome
