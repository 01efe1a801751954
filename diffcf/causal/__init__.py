"""The causal model: graph, factors, interventions, and the mechanisms that are abducted through."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
