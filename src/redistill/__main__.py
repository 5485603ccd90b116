"""``python -m redistill``: the command line."""

from redistill.cli.entry import main

main()
