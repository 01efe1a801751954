"""``diffcf app WEIGHTS``: the what-if explorer in the browser, on this machine only by default."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from jsonargparse import ArgumentParser

from diffcf.api import Model, load
from diffcf.app.explorer import Explorer
from diffcf.app.gallery import Subject, from_data, from_folder, held_out
from diffcf.commands.arguments import Side, add_device, add_weights
from diffcf.io import DataError, SettingsError

HELD_OUT, OWN = 24, 200
"""Images offered, at most: of the data, and of the folder ``--images``."""


def app(args: Sequence[str]) -> None:
    """Command ``diffcf app``; ``--help`` lists the arguments."""
    parsed = _parser().parse_args(list(args))
    if find_spec("nicegui") is None:
        raise SettingsError("The explorer needs the extra 'app': run pip install 'diffcf[app]'.")
    _check_free(parsed.host, parsed.port)
    model = load(parsed.weights, parsed.device)
    subjects = _held_out(model, parsed.weights, parsed.data)
    size = subjects[0].image.shape[-1] if subjects else None
    transform = model.image_transform(parsed.size or size)
    if parsed.images is not None:
        subjects = [*from_folder(parsed.images, transform, OWN), *subjects]
    only_here = _is_loopback(parsed.host)
    if not only_here:
        reason = "without password or encryption: anyone there can use the explorer."
        print(f"diffcf: {parsed.host} is reachable from other machines, {reason}", file=sys.stderr)
    from diffcf.app.page import serve  # needs the extra

    explorer = Explorer(Path(parsed.weights).stem, model, subjects, transform, seed=parsed.seed)
    serve(explorer, parsed.host, parsed.port, only_here, parsed.show)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="diffcf app", description="Explore counterfactuals.")
    add_weights(parser)
    parser.add_argument("--data", type=Path, help="YAML of the dataset, if weights name none.")
    parser.add_argument("--images", type=Path, help="Folder of own images to pick from.")
    parser.add_argument("--size", type=Side, help="Side of uploads; as in training if left out.")
    parser.add_argument("--seed", type=int, default=0, help="Of the noise of discrete factors.")
    add_device(parser)
    parser.add_argument("--host", type=str, default="127.0.0.1", help="Address to listen on.")
    parser.add_argument("--port", type=int, default=8080, help="Port to listen on.")
    parser.add_argument("--show", type=bool, default=False, help="Open a browser.")
    return parser


def _held_out(model: Model, weights: str, config: Path | None) -> list[Subject]:
    """Held-out images; none, with a line on stderr, where the data are unknown or missing."""
    problem = f"{weights} does not say what it was trained on: name the data by --data."
    try:
        module = held_out(model, weights, HELD_OUT, config)
    except (DataError, FileNotFoundError) as error:
        if config is not None:
            raise
        module, problem = None, str(error)
    if module is not None:
        return from_data(module)
    print(f"diffcf: no held-out images: {problem}", file=sys.stderr)
    return []


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_free(host: str, port: int) -> None:
    """Raises SettingsError unless the port can be listened on."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"{host}:{port} cannot be listened on ({reason}): name another --port or --host."
        ) from None
