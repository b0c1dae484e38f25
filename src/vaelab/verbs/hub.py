"""`push_to_hub` and `from_hub`: runs on a hub of models, with a card that says what was found."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaelab import runs
from vaelab.errors import InputError, MissingExtraError, VaelabError
from vaelab.estimators import load
from vaelab.estimators.specified import Specified
from vaelab.runs import archive
from vaelab.runs import folder as files

if TYPE_CHECKING:
    from vaelab.diagnostics.diagnosis import Diagnosis
    from vaelab.estimators.detector import VAEDetector
    from vaelab.estimators.saved import Rowwise
    from vaelab.estimators.sequence import SequenceVAE
    from vaelab.runs import Trained

_LOADED = [files.CONFIG, files.MODEL, files.RESULTS]
_KEPT = ("estimator", "detector")  # sections of a config; that of the data may name folders of this machine


def push_to_hub(
    model: Specified | VAEDetector | Trained | Path | str,
    repo_id: str,
    *,
    diagnosis: Diagnosis | None = None,
    private: bool | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Put a model on a hub, with a card; return the address of the commit.

    Weights, settings, what a run has found and its pictures are sent, which may show rows of its data; where these came
    from on this machine is not.

    Parameters
    ----------
    model
        A fitted estimator, a training (as `load` returns of a GAN), or the folder of a finished run.
    repo_id
        ``"owner/name"``; made if it is not there.
    diagnosis
        What `vaelab.diagnose` said, for the card.
    private
        Whether a new repository is.
    token
        Of the account; the one that is logged in if None.
    endpoint
        Address of the hub; the package's own, or that of ``HF_ENDPOINT``, if None.

    Raises
    ------
    RunFolderError
        The run is not finished, or damaged.
    MissingExtraError
        The package of the extra ``hub`` is not installed.
    VaelabError
        The hub cannot be reached, or refuses; what is on this machine is as it was.
    """
    hub = _package()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        _written(model, folder)
        (folder / "README.md").write_text(card(folder, repo_id, diagnosis), encoding="utf-8")
        with _refused(hub, repo_id):
            api = hub.HfApi(endpoint=endpoint, token=token, library_name="vaelab")
            api.create_repo(repo_id, private=private, exist_ok=True)
            said = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="A model of vaelab")
    return str(said.commit_url)


def from_hub(
    repo_id: str,
    *,
    revision: str | None = None,
    network: object = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> Rowwise | SequenceVAE | VAEDetector | Trained:
    """Return the estimator that `push_to_hub` put on a hub, as `load` does; nothing that is loaded runs code.

    Parameters
    ----------
    repo_id
        ``"owner/name"``.
    revision
        Of the repository: a branch, a tag, or the hash of a commit, which cannot change; its newest state if None.
    network
        The function that makes the networks of a model with networks of your own.
    token, endpoint
        As for `push_to_hub`.

    Raises
    ------
    RunFolderError
        What is there is no model of vaelab, or damaged.
    MissingExtraError
        The package of the extra ``hub`` is not installed.
    VaelabError
        The hub cannot be reached, or refuses.
    """
    hub = _package()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        folder.mkdir()
        with _refused(hub, repo_id):
            hub.snapshot_download(
                repo_id, revision=revision, local_dir=folder, allow_patterns=_LOADED, token=token, endpoint=endpoint
            )
        return load(folder, network=network)


def card(folder: Path, name: str, diagnosis: Diagnosis | None = None) -> str:
    """Return the text of a model card: what the model is, what was found on test rows, and how to use it.

    Parameters
    ----------
    folder
        Of a finished run.
    name
        Of the repository.
    diagnosis
        Its verdicts, if they are to be shown.
    """
    content, found = files.read_config(folder), files.read_results(folder)
    facts, settings = content["facts"], content["settings"]
    shape = "×".join(str(size) for size in facts["event_shape"])
    adversary = settings.get("adversary")
    family = "generative adversarial network" if adversary else "variational autoencoder"
    how = f"likelihood `{_kind(settings['likelihood'])}`, samples from `{facts['best_density']}`"
    if adversary:
        loss = f" with the loss `{_kind(adversary['loss'])}`" if "loss" in adversary else ""
        how = f"against the adversary `{_kind(adversary)}`{loss}; it generates, and has no encoder"
    lines = [
        "---",
        "library_name: vaelab",
        f"tags: [vaelab, {family.replace(' ', '-')}, {'image' if facts['kind'] == 'image' else 'tabular'}-generation]",
        "---",
        "",
        f"# {name}",
        "",
        f"A {'' if adversary else 'Gaussian '}{family} of {'images' if facts['kind'] == 'image' else 'rows'} "
        f"of {shape}, trained on {facts['rows']:,} of them: {settings['latent_dim']} latent dimensions, {how}.",
        "",
        "```python",
        "import vaelab",
        "",
        f'model = vaelab.from_hub("{name}")',
        "model.sample(10)",
        "```",
    ]
    if found is not None:
        lines += ["", "## On test rows", "", "| what | value |", "|---|---|", *_rows(found)]
    if diagnosis is not None:
        lines += ["", "## Diagnosis", "", "```", str(diagnosis), "```"]
    lines += [f"\n![{path.stem}]({path.name})" for path in sorted(folder.glob("*.png"))]
    made = json.loads((folder / files.VERSIONS).read_text(encoding="utf-8"))
    return "\n".join([*lines, "", "Made with " + ", ".join(f"{key} {value}" for key, value in made.items()) + ".", ""])


def _kind(value: Mapping[str, Any] | str) -> str:
    """Return the name of a setting's value."""
    return value if isinstance(value, str) else str(value["kind"])


def _rows(found: Mapping[str, Any]) -> Iterator[str]:
    """Lay numbers of a run's results out as lines of a table."""
    titles = {
        "nelbo": "−ELBO, nats per row",
        "distortion": "of it distortion",
        "kl": "of it KL",
        "mse": "squared error per dimension",
        "gamma": "decoder variance γ",
        "active_dimensions": "active latent dimensions",
    }
    for name, title in titles.items():
        if found.get(name) is not None:
            yield f"| {title} | {found[name]:.4g} |"
    if "distance" in found:  # of a GAN
        title = f"Fréchet distance of {found['rows']:,} samples ({found['protocol']})"
        yield f"| {title} | {found['distance']:.4g} |"
    for law, value in found.get("code_log_density", {}).items():
        yield f"| nats per unseen code, {law} | {value:.4g} |"


def _written(model: object, folder: Path) -> None:
    """Write a model as a run folder that says nothing of this machine."""
    if isinstance(model, runs.Trained):
        if model.settings.network.takes == "sequences":
            raise InputError("a training on sequences", "its estimator, which reads them", "Pass the SequenceVAE.")
        runs.save_new(model, folder)
        return
    if not isinstance(model, str | Path):
        save = getattr(model, "save", None)
        if save is None:
            raise InputError(f"a model of type {type(model).__name__}", "a fitted estimator or a run's folder")
        save(folder)
        return
    trained, content = runs.read_run(Path(model)), runs.read_config(Path(model))
    files.read_results(Path(model))  # refuses what was damaged
    folder.mkdir()
    for path in archive.contents(Path(model)):
        if path.name not in (files.CONFIG, files.MODEL):
            shutil.copyfile(path, folder / path.name)
    runs.save(trained, folder, {name: content[name] for name in _KEPT if name in content})


def _package() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "hub", "A hub") from error
    return huggingface_hub


@contextmanager
def _refused(hub: Any, repo_id: str) -> Iterator[None]:
    """Say in a line what a hub says in a page."""
    try:
        yield
    except (hub.errors.HTTPError, OSError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        raise VaelabError(
            f"The hub did not take part in {repo_id}: {said}. Nothing on this machine changed."
        ) from error
