"""What lets arqestra stand in arq's place: arq's module names, arq's import paths, and tools that wrap arq's functions.

`modules.py` makes a name that is patched in one of arq's modules count everywhere. `instrumentation.py` puts the
wrappers of Sentry and OpenTelemetry around our functions. `old_paths.py` has the modules that moved.
"""
