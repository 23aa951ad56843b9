"""A service on arqestra's public names: e-mail, images, reports and data jobs that `worker.py` runs.

| module | jobs |
|---|---|
| `jobs.email` | `send_email` |
| `jobs.images` | `process_image`, `process_batch_image` |
| `jobs.reports` | `generate_report` |
| `jobs.shards` | `fetch_partial_data`, `merge_results` |
| `jobs.users` | `fetch_data`, `process_data`, `send_notification` |
| `jobs.workflows` | `publish_album`, and the chain, chord and batch of the jobs above |
| `jobs.maintenance` | `cleanup_sessions`, `health_check` |
"""

import os

# libvips reads this once, when it is first loaded. Without it, every image would use as many threads as the machine
# has cores, on top of the images that a worker processes side by side.
os.environ.setdefault("VIPS_CONCURRENCY", "1")
