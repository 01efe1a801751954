"""Measures of handwritten strokes, and a ruler that is calibrated by images of known factors.

Brightness and thickness are those of Morpho-MNIST (Castro, Tan, Kainz, Konukoglu & Glocker,
Morpho-MNIST, JMLR 20, 2019) and of Deep SCM: the median of the pixels above half of the image's
range, and twice the mean distance to the ground along the skeleton, measured at a multiple of the
resolution. What digit it is has no measure: it is classified by histograms of oriented gradients
(Dalal & Triggs, CVPR 2005), which hardly depend on brightness and thickness.

Needs ``pip install 'diffcf[morpho]'``.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from sklearn.svm import SVC
from torch import Tensor
from torch.nn.functional import interpolate

from data_modules.scenes.unmixing import displayed
from diffcf.io import UnavailableError

UPSCALED = 4  # times the resolution at which skeletons are found, as Morpho-MNIST has it
ORIENTATIONS, CELL, BLOCK = 8, 4, 2  # directions; pixels of a cell; cells that are normalised
REGULARISATION = 10.0  # the classifier's C


def check_library() -> None:
    """UnavailableError without the library that finds skeletons."""
    if find_spec("skimage") is None:
        raise UnavailableError(
            "Strokes are measured by scikit-image: pip install 'diffcf[morpho]', or set the data "
            "module's mechanism to null, and have an evaluator read."
        )


def grey_levels(images: Tensor) -> Tensor:
    """Images ``[B, 1, S, S]`` in [-1, 1] as grey levels ``[B, S, S]`` in [0, 255], in memory.
    ValueError for other shapes."""
    if images.ndim != 4 or images.shape[1] != 1 or images.shape[2] != images.shape[3]:
        shape = tuple(images.shape)
        raise ValueError(f"Cannot read strokes of images {shape}: they must be [B, 1, S, S].")
    return (displayed(images.detach())[:, 0].cpu() + 1) * 127.5


def stroke(levels: Tensor) -> Tensor:
    """Which pixels ``[B, S, S]`` are of the stroke: from half of the image's range on."""
    low, high = (levels.flatten(1).amin(1), levels.flatten(1).amax(1))
    return (levels >= ((low + high) / 2)[:, None, None]) & (high > low)[:, None, None]


def brightness(levels: Tensor) -> Tensor:
    """Median grey level ``[B]`` of the stroke; NaN where an image has none."""
    return torch.where(stroke(levels), levels, torch.nan).flatten(1).nanmedian(dim=1).values


def thickness(levels: Tensor) -> Tensor:
    """Mean thickness ``[B]`` of the stroke in pixels; NaN where an image has none."""
    from scipy.ndimage import distance_transform_edt
    from skimage.morphology import skeletonize

    fine = interpolate(levels[:, None], scale_factor=UPSCALED, mode="bilinear")[:, 0]
    measured = []
    for mask in np.pad(stroke(fine).numpy(), ((0, 0), (1, 1), (1, 1))):
        along = distance_transform_edt(mask)[skeletonize(mask)]
        measured.append(2 * along.mean() / UPSCALED if len(along) else np.nan)
    return torch.tensor(measured, dtype=torch.float32)


def gradients(levels: Tensor) -> np.ndarray:
    """Histograms of oriented gradients ``[B, F]``."""
    from skimage.feature import hog

    cells, block = (CELL, CELL), (BLOCK, BLOCK)
    features = [hog(image, ORIENTATIONS, cells, block) for image in levels.numpy()]
    return np.array(features, dtype=np.float32)


class StrokeRuler:
    """Thickness, intensity and digit of images, by the images ``[N, 1, S, S]`` it is made of.

    Args:
        images: in [-1, 1], of known factors.
        known: values ``[N]`` in any unit, by name: those of ``thickness`` and ``intensity`` are
            fitted to what is measured by a straight line, those of ``digit``, if there, by a
            support vector machine.
    """

    def __init__(self, images: Tensor, known: dict[str, Tensor]) -> None:
        levels = grey_levels(images)
        self.size = levels.shape[-1]
        self.lines = {
            name: _line(measure(levels), known[name]) for name, measure in MEASURES.items()
        }
        self.values = known["digit"].unique() if "digit" in known else None
        self.classifier: SVC | None = None
        if self.values is not None and len(self.values) > 1:
            places = torch.searchsorted(self.values, known["digit"].contiguous())
            self.classifier = SVC(C=REGULARISATION).fit(gradients(levels), places.numpy())

    def read(self, images: Tensor) -> dict[str, Tensor]:
        """Values ``[B]`` by name; NaN where an image shows no stroke.

        ValueError for images of another size than the ruler was made of.
        """
        levels = grey_levels(images)
        if levels.shape[-1] != self.size:
            raise ValueError(f"This ruler reads {self.size} pixels, not {levels.shape[-1]}.")
        lines = self.lines.items()
        read = {name: a + b * MEASURES[name](levels) for name, (a, b) in lines}
        if self.values is not None:
            place = torch.zeros(len(levels), dtype=torch.long)
            if self.classifier is not None:
                place = torch.from_numpy(self.classifier.predict(gradients(levels)))
            shown = ~read["intensity"].isnan()
            read["digit"] = torch.where(shown, self.values[place], torch.nan)
        return read


MEASURES = {"thickness": thickness, "intensity": brightness}


def _line(measured: Tensor, value: Tensor) -> tuple[float, float]:
    """Intercept and slope of the least squares line from what is measured to the value.

    Where what is measured does not vary, the line is flat.
    """
    shown = ~measured.isnan()
    x, y = measured[shown].double(), value[shown].double()
    spread = (x - x.mean()).square().sum()
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / spread) if spread > 0 else 0.0
    return float(y.mean()) - slope * float(x.mean()), slope
