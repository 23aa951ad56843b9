"""What lets arqestra stand in for arq: arq's module names, and tools that wrap arq's functions.

`modules.py` makes a name that is patched in one of arq's modules count everywhere. `instrumentation.py` puts the
wrappers of Sentry and OpenTelemetry around our functions. `old_paths.py` has our own modules that moved. May use
`errors` alone. Start with `instrumentation.py`.
"""
