"""Metrics, each a torchmetrics class with its functional form beside it."""

from diffcf.metrics.acm import ACM, absolute_counterfactual_mismatch
from diffcf.metrics.rates import CounterfactualRates

__all__ = ["ACM", "CounterfactualRates", "absolute_counterfactual_mismatch"]
