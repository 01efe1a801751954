"""Files, formats and the machine: what is read is checked, what is written is whole."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
