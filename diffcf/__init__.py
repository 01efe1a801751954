"""diffcf: what would this image have looked like, had X been different?

``diffcf.load`` gives a trained model; see :mod:`diffcf.api`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
