"""What makes our worker arq's: its settings forms, its command line, its `--watch` and `--check`."""
