"""`python -m arqestra.cli`."""

from . import main

main()
