"""Cartoon faces: a stand-in for CelebA whose mechanism is known."""
