"""The Flow: a ball raises the water in a cup, the water pushes a jet through a hole."""
