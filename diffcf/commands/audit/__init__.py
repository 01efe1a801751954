"""``diffcf audit``: what a factor does to the output of any classifier."""
