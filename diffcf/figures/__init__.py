"""Pictures and curves, as matplotlib figures and PNG files."""

from diffcf.figures.cost import quality_cost
from diffcf.figures.curves import dose_response, error_histograms, strength_curve
from diffcf.figures.files import log_picture, save_figure, save_image, show
from diffcf.figures.pictures import counterfactual_grid, sequence_strips

__all__ = [
    "counterfactual_grid",
    "dose_response",
    "error_histograms",
    "log_picture",
    "quality_cost",
    "save_figure",
    "save_image",
    "sequence_strips",
    "show",
    "strength_curve",
]
