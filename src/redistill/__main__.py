"""``python -m redistill``: the command line."""

from redistill.cli import main

main()
