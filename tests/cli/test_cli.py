"""The command line, as a user meets it."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vaelab
from vaelab import VAEDetector, runs
from vaelab.cli import VERBS, main
from vaelab.cli.flags import in_flags
from vaelab.metrics.conformal import conformal_p_values
from vaelab.specs import Settings

FAST = "--latent-dim 2 --network mlp --network.hidden 8 --epochs 2 --compute.accelerator cpu"
FAST += " --densities gaussian mixture(1,diag) second_stage([8],training(epochs=2))"


def run(*arguments) -> int:
    return main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    assert run("train", "digits", *FAST.split(), "--out", folder, "--quiet") == 0
    return folder / "digits"


HEAVY = {"torch", "pandas", "pyarrow", "sklearn", "matplotlib"}


def test_help_imports_nothing_heavy():
    code = f"import sys; from vaelab.cli import main; main(['--help'])\nassert not {HEAVY} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    code = (
        "import sys; from vaelab.cli import main\n"
        "try: main(['train', '--help'])\n"
        f"except SystemExit: assert not {HEAVY} & set(sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as done:
        run(verb, "--help")
    assert done.value.code == 0
    assert verb in capsys.readouterr().out


def test_train_reports_in_words_and_says_what_to_do_next(tmp_path, capsys):
    assert run("train", "digits", *FAST.split(), "--out", tmp_path) == 0
    out = capsys.readouterr().out
    for words in ("64 pixels", "latent dimensions", "nats", "second_stage", "vaelab sample", "samples.png"):
        assert words in out
    assert run("train", "digits", *FAST.split(), "--out", tmp_path, "--quiet") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "digits-2")


def test_sample_reconstruct_encode(digits, tmp_path, capsys):
    assert run("sample", digits, "-n", 5, "-o", tmp_path / "s.npy", "--density", "second_stage") == 0
    samples = np.load(tmp_path / "s.npy")
    assert (samples.shape, samples.dtype) == ((5, 1, 8, 8), np.uint8)
    assert run("sample", digits, "-n", 5, "-o", tmp_path / "s.png") == 0
    assert Image.open(tmp_path / "s.png").size[0] > 100
    assert run("sample", digits, "-n", 3, "-o", tmp_path / "many") == 0
    assert len(list((tmp_path / "many").glob("*.png"))) == 3
    assert run("reconstruct", digits, "-o", tmp_path / "r.npy") == 0
    assert np.load(tmp_path / "r.npy").shape == (359, 1, 8, 8)
    assert run("reconstruct", digits, "-n", 9, "-o", tmp_path / "r.png") == 0
    assert run("encode", digits, "digits", "-o", tmp_path / "z.csv") == 0
    with (tmp_path / "z.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["z0", "z1"]
    assert len(rows) == 1798
    capsys.readouterr()
    assert run("info", digits) == 0
    out = capsys.readouterr().out
    assert "latent_dim=2" in out
    assert "second_stage" in out
    assert run("info", "--presets") == 0
    assert "dai-wipf/mnist" in capsys.readouterr().out
    assert run("datasets") == 0
    assert "digits" in capsys.readouterr().out


def test_a_table_comes_back_with_its_names_and_units(tmp_path):
    rng = np.random.default_rng(0)
    values = np.stack([100 + rng.normal(size=300), 1e-3 * rng.normal(size=300), np.arange(300) % 7], 1)
    path = tmp_path / "people.csv"
    np.savetxt(path, values, delimiter=",", header="weight,charge,day", comments="")
    assert run("train", path, *FAST.split(), "--out", tmp_path / "runs", "--quiet") == 0
    assert run("sample", tmp_path / "runs" / "people", "-n", 40, "-o", tmp_path / "new.csv") == 0
    drawn = np.genfromtxt(tmp_path / "new.csv", delimiter=",", names=True)
    assert drawn.dtype.names == ("weight", "charge", "day")
    assert 97 < drawn["weight"].mean() < 103
    assert abs(drawn["charge"]).max() < 0.01


def test_a_folder_of_pictures_trains(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(30):
        image = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    flags = FAST.replace("--network mlp --network.hidden 8", "--network infogan")
    assert run("train", tmp_path, *flags.split(), "--out", tmp_path / "runs", "--name", "a", "--quiet") == 0
    assert (tmp_path / "runs" / "a" / "samples.png").exists()


def test_settings_come_from_preset_then_file_then_flags(tmp_path, digits, capsys):
    from vaelab.cli.train import _defaults

    (tmp_path / "c.yaml").write_text("latent_dim: 7\ntraining: {lr: 3e-4}\ngrey: true\n")
    merged, data = _defaults("resnet", str(tmp_path / "c.yaml"))
    assert (merged.network.kind, merged.latent_dim, merged.training.lr, data) == ("resnet", 7, 3e-4, {"grey": True})
    again, data = _defaults(None, str(digits / "config.yaml"))
    assert (again.latent_dim, data["data"], again.densities[-1].hidden) == (2, "digits", (8,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean 'train'"),
        (["train"], "Try `vaelab train digits`"),
        (["train", "nowhere.npy"], "nowhere.npy"),
        (["train", "digits", "--preset", "dai-wipf/minst"], "Did you mean"),
        (["train", "digits", "--config", "missing.yaml"], "readable YAML"),
        (["train", "digits", "--network", "resnet(hidden=3)"], "no setting is called 'hidden'"),
        (["train", "--resume", "nowhere"], "no such folder"),
        (["train", "--resume", "x", "--lr", "1"], "A run keeps its settings"),
        (["sample", "nowhere"], "no such folder"),
        (["info"], "the folder of a run"),
    ],
)
def test_wrong_input_ends_with_a_message_and_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_wrong_files_for_verbs(digits, tmp_path, capsys):
    np.save(tmp_path / "wide.npy", np.random.default_rng(0).normal(size=(20, 3)))
    for arguments, message in (
        (["encode", digits, tmp_path / "wide.npy"], "(1, 8, 8)"),
        (["sample", digits, "-o", tmp_path / "s.csv"], ".png or .npy"),
        (["sample", digits, "-n", 0], "at least 1"),
        (["sample", digits, "--density", "flow"], "one of auto"),
        (["encode", digits, "-o", tmp_path / "z.txt"], ".npy or .csv"),
    ):
        assert run(*arguments) == 2
        assert message in capsys.readouterr().err


def test_resume_of_a_finished_run_changes_nothing(digits, capsys):
    before = (digits / "model.safetensors").read_bytes()
    assert run("train", "--resume", digits, "--quiet") == 0
    assert (digits / "model.safetensors").read_bytes() == before


def test_evaluate_a_run(digits, capsys):
    how = ["--draws", 2, "--likelihood-draws", 3, "--likelihood-rows", 20]
    assert run("evaluate", digits, *how) == 0
    out = capsys.readouterr().out
    for words in ("Fréchet ↓", "floor: 359 real rows", "classifier-10k v1", "log p(x) ≥", "SSIM"):
        assert words in out
    assert (digits / "evaluation.txt").read_text() == out
    found = json.loads((digits / "evaluation.json").read_text())
    assert {entry["protocol"] for entry in found["readings"]} == {"classifier-10k"}
    assert (digits / "interpolations.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_several_runs_in_one_table(digits, tmp_path, capsys):
    how = ["--metrics", "frechet", "--draws", 2, "--densities", "prior", "-o", tmp_path / "both"]
    other = shutil.copytree(digits, tmp_path / "copy")
    assert run("evaluate", digits, other, *how) == 0
    out = capsys.readouterr().out
    assert f"{digits}: prior" in out
    assert f"{other}: prior" in out
    assert len(json.loads((tmp_path / "both" / "evaluation.json").read_text())["readings"]) == 2


def test_evaluate_two_folders_of_images_without_a_model(tmp_path, capsys):
    generator = np.random.default_rng(0)
    for folder, top in (("a", 256), ("b", 128)):
        (tmp_path / folder).mkdir()
        for i in range(30):
            pixels = generator.integers(0, top, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    arguments = ["--real", tmp_path / "a", "--fake", tmp_path / "b", "--metrics", "frechet", "energy"]
    assert run("evaluate", *arguments) == 0
    out = capsys.readouterr().out
    assert "pca-10k v1" in out
    assert "22 against 22 rows" in out  # the rest made the features


def test_evaluate_two_tables_whose_columns_are_in_another_order(tmp_path, capsys):
    generator = np.random.default_rng(0)
    for name, order in (("a", "xyz"), ("b", "zxy")):
        rows = generator.normal([0, 5, 10], size=(60, 3))
        with (tmp_path / f"{name}.csv").open("w") as file:
            writer = csv.writer(file)
            writer.writerow(order)
            writer.writerows(rows[:, ["xyz".index(column) for column in order]])
    files = ["--real", tmp_path / "a.csv", "--fake", tmp_path / "b.csv"]
    assert run("evaluate", *files, "--metrics", "energy", "-o", tmp_path / "out") == 0
    (entry,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["readings"]
    assert abs(entry["value"]) < 0.2
    assert "tabular v2" in capsys.readouterr().out


def test_evaluate_lists_its_protocols(capsys):
    assert run("evaluate", "--list-protocols") == 0
    out = capsys.readouterr().out
    for name in ("ttur-10k", "pytorch-fid-10k", "lucic-2018", "dai-wipf-program", "takida-2022", "tabular"):
        assert name in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "runs, or both --real and --fake"),
        (["--real", "digits"], "runs, or both"),
        (["--real", "digits", "--fake", "nowhere"], "nowhere"),
        (["run", "--protocol", "ttur"], "ttur-10k"),
    ],
)
def test_evaluate_refuses_what_it_cannot_use(arguments, words, capsys):
    assert run("evaluate", *arguments) == 2
    assert words in capsys.readouterr().err


def test_data_may_stand_behind_a_flag_and_lists_take_what_follows():
    from vaelab.cli.flags import settings_of

    words = "--epochs 3 digits --network mlp --network.hidden 8 9 --densities gaussian mixture_10 --lr 0.1 --quiet"
    settings, rest = settings_of(words.split(), Settings())
    assert rest == ["digits", "--quiet"]
    assert (settings.training.epochs, settings.network.hidden, settings.training.lr) == (3, (8, 9), 0.1)
    assert [law.name for law in settings.densities] == ["gaussian", "mixture_10"]


def table(path, n, seed, *, odd=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)) @ [[1.0, 2.0, 3.0], [4.0, -1.0, 0.0]] + 0.3 * rng.normal(size=(n, 3))
    x[:odd, 1] += 30
    np.savetxt(path, x, delimiter=",", header="a,b,c", comments="")
    return x


def test_score_calibrates_on_test_rows_on_given_rows_or_on_those_set_aside(tmp_path, capsys):
    table(tmp_path / "t.csv", 400, 0)
    rows, out = tmp_path / "new.csv", tmp_path / "s.csv"
    table(rows, 200, 1, odd=20)
    usual = table(tmp_path / "usual.csv", 99, 2)
    assert run("train", tmp_path / "t.csv", *FAST.split(), "--out", tmp_path, "--test-fraction", 0.5, "--quiet") == 0
    own = ["score", tmp_path / "t", rows, "-o", out]

    def scored(*options):
        assert run(*own, *options) == 0
        with out.open() as file:
            head, *lines = csv.reader(file)
        assert head == ["score", "p_value", "alarm"]
        return np.array(lines, dtype=float)

    score, p, alarm = scored("--false-alarms", 0.01).T
    model = vaelab.load(tmp_path / "t")
    X = np.loadtxt(rows, delimiter=",", skiprows=1)
    np.testing.assert_allclose(score, model.score_samples(X), rtol=1e-6)
    test = model.trained_.conditioned(runs.data_of(runs.source_of(tmp_path / "t")[1])).test.x
    np.testing.assert_allclose(p, conformal_p_values(score, model.score_samples(test)), atol=1e-9)
    assert alarm[:20].all()
    assert alarm[20:].mean() < 0.06
    _, p, alarm = scored("--calibrate", tmp_path / "usual.csv", "--rule", "benjamini_hochberg").T
    detector = VAEDetector(model, rule="benjamini_hochberg").calibrate(usual)
    np.testing.assert_allclose(p, detector.p_values(X), atol=1e-9)
    np.testing.assert_array_equal(alarm == 1, detector.predict(X) < 0)
    capsys.readouterr()
    assert run(*own, "--calibrate", tmp_path / "usual.csv", "--false-alarms", 0.001) == 2
    assert "at least 999 rows" in capsys.readouterr().err
    assert run(*own, "--rule", "bh") == 2
    assert "benjamini_hochberg" in capsys.readouterr().err
    assert run(*own, "-o", tmp_path / "s.txt") == 2
    assert ".csv or .npy" in capsys.readouterr().err
    model.save(tmp_path / "saved")
    assert run("score", tmp_path / "saved", rows, "-o", out) == 2
    assert "--calibrate" in capsys.readouterr().err
    detector.save(tmp_path / "detector")
    assert run("score", tmp_path / "detector", rows, "-o", tmp_path / "s.npy") == 0
    np.testing.assert_allclose(np.load(tmp_path / "s.npy")[:, 1], p, atol=1e-9)
    assert "by 99 rows" in capsys.readouterr().out


def test_evaluate_reads_tables_as_train_does(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(200, 2))
    lines = [f"{a:.3f}:{b:.3f}" for a, b in rows]
    for name in ("real.csv", "fake.csv"):
        Path(name).write_text("a:b\n" + "\n".join([*lines, "offline:1.0"]) + "\n")
    tables = ["evaluate", "--real", "real.csv", "--fake", "fake.csv", "--quiet"]
    assert main([*tables, "--separator", ":", "--missing", "offline", "--target", "b"]) == 0
    assert "b" in capsys.readouterr().out
    assert main([*tables, "--separator", "ab"]) == 2
    assert "one character" in capsys.readouterr().err
    assert main([*tables, "--separator", ":", "--label-column", "nonesuch"]) == 2
    assert "--label-column nonesuch" in capsys.readouterr().err
    assert main(["evaluate", "run", "--separator", ":"]) == 2


@pytest.mark.parametrize("words", [["--epochs"], ["--epochs", ""], ["--lr", "\x1b[31m"], ["--network", "mlp({a: [)"]])
def test_flags_without_a_value_or_with_none_that_can_be_read(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("x.csv").write_text("a,b\n" + "1,2\n3,4\n" * 30)
    assert main(["train", "x.csv", "--quiet", *words]) == 2
    assert "Got" in capsys.readouterr().err


def test_a_header_that_names_two_columns_alike_is_refused(tmp_path, capsys):
    (tmp_path / "x.csv").write_text("a,b,b\n" + "1,2,3\n4,5,6\n" * 30)
    assert main(["train", str(tmp_path / "x.csv")]) == 2
    assert "several columns named 'b'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--inception", "w.pth"], "--inception"),
        (["--inception", "w.pth"], "wanted a protocol on Inception's features"),
        (["--grey"], "--grey without image files"),
        (["--home", "."], "--home without a named data set"),
        (["--train", "other.csv"], "no column(s) 'c'"),
    ],
)
def test_evaluate_refuses_what_it_would_ignore(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(60, 3))
    np.savetxt("x.csv", rows, delimiter=",", header="a,b,c", comments="")
    np.savetxt("other.csv", rows, delimiter=",", header="a,b,d", comments="")
    assert run("evaluate", "--real", "x.csv", "--fake", "x.csv", "--quiet", *arguments) == 2
    assert words in capsys.readouterr().err.replace("inception=", "--inception ")


def test_info_refuses_broken_weights(digits, tmp_path, capsys):
    shutil.copytree(digits, tmp_path / "broken")
    content = bytearray((tmp_path / "broken" / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (tmp_path / "broken" / "model.safetensors").write_bytes(content)
    assert run("info", tmp_path / "broken") == 2
    assert "broken/model.safetensors" in capsys.readouterr().err


def test_messages_name_settings_by_their_flags():
    assert in_flags("Use likelihood='mixed', or drop them.") == "Use --likelihood mixed, or drop them."
    assert in_flags("Say columns={'x': 'category'} to keep it.").startswith("Say the line `x: category` in a file")
    assert in_flags("Use held_out=0.01 or more.") == "Use --held-out 0.01 or more."
    assert in_flags("FitSettings(epochs=5)") == "FitSettings(epochs=5)"


def test_warnings_of_the_shell_show_no_source(tmp_path):
    rows = np.random.default_rng(0).normal(size=(60, 3))
    np.savetxt(tmp_path / "x.csv", rows, delimiter=",")  # without names of columns, which is said
    command = [sys.executable, "-m", "vaelab", "train", "x.csv", *FAST.split(), "--quiet", "--held-out", "0.001"]
    said = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stderr
    assert "! --held-out 0.001 of" in said
    assert "Warning" not in said
    assert ".py:" not in said


def test_what_is_proposed_after_a_training_is_what_networks_of_your_own_can_do(tmp_path, capsys):
    """No verb is given them; Python is."""
    maker = tmp_path / "my.py"
    maker.write_text(
        "from vaelab.nets import MLPDecoder, MLPEncoder\n"
        "def make(s):\n"
        "    encoder = MLPEncoder(s.event_shape, s.encoder_outputs, hidden=(4,))\n"
        "    return encoder, MLPDecoder(s.latent_dim, s.decoder_shape, hidden=(4,))\n"
    )
    np.savetxt(tmp_path / "x.csv", np.random.default_rng(0).normal(size=(60, 3)), delimiter=",", header="a,b,c")
    words = f"--network {maker}:make --latent-dim 2 --epochs 1 --densities gaussian --out {tmp_path} --name own"
    assert main(["train", str(tmp_path / "x.csv"), *words.split()]) == 0
    proposed = capsys.readouterr().out.split("Next:")[1]
    assert [verb for verb in ("sample", "evaluate", "explore", "info") if f"vaelab {verb}" in proposed] == ["info"]
    assert f"vaelab.load('{tmp_path}/own', network='{maker}:make')" in proposed
