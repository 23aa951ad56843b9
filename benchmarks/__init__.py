"""`python -m benchmarks`: arqestra and its peers measured in one run, against one throw-away server."""
