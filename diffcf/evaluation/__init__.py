"""Measuring methods that answer counterfactual questions."""

from diffcf.evaluation.evaluation import CounterfactualEvaluation
from diffcf.evaluation.example import Answered, FactualBatch

__all__ = ["Answered", "CounterfactualEvaluation", "FactualBatch"]
