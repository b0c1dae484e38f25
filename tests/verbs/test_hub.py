"""A model goes to a hub and comes back: a local server speaks as much of the hub's protocol as the package uses."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import yaml

import vaelab
from vaelab import GaussianVAE
from vaelab.cli import main
from vaelab.errors import InputError, RunFolderError, VaelabError
from vaelab.specs import Compute
from vaelab.verbs.hub import card

pytest.importorskip("huggingface_hub")
X = np.random.default_rng(0).normal(size=(60, 2)) @ [[1.0, 2, 0], [0, 1, 3]]
COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """One repository in memory, whose files are all small; `refuses` is a status for every request."""

    files: dict[str, bytes] = {}  # noqa: RUF012
    refuses = 0

    def log_message(self, *_):
        pass

    @property
    def place(self):
        return f"http://127.0.0.1:{self.server.server_port}/me/vae"

    def answer(self, content=b"", status=200, **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.refuses:
            self.answer({"error": "no"}, self.refuses)
        elif self.path.endswith("/repos/create"):
            self.answer({"url": self.place})
        elif "/preupload/" in self.path:
            self.answer(
                {"files": [{**f, "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]]}
            )
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"success": True, "commitOid": COMMIT, "commitUrl": f"{self.place}/commit/{COMMIT}"})
        elif self.path.endswith("/validate-yaml"):
            self.answer({"errors": [], "warnings": []})
        else:
            self.answer({"error": self.path}, 404)

    def do_GET(self):
        file = re.fullmatch(r"/me/vae/resolve/[^/]+/(.+)", self.path)
        if self.refuses:
            self.answer({"error": "no"}, self.refuses)
        elif file and file[1] in self.files:
            content = self.files[file[1]]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            self.answer(content, ETag=etag, X_Repo_Commit=COMMIT)
        elif "/tree/" in self.path:
            self.answer(
                [
                    {"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                    for n, c in self.files.items()
                ]
            )
        elif self.path.startswith("/api/models/me/vae"):
            self.answer({"id": "me/vae", "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]})
        else:
            self.answer({"error": self.path}, 404)

    def do_HEAD(self):
        self.do_GET()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr(Hub, "files", {})
    monkeypatch.setattr(Hub, "refuses", 0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"endpoint": f"http://127.0.0.1:{server.server_port}", "token": "hf_a"}
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    np.savetxt(folder / "secret.csv", X, delimiter=",", header="a,b,c", comments="")
    flags = "--latent-dim 2 --network mlp([4]) --epochs 2 --densities gaussian --compute.accelerator cpu --quiet"
    assert main(["train", str(folder / "secret.csv"), *flags.split(), "--out", str(folder), "--name", "a"]) == 0
    return folder / "a"


def test_a_run_comes_back_and_says_nothing_of_the_machine(hub, run):
    assert vaelab.push_to_hub(run, "me/vae", **hub).endswith(COMMIT)
    assert {"config.yaml", "model.safetensors", "results.json", "README.md", "curves.png"} <= Hub.files.keys()
    assert not any("secret" in name or b"secret.csv" in content for name, content in Hub.files.items())
    again, there = vaelab.from_hub("me/vae", **hub), vaelab.load(run)
    np.testing.assert_array_equal(again.transform(X), there.transform(X))
    np.testing.assert_array_equal(again.sample(5, random_state=0), there.sample(5, random_state=0))
    found = json.loads((run / "results.json").read_text())
    text = Hub.files["README.md"].decode()
    head = yaml.safe_load(text.split("---")[1])
    assert head["library_name"] == "vaelab"
    assert f"| −ELBO, nats per row | {found['nelbo']:.4g} |" in text
    assert f"| active latent dimensions | {found['active_dimensions']:.4g} |" in text
    assert "(curves.png)" in text


@pytest.mark.filterwarnings("ignore::vaelab.errors.VaelabWarning")
def test_an_estimator_comes_back(hub):
    model = GaussianVAE(2, network="mlp([4])", epochs=2, compute=Compute(accelerator="cpu"), random_state=0).fit(X)
    vaelab.push_to_hub(model, "me/vae", **hub)
    np.testing.assert_array_equal(vaelab.from_hub("me/vae", **hub).transform(X), model.transform(X))


def test_a_gan_is_called_one_and_comes_back(hub, run):
    secret, folder = run.parent / "secret.csv", run.parent / "g"
    flags = f"--baseline dragan --epochs 1 --network mlp([4]) --compute.accelerator cpu --quiet --out {run.parent}"
    assert main(["train", str(secret), *flags.split(), "--name", "g"]) == 0
    text = card(folder, "me/gan")
    assert "variational" not in text
    assert "generative adversarial network of rows of 3" in text
    assert "`non_saturating`" in text
    distance = json.loads((folder / "results.json").read_text())["distance"]
    assert f"samples (tabular) | {distance:.4g} |" in text
    trained = vaelab.load(folder)
    vaelab.push_to_hub(trained, "me/vae", **hub)
    again = vaelab.from_hub("me/vae", **hub)
    np.testing.assert_array_equal(again.sample(3), trained.sample(3))
    assert "## On test rows" not in Hub.files["README.md"].decode()


def test_a_card_shows_a_diagnosis(run):
    class Said:
        def __str__(self):
            return "posterior collapse"

    assert "## Diagnosis\n\n```\nposterior collapse\n```" in card(run, "me/vae", Said())
    assert "## Diagnosis" not in card(run, "me/vae")


def test_what_was_changed_on_the_way_is_refused(hub, run):
    vaelab.push_to_hub(run, "me/vae", **hub)
    Hub.files["config.yaml"] = Hub.files["config.yaml"].replace(b"latent_dim: 2", b"latent_dim: 3")
    with pytest.raises(RunFolderError, match=r"config\.yaml, which was changed"):
        vaelab.from_hub("me/vae", **hub)


@pytest.mark.parametrize("status", [403, 404])
def test_a_hub_that_refuses_is_said_in_a_line(hub, run, status):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    Hub.refuses = status
    for call in (lambda: vaelab.push_to_hub(run, "me/vae", **hub), lambda: vaelab.from_hub("me/vae", **hub)):
        with pytest.raises(VaelabError, match="did not take part in me/vae") as refused:
            call()
        assert "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_wrong_names_and_models_are_refused(hub, run):
    with pytest.raises(VaelabError, match="me/a vae"):
        vaelab.push_to_hub(run, "me/a vae", **hub)
    with pytest.raises(InputError, match="type int"):
        vaelab.push_to_hub(3, "me/vae", **hub)
    with pytest.raises(RunFolderError):
        vaelab.push_to_hub(run.parent, "me/vae", **hub)
