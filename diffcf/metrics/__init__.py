"""Metrics, each a torchmetrics class with its functional form beside it; see docs/metrics.md."""

from diffcf.metrics.acm import ACM, absolute_counterfactual_mismatch
from diffcf.metrics.cld import CLD
from diffcf.metrics.composition import Composition
from diffcf.metrics.disentanglement import DCI, IRS, dci, irs
from diffcf.metrics.effectiveness import Effectiveness
from diffcf.metrics.fidelity import Fidelity
from diffcf.metrics.graph_distance import (
    EdgeF1,
    StructuralHammingDistance,
    edge_f1,
    structural_hamming_distance,
)
from diffcf.metrics.minimality import Minimality
from diffcf.metrics.rates import CounterfactualRates
from diffcf.metrics.reversibility import Reversibility

__all__ = [
    "ACM",
    "CLD",
    "DCI",
    "IRS",
    "Composition",
    "CounterfactualRates",
    "EdgeF1",
    "Effectiveness",
    "Fidelity",
    "Minimality",
    "Reversibility",
    "StructuralHammingDistance",
    "absolute_counterfactual_mismatch",
    "dci",
    "edge_f1",
    "irs",
    "structural_hamming_distance",
]
