"""``diffcf benchmark``: the grid it runs, one cell of it, and the command."""
