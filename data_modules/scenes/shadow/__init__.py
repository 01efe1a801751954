"""The Shadow scenes: a coloured body in coloured light, and the shadow it throws on the floor."""
