"""The card of an evaluator: what is measured of it, and how people read it."""

from __future__ import annotations

from diffcf.evaluation import (
    Card,
    EvaluationData,
    EvaluatorReader,
    agreement,
    binary_scores,
    measure_readings,
)
from diffcf.reporting import markdown

_STAGES = {"train": "train", "validation": "val", "test": "test"}


def measured_card(
    reader: EvaluatorReader, data: EvaluationData, balance: float, other: EvaluatorReader | None
) -> Card:
    """What is measured of an evaluator trained with ``balance``, and how far ``other`` agrees."""
    transform = getattr(data, "transform", None)
    return {
        "data": type(data).__name__,
        "image_shape": list(reader.image_shape),
        "transform": None if transform is None else transform.to_dict(),
        "images": {name: data.size_of(stage) for name, stage in _STAGES.items()},
        **measure_readings(reader, data),
        "binary": binary_scores(reader, data.test_dataloader(), balance),
        "agreement": None if other is None else agreement(reader, other, data.test_dataloader()),
    }


def card_markdown(card: Card) -> str:
    """The card as people read it: a table of errors, and where they come from."""
    counterfactual, images, training = card["counterfactual"], card["images"], card["training"]
    known = isinstance(counterfactual, dict)
    names = [key.removeprefix("error/") for key in card["test"] if key != "error"]
    rows = {f"{stage} ({images[stage]} images)": card[stage] for stage in ("validation", "test")}
    if known:
        rows |= {f"exact counterfactuals, do({name})": e for name, e in counterfactual.items()}
    keys = {name: f"error/{name}" for name in names} | {"mean": "error"}
    cells = [[n, *(f"{errors[key]:.4f}" for errors in rows.values())] for n, key in keys.items()]
    lines = [
        f"# Evaluator of {card['data']}, images of {' × '.join(map(str, card['image_shape']))}",
        "",
        "Mean absolute error in parts of each factor's range; of discrete factors the share of",
        "images that are misread.",
        "",
        markdown(["factor", *rows], cells).rstrip(),
    ]
    if binary := card.get("binary"):
        titles = ["positive", "auroc", "f1", "balanced_error", "calibration"]
        cells = [[name, *(f"{found[t]:.4f}" for t in titles)] for name, found in binary.items()]
        lines += [
            "",
            "Binary factors on the test images: the share that has it, area under the ROC curve,",
            "F1, mean of the shares misread of either value, expected calibration error.",
            "",
            markdown(["factor", *(t.replace("_", " ") for t in titles)], cells).rstrip(),
        ]
    if alike := card.get("agreement"):
        read = ", ".join(f"{name} {share:.3f}" for name, share in alike.items())
        lines += ["", f"Another evaluator reads the test images alike in: {read}."]
    if not known:
        lines += ["", f"The error on counterfactual images is {counterfactual}."]
    lines += [
        "",
        f"{card['parameters']:,} parameters; {training['steps']} steps in "
        f"{training['seconds']:.0f} s on {training['device']}, seed {training['seed']};",
        f"the weights are those of step {training['selected_step']}, the best on validation.",
        f"Trained on the {images['train']:,} images of the training split and no other.",
        ", ".join(f"{name} {version}" for name, version in card["versions"].items()) + ".",
    ]
    return "\n".join(lines) + "\n"
