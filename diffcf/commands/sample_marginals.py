"""``diffcf sample WEIGHTS --measure CONFIG``: the factors that are drawn, beside the true ones.

For the scene of the data that CONFIG describes, without an image: every marginal under every
intervention (:mod:`diffcf.evaluation.marginals`).
"""

from __future__ import annotations

import time
from typing import Any

from jsonargparse import Namespace

from diffcf.api import Model
from diffcf.commands.measuring import model_data, provenance, write_measured
from diffcf.evaluation import marginal_distances
from diffcf.io import SettingsError
from diffcf.reporting import markdown


def measure(model: Model, parsed: Namespace) -> None:
    """Write ``marginals.json`` and ``marginals.md`` to the folder ``--out``, and print the table.

    Raises:
        SettingsError: for data without a scene, or a model without a causal model of its own.
    """
    started = time.perf_counter()
    data = model_data(model, parsed.measure)
    if data.scene is None:
        raise SettingsError(f"No scene knows the true distribution of {parsed.measure}.")
    nscm = getattr(model.module, "nscm", None)
    if nscm is None:
        raise SettingsError(f"{type(model.module).__name__} has no causal model to draw from.")
    factors = data.factors_of("train")
    factors = factors[~factors.isnan().any(dim=1)]
    known = nscm.cpu(), data.scene, factors, parsed.count, parsed.seed, model.module.roots
    found = marginal_distances(*known)
    origin = provenance(model, parsed, ("weights", "count", "seed"), started)
    origin |= {"config": str(parsed.measure), "images": len(factors)}
    record = {"distances": found, "provenance": origin}
    write_measured(record, marginals_table(found, model.graph.names), "marginals", parsed.out)


def marginals_table(found: dict[str, dict[str, float]], names: tuple[str, ...]) -> str:
    """A row for each intervention, a column for each factor, as markdown."""
    rows: list[list[Any]] = [
        [title, *(f"{row[name]:.3f}" if name in row else "" for name in names)]
        for title, row in found.items()
    ]
    return markdown(["total variation", *names], rows)
