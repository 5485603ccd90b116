"""``python -m redistill``: the command line."""

from redistill.cli.app import main

main()
