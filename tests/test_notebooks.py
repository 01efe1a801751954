"""Notebooks run from top to bottom, in one namespace and a folder of their own; no Jupyter."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import ROOT

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def cells(notebook: Path, kind: str) -> list[str]:
    found = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def run(notebook: Path) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, source in enumerate(cells(notebook, "code")):
        exec(compile(source, f"{notebook.name}[{number}]", "exec"), names)
    return names


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_links_to_what_is_there(notebook: Path) -> None:
    kept = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in kept)
    for text in cells(notebook, "markdown"):
        for target in re.findall(r"\]\(([^):#]+)\)", text):
            assert (notebook.parent / target).is_file(), target


def test_own_data_goes_from_images_to_a_counterfactual(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run(ROOT / "docs/notebooks/own_data.ipynb")
    answer, images = names["answer"], names["images"]
    assert answer.image.shape == images.shape == (1, 3, 32, 32)
    assert answer.image.isfinite().all() and not torch.equal(answer.image, images)
    torch.testing.assert_close(answer.target[0, 0], torch.tensor(10.0))
    assert answer.target[0, 1] != answer.factors[0, 1], "the effect follows"
    torch.testing.assert_close(names["same"].image, images, atol=1e-3, rtol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["own_data"]
