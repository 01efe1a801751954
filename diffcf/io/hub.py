"""Weights on the Hugging Face Hub, for whoever asks for them: nothing else here calls it.

A repository holds the weights in one file, ``diffcf.safetensors``, and their card as ``README.md``.
Needs ``pip install 'diffcf[hub]'``. Files are kept in the library's own cache (``HF_HOME``); with
``HF_HUB_OFFLINE=1`` they are taken from it alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from diffcf.io.errors import CheckpointError, UnavailableError

HUB = "hub:"
"""Stands before a repository's name, ``owner/name``, where a file's path could stand."""
# Not model.safetensors: other libraries' files are called so, and may be of many gigabytes.
WEIGHTS_FILE, CARD_FILE = "diffcf.safetensors", "README.md"


def download(repo_id: str) -> Path:
    """The weights file of the repository ``owner/name``, fetched unless it is in the cache.

    Raises:
        CheckpointError: when there is no such repository, or it holds no ``diffcf.safetensors``.
        UnavailableError: without the extra, a network, or permission.
    """
    hub = _library()
    with _one_sentence(hub, repo_id):
        return Path(hub.hf_hub_download(repo_id=repo_id, filename=WEIGHTS_FILE))


def upload(folder: Path, repo_id: str, private: bool | None = None) -> str:
    """Put a folder's weights and card into the repository ``owner/name``; its address.

    What the repository holds already stays in its history.

    Args:
        folder: of ``diffcf.safetensors`` and ``README.md``.
        repo_id: made where there is none.
        private: whether only its owner sees a repository that is made; None as the owner's account
            has it.

    Raises:
        CheckpointError: for a name that cannot be one.
        UnavailableError: without the extra, a network, or permission.
    """
    hub = _library()
    with _one_sentence(hub, repo_id):
        made = hub.create_repo(repo_id, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            allow_patterns=[WEIGHTS_FILE, CARD_FILE],
            commit_message="Upload weights by diffcf",
        )
    return str(made)


def _library() -> ModuleType:
    """huggingface_hub, imported when it is asked for."""
    try:
        import huggingface_hub
    except ImportError:
        raise UnavailableError(
            "Weights on the Hugging Face Hub need the library huggingface_hub: "
            "pip install 'diffcf[hub]'."
        ) from None
    return huggingface_hub


@contextmanager
def _one_sentence(hub: ModuleType, repo_id: str) -> Iterator[None]:
    """What the library raises within, as one sentence of ours."""
    errors = hub.errors
    # Bases of HfHubHTTPError: HTTPError, of which connections' errors are kinds too, and OSError.
    connection: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    try:
        yield
    except errors.HFValidationError:
        raise CheckpointError(
            f"'{repo_id}' cannot be a repository on the Hugging Face Hub: name it owner/name."
        ) from None
    except errors.GatedRepoError:
        raise UnavailableError(
            f"The repository {repo_id} asks for its owner's permission: request it on the Hugging "
            "Face Hub, and log in with `hf auth login`."
        ) from None
    except errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"There is no repository {repo_id} on the Hugging Face Hub: check the name, and for a "
            "private one log in with `hf auth login`."
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise _unreachable(repo_id) from None
    except errors.EntryNotFoundError:
        raise CheckpointError(
            f"The repository {repo_id} holds no {WEIGHTS_FILE}: name one that "
            "Model.push_to_hub made."
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise UnavailableError(
                f"The Hugging Face Hub does not let you do this with {repo_id}: log in with `hf "
                "auth login`, by a token that may."
            ) from None
        raise UnavailableError(
            f"The Hugging Face Hub answered about {repo_id} with status {status}: try again later."
        ) from None
    except connection:
        raise _unreachable(repo_id) from None


def _unreachable(repo_id: str) -> UnavailableError:
    return UnavailableError(
        f"The Hugging Face Hub cannot be reached for {repo_id}, and the cache does not have it: "
        "check the network, and that HF_HUB_OFFLINE is not set."
    )
