"""Weights found by name, and shared on a Hub that is a folder."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import errors
from stirring import stir

import diffcf
from diffcf.commands.main import main
from diffcf.io import CheckpointError, DiffcfError, SettingsError, UnavailableError
from diffcf.methods import WEIGHTS, DiffusionCounterfactuals, Sampling, write_weights


class FolderHub:
    """What diffcf calls of huggingface_hub, on repositories that are folders of ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create_repo(self, repo_id: str, *, private: bool | None = None, exist_ok: bool = False):
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, allow_patterns: list[str], commit_message: str
    ) -> None:
        for name in allow_patterns:
            shutil.copy(folder_path / name, self.root / repo_id)

    def hf_hub_download(self, repo_id: str, filename: str) -> str:
        if not (self.root / repo_id).is_dir():
            raise refused(errors.RepositoryNotFoundError, 404)
        if not (self.root / repo_id / filename).is_file():
            raise refused(errors.RemoteEntryNotFoundError, 404)
        return str(self.root / repo_id / filename)


class Answered:
    """An HTTP answer, of which a status is looked at."""

    def __init__(self, status: int) -> None:
        self.status_code, self.headers, self.request = status, {}, None


def refused(kind: type[errors.HfHubHTTPError], status: int) -> Exception:
    return kind("refused", response=Answered(status))  # type: ignore[arg-type]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch) -> Path:
    root = tmp_path / "hub"
    fake = FolderHub(root)
    for name in ("create_repo", "upload_folder", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, getattr(fake, name))
    return root


@pytest.fixture
def trained(model: DiffusionCounterfactuals, tmp_path: Path) -> diffcf.Model:
    stir(model)
    model.image_shape = (3, 32, 32)
    model.data_spec = {"class_path": "data_modules.CelebADataModule",
                       "init_args": {"root": "/home/somebody/faces"}}  # fmt: skip
    path = tmp_path / "own.safetensors"
    write_weights(model, Sampling(steps=2, anchored=True), path, torch.float32)
    return diffcf.load(path)


def test_what_is_pushed_answers_alike_elsewhere(
    trained: diffcf.Model, hub: Path, small_batch: dict
) -> None:
    address = trained.push_to_hub("owner/name")
    assert address == "https://huggingface.co/owner/name"
    back = diffcf.load("hub:owner/name")
    asked = {"do": {"light": 0.8}, "factors": small_batch["factors"][:2]}
    image = small_batch["image"][:2]
    ours, theirs = (m.counterfactual(image, **asked).image for m in (trained, back))
    assert torch.equal(ours, theirs)
    assert back.sampling == trained.sampling and back.module.image_shape == (3, 32, 32)


def test_a_pushed_repository_is_weights_and_a_card_the_hub_reads(
    trained: diffcf.Model, hub: Path
) -> None:
    trained.push_to_hub("owner/name", license="cc-by-4.0")
    files = {path.name: path for path in (hub / "owner/name").iterdir()}
    assert set(files) == {"diffcf.safetensors", "README.md"}
    text = files["README.md"].read_text()
    _, head, body = text.split("---\n", 2)
    about = yaml.safe_load(head)
    assert about["license"] == "cc-by-4.0" and about["library_name"] == "diffcf" and about["tags"]
    assert "diffcf.load('hub:owner/name')" in body and "Not tested" in body
    assert b"somebody" not in files["diffcf.safetensors"].read_bytes()
    assert huggingface_hub.ModelCard(text).data.to_dict() == about, "as the library reads it"


def test_a_card_has_the_metrics_of_its_own_test_alone(trained: diffcf.Model, hub: Path) -> None:
    metrics = WEIGHTS / "pendulum.json"
    with pytest.raises(CheckpointError, match="another training"):
        trained.push_to_hub("owner/name", metrics)
    assert not hub.exists(), "nothing was sent"
    diffcf.load("pendulum").push_to_hub("owner/name", metrics)
    assert "ACM roots" in (hub / "owner/name/README.md").read_text()


def test_commands_take_weights_off_the_hub(trained: diffcf.Model, hub: Path, capsys) -> None:
    trained.push_to_hub("owner/name")
    assert main(["graph", "hub:owner/name"]) == 0
    assert main(["graph", "hub:owner/none"]) == 2
    assert "no repository owner/none" in capsys.readouterr().err


OFFLINE = errors.HfHubHTTPError.__bases__[0]  # what the library's connections raise


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (refused(errors.RepositoryNotFoundError, 404), CheckpointError, "no repository owner/name"),
        (refused(errors.RemoteEntryNotFoundError, 404), CheckpointError, "no diffcf.safetensors"),
        (refused(errors.GatedRepoError, 403), UnavailableError, "owner's permission"),
        (refused(errors.HfHubHTTPError, 403), UnavailableError, "does not let you"),
        (refused(errors.HfHubHTTPError, 503), UnavailableError, "status 503"),
        (errors.LocalEntryNotFoundError("nothing"), UnavailableError, "cannot be reached"),
        (errors.OfflineModeIsEnabled("off"), UnavailableError, "cannot be reached"),
        (OFFLINE("no route"), UnavailableError, "cannot be reached"),
    ],
)
def test_what_goes_wrong_with_the_hub_is_one_sentence(
    error: Exception, kind: type[DiffcfError], said: str, trained: diffcf.Model, hub, monkeypatch
) -> None:
    def fail(*args, **kwargs):
        raise error

    for name in ("create_repo", "upload_folder", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, fail)
    for asked in (lambda: diffcf.load("hub:owner/name"), lambda: trained.push_to_hub("owner/name")):
        with pytest.raises(kind, match=said) as raised:
            asked()
        assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["", "a/b/c", "a b/c", "-a/b"])
def test_a_name_that_can_be_none_is_refused_without_a_network(name: str) -> None:
    with pytest.raises(CheckpointError, match="owner/name"):
        diffcf.load(f"hub:{name}")


def test_without_the_extra_one_sentence_says_what_to_install(
    trained: diffcf.Model, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for asked in (lambda: diffcf.load("hub:owner/name"), lambda: trained.push_to_hub("owner/name")):
        with pytest.raises(UnavailableError, match=r"pip install 'diffcf\[hub\]'"):
            asked()


def test_the_calls_are_those_of_the_library() -> None:
    """The folder's parameters are the library's, by name and kind."""
    from inspect import signature

    for name in ("create_repo", "upload_folder", "hf_hub_download"):
        real = signature(getattr(huggingface_hub, name)).parameters
        for parameter in list(signature(getattr(FolderHub, name)).parameters.values())[1:]:
            assert real[parameter.name].kind == parameter.kind, f"{name}({parameter.name})"


# --- names ---


def test_a_folder_of_ones_own_is_looked_in_first(trained, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    shutil.copy(tmp_path / "own.safetensors", folder / "flow.safetensors")
    shutil.copy(tmp_path / "own.safetensors", folder / "mine.safetensors")
    monkeypatch.setenv("DIFFCF_WEIGHTS", str(folder))
    assert diffcf.shipped() == ["faces", "flow", "mine", "pendulum"]
    for name in ("flow", "mine"):
        assert diffcf.load(name).graph.names == trained.graph.names
    monkeypatch.setenv("DIFFCF_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="no folder"):
        diffcf.load("flow")
