"""``diffcf new``: an experiment on your own images, and a first guess at their graph."""
