"""Metrics, each a torchmetrics class with its functional form beside it; see docs/metrics.md."""

from diffcf.metrics.acm import ACM, absolute_counterfactual_mismatch
from diffcf.metrics.cld import CLD
from diffcf.metrics.composition import Composition
from diffcf.metrics.disentanglement import DCI, IRS, dci, irs
from diffcf.metrics.effectiveness import Effectiveness, effectiveness_error
from diffcf.metrics.fidelity import (
    Fidelity,
    mean_absolute_error,
    peak_signal_noise_ratio,
    structural_similarity,
)
from diffcf.metrics.graph_distance import (
    EdgeF1,
    StructuralHammingDistance,
    edge_f1,
    structural_hamming_distance,
)
from diffcf.metrics.minimality import Minimality, excess_change
from diffcf.metrics.rates import CounterfactualRates
from diffcf.metrics.reversibility import Reversibility
from diffcf.metrics.sequence_fidelity import SequenceFidelity

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
    "SequenceFidelity",
    "StructuralHammingDistance",
    "absolute_counterfactual_mismatch",
    "dci",
    "edge_f1",
    "effectiveness_error",
    "excess_change",
    "irs",
    "mean_absolute_error",
    "peak_signal_noise_ratio",
    "structural_hamming_distance",
    "structural_similarity",
]
