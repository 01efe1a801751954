"""Metrics of counterfactuals: torchmetrics classes, each with its functional form beside it."""

from diffcf.metrics.acm import ACM, absolute_counterfactual_mismatch

__all__ = ["ACM", "absolute_counterfactual_mismatch"]
