"""The path of arqestra 0.1 of `arqestra.worker.settings`: see `drop_in/old_paths.py`."""

import sys

from .worker import settings

sys.modules[__name__] = settings
