"""Measuring methods: what is asked, what would be right, and every metric of what is answered."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
