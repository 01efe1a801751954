"""Counterfactuals from Python, without a Trainer.

>>> import diffcf
>>> model = diffcf.load("pendulum")                            # doctest: +SKIP
>>> answer = model.counterfactual(images, do={"light": 0.8})   # doctest: +SKIP
>>> abducted = model.abduct(images)                            # doctest: +SKIP
>>> abducted.predict(do={"angle": 0.2}).image                  # doctest: +SKIP
>>> model.sample(16, do={"light": 0.8}).image                  # doctest: +SKIP
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
