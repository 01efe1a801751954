"""A classifier of anybody's: loaded from where it lies, and asked with its answers checked.

A Python callable and a TorchScript file are programs: loading one runs it, with the rights of
whoever loads it. No pickle is read.
"""

from __future__ import annotations

import importlib
import importlib.util
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from diffcf.io import DataError, SettingsError, UnavailableError

KINDS = "name package.module:name, file.py:name, a TorchScript file (.pt) or an ONNX file (.onnx)"


@dataclass(frozen=True)
class Classifier:
    """Images ``[B, C, H, W]`` in [-1, 1] to scores ``[B, L]``, one per output.

    Attributes:
        name: what it is called in reports.
        call: takes the images and gives ``[B]`` or ``[B, L]``.
        device: where it takes them.
        file: what it was loaded from, where that is a file.
    """

    name: str
    call: Callable[[Tensor], object]
    device: torch.device | str = "cpu"
    file: Path | None = None

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """``[B, L]`` float64 on the CPU; DataError for what is no finite score of each image."""
        shape = tuple(images.shape)
        try:
            found = self.call(images.to(self.device))
        except Exception as error:  # whatever a program of the user's raises
            raise DataError(
                f"Classifier {self.name} does not take images {list(shape)} ({_reason(error)}): "
                "they are as the counterfactual model draws them; adapt size and channels inside."
            ) from error
        if not isinstance(found, Tensor):
            raise DataError(
                f"Classifier {self.name} returned {type(found).__name__}: return a tensor [B] or "
                "[B, L]."
            )
        if found.dim() not in (1, 2) or len(found) != len(images) or not found.numel():
            raise DataError(
                f"Classifier {self.name} returned shape {list(found.shape)} for {len(images)} "
                "images: return [B], or [B, L] with an output in each column."
            )
        scores = found.reshape(len(images), -1).cpu().double()
        if not torch.isfinite(scores).all():
            raise DataError(
                f"Classifier {self.name} returned NaN or infinity: give finite scores, such as "
                "probabilities."
            )
        return scores


def load_classifier(place: str, device: torch.device | str = "cpu") -> Classifier:
    """The classifier at ``place``. **Loading runs it**, but for ONNX: load what you trust.

    Args:
        place: ``package.module:name`` or ``file.py:name``, of a ``torch.nn.Module`` or of a
            function (or class) that takes nothing and returns the classifier, any callable; or the
            path of a TorchScript (``.pt``) or an ONNX file (``.onnx``, extra ``diffcf[onnx]``).
        device: where it answers; an ONNX file answers on the CPU.

    Raises:
        SettingsError: for a place of none of these forms.
        DataError: when there is nothing there, or nothing that can be called.
        UnavailableError: for an ONNX file without onnxruntime.
    """
    module, colon, name = place.rpartition(":")
    if colon and name.isidentifier():
        return _from_python(module, name, device)
    path = Path(place)
    if path.suffix.lower() not in (".pt", ".onnx"):
        raise SettingsError(f"'{place:.200}' is no classifier: {KINDS}.")
    if not path.is_file():
        raise DataError(f"Classifier {path} does not exist: check the path.")
    if path.suffix.lower() == ".onnx":
        return Classifier(path.name, _onnx(path), file=path)
    return Classifier(path.name, _torchscript(path, device), device, path)


def _from_python(module: str, name: str, device: torch.device | str) -> Classifier:
    """Of a module or a file: what ``name`` is or, unless that is a network, returns."""
    title = f"{Path(module).name if module.endswith('.py') else module}:{name}"
    file = Path(module) if module.endswith(".py") else None
    try:
        found = getattr(_imported(module, file), name)
        made = found if isinstance(found, nn.Module) else found()
    except DataError:
        raise
    except Exception as error:  # whatever a program of the user's raises
        raise DataError(
            f"Classifier {title} cannot be loaded ({_reason(error)}): it is to be a network, or a "
            "function that takes nothing and returns one."
        ) from error
    if not callable(made):
        raise DataError(
            f"Classifier {title} is {type(made).__name__}, which takes no images: return a network "
            "or a function of images."
        )
    if isinstance(made, nn.Module):
        made = made.eval().to(device)
    return Classifier(title, made, device, file)


def _imported(module: str, file: Path | None) -> ModuleType:
    if file is None:
        return importlib.import_module(module)
    if not file.is_file():
        raise DataError(f"Classifier {file} does not exist: check the path.")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def _torchscript(path: Path, device: torch.device | str) -> nn.Module:
    """DataError for anything else, pickles included."""
    refusal = (
        f"Classifier {path} is no TorchScript: save it by torch.jit.save (pickles are not read, "
        "since they can hide any program), or name file.py:name."
    )
    if not zipfile.is_zipfile(path):
        raise DataError(refusal)
    try:
        network = torch.jit.load(path, map_location=device)
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(refusal) from error
    return network.eval()


def _onnx(path: Path) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
    except ImportError:
        raise UnavailableError(
            f"Classifier {path} needs onnxruntime, which is not installed: "
            "pip install 'diffcf[onnx]'."
        ) from None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base but this
        raise DataError(f"Classifier {path} is no ONNX model ({_reason(error)}).") from error
    (first, *_) = session.get_inputs()

    def call(images: Tensor) -> Tensor:
        return torch.as_tensor(session.run(None, {first.name: images.cpu().numpy()})[0])

    return call


def _reason(error: Exception) -> str:
    """The first line of an error's message, or what kind it is."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{(lines or [type(error).__name__])[-1].rstrip('.'):.200}"
