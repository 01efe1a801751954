"""``diffcf score``: a task for any program, and the scores of the answers it gives."""
