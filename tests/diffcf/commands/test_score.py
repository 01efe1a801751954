"""``diffcf score``: what a program answers in files scores as it would as a method of ours."""

from __future__ import annotations

import csv
import json
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from small_runs import undrawn

from data_modules.scenes import PendulumScene
from diffcf.causal import CausalGraph
from diffcf.commands.faces import write_faces
from diffcf.commands.main import main
from diffcf.evaluation import EvaluatorReader
from diffcf.networks.factory import build_network, network_spec
from diffcf.networks.projector import LocalPosteriorProjector
from diffcf.reporting import find_results, read_record

SMILE = Path(__file__).parents[3] / "experiments/graphs/celeba_smile.yaml"
SIZE, IMAGES = 32, 8


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def copied(task: Path, answers: Path, some: Callable[[dict[str, str]], bool]) -> Path:
    """Answers that are copies of the factuals, to some of the questions."""
    answers.mkdir()
    for row in filter(some, rows_of(task / "task.csv")):
        shutil.copy(task / row["image"], answers / row["answer"])
    return answers


def scored(task: Path, answers: Path, *options: str, drawn: bool = False) -> dict[str, Any]:
    out = answers.with_name(f"{answers.name}_scores")
    with nullcontext() if drawn else undrawn():
        assert main(["score", str(task), str(answers), "--out", str(out), *options]) == 0
    assert (out / "report.md").read_text().startswith("# Counterfactuals, measured")
    return read_record(out / "metrics.json")


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("score") / "task"
    small = ["--images", str(IMAGES), "--size", str(SIZE)]
    assert main(["score", "--make", "pendulum", *small, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def nothing(task: Path) -> dict[str, Any]:
    """The scores of copies of the factuals."""
    return scored(task, copied(task, task.with_name("nothing"), lambda _: True))


def exact_answers(task: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The exact pictures, from the files of the task alone; the factual where nothing is set."""
    scene, graph = PendulumScene(), CausalGraph.from_yaml(task / "graph.yaml")
    observed = {row["image"]: row for row in rows_of(task / "factors.csv")}
    for row in rows_of(task / "task.csv"):
        if not row["factor"]:
            yield row["answer"], np.asarray(Image.open(task / row["image"]))
            continue
        native = torch.tensor([[float(observed[row["image"]][name]) for name in graph.names]])
        mask = torch.tensor([[name == row["factor"] for name in graph.names]])
        values = graph.to_scaled(torch.full_like(native, float(row["value"])))
        target = scene.counterfactual(graph.to_scaled(native), values, mask)
        image = ((scene.render(target, SIZE)[0] + 1) * 127.5).round().byte()
        yield row["answer"], image.permute(1, 2, 0).numpy()


def test_a_task_is_what_its_files_say(task: Path) -> None:
    rows, record = rows_of(task / "task.csv"), json.loads((task / "task.json").read_text())
    assert [row["image"] for row in rows] == sorted(row["image"] for row in rows)
    assert {row["image"] for row in rows} == {row["image"] for row in rows_of(task / "factors.csv")}
    assert len({row["answer"] for row in rows}) == len(rows)
    assert sum(not row["factor"] for row in rows) == IMAGES, "one null question an image"
    for row in rows:
        assert Image.open(task / row["image"]).size == (SIZE, SIZE)
    asked = sum(record["questions"].values())
    assert asked == len(rows) == IMAGES * 5 - sum(record["left_out"].values())
    assert "task.csv" in (task / "README.md").read_text()


def test_exact_answers_score_what_the_ruler_errs(task: Path, capsys) -> None:
    answers = task.with_name("exact")
    answers.mkdir()
    for name, pixels in exact_answers(task):
        Image.fromarray(pixels).save(answers / name)
    record = scored(task, answers, "--name", "right", "--training_seed", "3")
    metrics = record["metrics"]
    for name, value in metrics.items():
        if name.startswith("exact/"):
            assert metrics[name.removeprefix("exact/")] == pytest.approx(value, abs=2e-4), name
    assert metrics["psnr"] == 100 and metrics["acm"] < 0.01 < metrics["do_nothing/acm"]
    assert metrics["composition/1"] == 0 and record["intervals"]["acm"][0] <= metrics["acm"]
    assert "seconds_per_counterfactual" not in metrics, "nobody knows how long it took"
    by_image = (answers.with_name("exact_scores") / "images.csv").read_text().splitlines()
    assert len(by_image) == IMAGES + 1 and "acm/roots" in by_image[0]
    capsys.readouterr()
    assert main(["table", str(answers.with_name("exact_scores") / "metrics.json")]) == 0
    table = capsys.readouterr().out
    assert "**right**" in table and "*do nothing*" in table and "training" not in table


def test_copies_of_the_factuals_score_as_doing_nothing_does(nothing: dict[str, Any]) -> None:
    metrics = nothing["metrics"]
    whose = "do_nothing/"
    beside = {k.removeprefix(whose): v for k, v in metrics.items() if k.startswith(whose)}
    assert beside == {name: metrics[name] for name in beside}, "to the last bit"
    assert nothing["images"] == IMAGES and "acm/light" in metrics


def test_a_part_of_the_answers_is_scored_as_such(task: Path, nothing: dict, capsys) -> None:
    half = {f"factuals/{row:06d}.png" for row in range(IMAGES // 2)}
    some = copied(
        task,
        task.with_name("half"),
        lambda row: row["image"] in half and row["factor"] not in ("", "light"),
    )
    record, out = scored(task, some, drawn=True), capsys.readouterr().out.replace("\n", " ")
    assert f"4 of {IMAGES} of do(angle), 0 of {IMAGES} of do(light)" in out
    assert record["images"] == 4 and record["answers"]["angle"] == {"given": 4, "asked": IMAGES}
    metrics = record["metrics"]
    assert "acm/light" not in metrics and "psnr/light" not in metrics
    assert not [name for name in metrics if "composition" in name or "null" in name]
    for name in ("acm", "psnr/angle", "change"):
        assert metrics[name] == metrics[f"do_nothing/{name}"], "references answer the same"
    assert metrics["acm/angle"] != nothing["metrics"]["acm/angle"]


def test_scores_stand_beside_results_that_ask_more(task: Path, nothing: dict, tmp_path) -> None:
    def placed(method: str, **protocol: object) -> None:
        block = {**nothing["benchmark"], "method": method}
        changed = nothing | {"benchmark": block, "protocol": nothing["protocol"] | protocol}
        path = tmp_path / "pendulum" / method / "0.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(changed))

    assert nothing["benchmark"] == {"dataset": "pendulum", "method": "nothing", "seed": 0}
    placed("nothing")
    placed("ours", steps=5, cycles=10, cycle_images=8, reverse_images=16)
    assert [method.name for method in find_results(tmp_path)["pendulum"]] == ["ours", "nothing"]
    placed("zz_peer", steps=4, cycles=10, cycle_images=8, reverse_images=16)
    with pytest.raises(ValueError, match="differ in steps"):
        find_results(tmp_path)
    shutil.rmtree(tmp_path / "pendulum/zz_peer")
    placed("other", seed=1)
    with pytest.raises(ValueError, match="differ in seed"):
        find_results(tmp_path)


# --- what cannot be scored ---


def _saved(mode: str, size: int = SIZE) -> Callable[[Path], None]:
    return lambda path: Image.new(mode, (size, size)).save(path, "PNG")


def _deep(path: Path) -> None:
    """A colour PNG of 16 bits a channel, which Pillow reads as one of 8 and cannot write."""
    header = struct.pack(">IIBBBBB", SIZE, SIZE, 16, 2, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + SIZE * 6) * SIZE))
    parts = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.mark.parametrize(
    "save, said",
    [
        (_saved("RGB", 64), "64 × 64 pixels where the task has 32 × 32"),
        (_saved("RGBA"), "alpha channel"),
        (_saved("LA"), "alpha channel"),
        (_saved("I;16"), "16 bits"),
        (_deep, "16 bits"),
        (lambda path: Image.new("RGB", (SIZE, SIZE)).save(path, "JPEG"), "PNG"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.mkdir(), "is no file"),
    ],
)
def test_a_picture_that_is_no_answer_is_one_sentence(
    save: Callable[[Path], None], said: str, task: Path, tmp_path: Path, capsys
) -> None:
    answers = copied(task, tmp_path / "answers", lambda row: row["factor"] == "angle")
    save(answers / "000000_light.png")
    refused(task, answers, tmp_path, capsys, "000000_light.png", said)


def refused(task: Path, answers: Path, tmp_path: Path, capsys, *said: str) -> None:
    capsys.readouterr()
    out = tmp_path / "result"
    assert main(["score", str(task), str(answers), "--out", str(out)]) == 2
    sentence = capsys.readouterr().err
    assert len(sentence.splitlines()) == 1 and all(text in sentence for text in said), sentence
    assert not out.exists()


def test_names_that_do_not_match_and_no_answers_at_all(task: Path, tmp_path: Path, capsys) -> None:
    refused(task, tmp_path / "none", tmp_path, capsys, "does not exist")
    empty = tmp_path / "answers"
    empty.mkdir()
    refused(task, empty, tmp_path, capsys, "none of the", "task.csv")
    shutil.copy(task / "factuals/000000.png", empty / "000000_sun.png")
    refused(task, empty, tmp_path, capsys, "000000_sun.png", "no question asks for")


@pytest.mark.parametrize("name", ["task.csv", "factors.csv", "factuals/000003.png", "task.json"])
def test_a_task_that_was_edited_is_one_sentence(name: str, task: Path, tmp_path, capsys) -> None:
    edited = tmp_path / "task"
    shutil.copytree(task, edited)
    content = (edited / name).read_bytes()
    changed = content.replace(b'"seed": 0', b'"seed": 1') if name == "task.json" else content[:-3]
    assert changed != content
    (edited / name).write_bytes(changed)
    refused(edited, task / "factuals", tmp_path, capsys, "no longer as it was made", name)


def test_a_folder_without_a_task_is_one_sentence(task: Path, tmp_path: Path, capsys) -> None:
    refused(tmp_path, task / "factuals", tmp_path, capsys, "task.json", "diffcf score --make")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--make", "moon"], "There is no dataset 'moon'"),
        (["--make", "pendulum", "--size", "33"], "image_size 33 is not drawn"),
        (["--make", "pendulum", "task"], "leave others out"),
        (["--make", "pendulum", "--fid", "8"], "--fid is for scoring"),
        (["task", "answers", "--images", "8"], "--images is for making"),
        (["task"], "name both"),
        (["task", "answers", "--name", "../ours"], "--name"),
    ],
)
def test_arguments_that_do_not_fit(arguments: list[str], said: str, tmp_path, capsys) -> None:
    assert main(["score", *arguments, "--out", str(tmp_path / "out")]) == 2
    sentence = capsys.readouterr().err
    assert said in sentence and len(sentence.splitlines()) == 1
    assert not (tmp_path / "out").exists()


# --- data whose truth nobody knows ---


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """A folder with drawn faces, and their data module without the scene."""
    folder = tmp_path_factory.mktemp("faces")
    write_faces(folder / "data/faces", 20)
    graph = yaml.safe_load(SMILE.read_text())
    arguments = {"root": str(folder / "data/faces"), "graph": graph, "crop": 148, "batch_size": 4}
    spec = {"class_path": "data_modules.CelebADataModule", "init_args": arguments}
    (folder / "bare.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return folder


def test_random_effects_are_right_either_way_and_their_rate_is_measured(
    faces: Path, monkeypatch
) -> None:
    monkeypatch.chdir(faces)
    task = faces / "task"
    assert main(["score", "--make", "faces", "--out", str(task)]) == 0
    record = scored(task, copied(task, faces / "answers", lambda _: True))
    metrics = record["metrics"]
    assert record["target"] == "answers" and "exact/acm" not in metrics
    assert {"rate_error", "psnr", "kept"} <= metrics.keys()
    # No effect moved, which may be; the causes did not, which may not.
    assert metrics["acm/Smiling/Narrow_Eyes"] < 0.05 and metrics["acm/Smiling/Smiling"] > 0.9
    assert metrics["acm"] == metrics["do_nothing/acm"]


def test_without_a_scene_an_evaluator_reads(faces: Path, capsys) -> None:
    task = faces / "bare"
    assert main(["score", "--make", str(faces / "bare.yaml"), "--out", str(task)]) == 0
    answers = copied(task, faces / "bare_answers", lambda row: bool(row["factor"]))
    refused(task, answers, faces, capsys, "--evaluator")
    graph = CausalGraph.from_yaml(SMILE)
    spec = network_spec(partial(LocalPosteriorProjector, channels=8))
    network = build_network(spec, graph)
    reader = EvaluatorReader(graph, spec, network.state_dict(), (3, 64, 64))
    reader.save(faces / "reader.safetensors")
    record = scored(task, answers, "--evaluator", str(faces / "reader.safetensors"))
    assert record["readers"] == ["evaluator"] and "psnr" not in record["metrics"]
    assert record["metrics"]["acm"] == record["metrics"]["do_nothing/acm"]
