"""The explorer's page: what is in it, that it fetches nothing and escapes names, and what it says of large decoders."""

import base64
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

import vaelab
from browser import CHROMIUM, Browser
from vaelab.cli import main
from vaelab.errors import InputError
from vaelab.runs.explorer.decoding import Decoder
from vaelab.verbs.exploration import explore

EVIL = "</script><b>x</b>"
SHORT = {"network": "mlp([16])", "epochs": 3, "random_state": 0}
SOURCE = np.random.default_rng(0)
pytestmark = pytest.mark.filterwarnings("ignore::vaelab.errors.VaelabWarning", "ignore:.*LeafSpec:FutureWarning")


def people(n=120):
    u = np.random.default_rng(1).normal(size=(n, 2))
    frame = pd.DataFrame({"age": (40 + 12 * u[:, 0]).round(), f"income {EVIL}": np.exp(9 + u.sum(1)).round(2)})
    frame["joined"] = pd.Timestamp("2020-01-01") + pd.to_timedelta((400 + 100 * u[:, 1]).round(), unit="D")
    frame["job"] = np.where(u[:, 0] > 0.5, "manager", np.where(u[:, 1] > 0, EVIL, "clerk"))
    frame["kind"] = u[:, 1] > 0.3
    frame.loc[::9, "age"] = np.nan
    return frame


def unpacked(packed):
    dtype = {"float32": "<f4", "float64": "<f8"}[packed["dtype"]]
    return np.frombuffer(base64.b64decode(packed["data"]), dtype).reshape(packed["shape"])


def content_in(text):
    return json.loads(re.search(r'id="content">(.*?)</script>', text, re.S)[1])


@pytest.fixture(scope="module")
def table():
    return vaelab.TwoStageVAE(3, densities=("gaussian",), likelihood="mixed", **SHORT).fit(people())


@pytest.fixture(scope="module")
def table_page(table):
    return explore(table, people())


@pytest.fixture(scope="module")
def images():
    x = np.random.default_rng(2).integers(0, 256, (60, 1, 8, 8)).astype(np.uint8)
    y = np.array([EVIL, "1", "2"] * 20)
    return vaelab.ConditionalVAE(2, **SHORT).fit(x, y), x, y


def test_rows_codes_and_nats_are_those_of_the_model(table, table_page):
    rows, shown = table_page.content["rows"], people()
    assert rows["n"] == 120
    assert_allclose(unpacked(rows["z"]), table.transform(shown), rtol=1e-5, atol=1e-6)
    assert_allclose(unpacked(rows["bound"]), table.score_samples(shown), rtol=1e-5)
    entries = np.nansum(unpacked(rows["entries"]), 1)
    assert_allclose(unpacked(rows["bound"]), entries - unpacked(rows["code"]), rtol=1e-4, atol=1e-3)
    assert_allclose(unpacked(rows["values"])[:, 0], shown["age"])


def test_axes_are_ordered_by_what_they_carry(table_page):
    nats, axes = unpacked(table_page.content["rows"]["nats"]).mean(0), table_page.content["axes"]
    assert [axis["index"] for axis in axes] == (-nats).argsort().tolist()
    assert all(axis["low"] < axis["centre"] < axis["high"] for axis in axes)


def test_what_is_decoded_has_rows_and_probabilities(table):
    z = torch.randn(5, 3)
    with torch.no_grad():
        found = Decoder(table.trained_).eval()(z)
    assert_allclose(found[:, :5], table.trained_.decode(z), rtol=1e-6)
    job, kind = found[:, 5:8], found[:, 8:]
    for place, shares in ((3, job), (4, kind)):
        assert_allclose(shares.sum(1), 1, rtol=1e-6)
        assert found[:, place].equal(shares.argmax(1).double())


def test_draws_are_of_every_density_and_class(table_page, images):
    names = [each["name"] for each in table_page.content["draws"]]
    assert sorted(names) == ["gaussian", "prior"]
    assert table_page.content["draws"][0]["best"]
    model, x, y = images
    (prior,) = explore(model, x, y).content["draws"]
    assert set(prior["labels"]) == {0, 1, 2}
    assert prior["picture"].startswith("data:image/png;base64,")


def test_nothing_is_fetched_and_names_are_escaped(table_page, images):
    for page in (table_page, explore(images[0], *images[1:])):
        text = page.html()
        assert not re.findall(r"https?:|@import|url\(|fetch\(|XMLHttp|(?:src|href)=\"(?!data:|#)[^\"]*", text)
        assert "default-src 'none'" in text  # nor would a browser fetch it
        assert EVIL not in text
        assert text.count("<script") == text.count("</script>")
        assert EVIL in json.dumps(content_in(text))  # whole, behind its escapes


def test_a_run_shows_its_own_test_rows(tmp_path, capsys):
    np.savetxt(tmp_path / "t.csv", SOURCE.normal(size=(120, 3)), delimiter=",", header="a,b,c", comments="")
    arguments = ["train", str(tmp_path / "t.csv"), "--out", str(tmp_path), "--name", "run", "--epochs", "1", "--quiet"]
    assert main([*arguments, "--network", "mlp([8])", "--latent-dim", "2", "--densities", "gaussian"]) == 0
    assert main(["explore", str(tmp_path / "run")]) == 0
    assert "12 rows" in capsys.readouterr().out
    content = content_in((tmp_path / "run" / "explore.html").read_text(encoding="utf-8"))
    assert "12 test rows" in content["about"]
    assert [column["name"] for column in content["columns"]] == ["a", "b", "c"]
    other = tmp_path / "page.html"
    assert (
        main(["explore", str(tmp_path / "run"), "-o", str(other), "--data", str(tmp_path / "t.csv"), "--rows", "7"])
        == 0
    )
    assert content_in(other.read_text(encoding="utf-8"))["rows"]["n"] == 7
    for wrong in (["nowhere"], [str(tmp_path / "run"), "-o", "page.txt"], [str(tmp_path / "run"), "--rows", "1"]):
        assert main(["explore", *wrong]) == 2
    assert "such folder" in capsys.readouterr().err


def test_a_decoder_that_is_too_large_or_unknown_is_shown_from_the_outside(table, images):
    small = explore(table, people(), most_mb=0.001)
    assert not small.live
    assert "more than the 0.001 MB" in str(small)
    content = small.content
    outputs, axis = unpacked(content["along"]["outputs"]), content["axes"][0]
    assert outputs.shape == (3 * 9, 5 + 3 + 2)
    code = torch.tensor([[each["centre"] for each in sorted(content["axes"], key=lambda one: one["index"])]])
    code[0, axis["index"]] = axis["high"]
    assert_allclose(outputs[8, :5], table.trained_.decode(code)[0], rtol=1e-6)
    codes = torch.as_tensor(table.transform(people()))
    # numbers lie on a grid, to which the last bits may bring a neighbour
    assert_allclose(unpacked(content["along"]["rebuilt"])[:, :5], table.trained_.decode(codes), rtol=1e-6, atol=0.02)
    pictures = explore(*images, most_mb=0.001).content["along"]
    assert pictures["outputs"]["picture"].startswith("data:image/png")
    assert "values" not in pictures["rebuilt"]


class Sorting(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x, c=None):
        return self.layer(x).sort(1).values


def test_networks_of_ones_own_that_a_page_cannot_run():
    def networks(shapes):
        return Sorting(3, shapes.encoder_outputs), Sorting(shapes.latent_dim, *shapes.decoder_shape)

    x = SOURCE.normal(size=(40, 3))
    page = explore(vaelab.GaussianVAE(2, network=networks, epochs=1, random_state=0).fit(x), x)
    assert not page.live
    assert "operation sort" in str(page)


def test_what_cannot_be_explored_is_refused_in_words(table, tmp_path):
    sequences = [SOURCE.normal(size=(4, 2)) for _ in range(20)]
    model = vaelab.SequenceVAE(2, units=4, epochs=1, random_state=0).fit(sequences)
    with pytest.raises(InputError, match="a model of sequences"):
        explore(model, sequences)
    with pytest.raises(InputError, match="no such folder"):
        explore(tmp_path / "nowhere")
    with pytest.raises(InputError, match="Fit it first"):
        explore(nn.Linear(2, 2), people())
    with pytest.raises(InputError, match="a model without rows"):
        explore(table)
    with pytest.raises(InputError, match="1 rows"):
        explore(table, people()[:1])
    for name, value in (("rows", 1), ("most_mb", 0), ("seed", -1)):
        with pytest.raises(InputError, match=name):
            explore(table, people(), **{name: value})
    with pytest.raises(InputError, match=r"\.html"):
        explore(table, people()).save(tmp_path / "page.txt")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, to click")
class TestInABrowser:
    def test_a_row_an_axis_a_walk_and_draws_of_a_table(self, table, table_page, tmp_path):
        page = table_page.save(tmp_path / "page.html")
        with Browser(page) as browser:
            assert "gives the numbers that it gave" in browser.text("#checked")
            assert EVIL in browser.text("#here")
            browser.click("#map", 0.9, 0.9)
            chosen = int(browser.text("#here-title").removeprefix("Row ")) - 1
            assert chosen > 0
            said = float(browser.text(".numbers dd").split()[0].replace("−", "-"))
            assert said == pytest.approx(table.score_samples(people())[chosen], rel=0.01)
            before = browser.text("#here tbody")
            assert "nats" in browser.text("#here thead")
            axis = table_page.content["axes"][0]["index"]
            browser.click(f'#axes input[data-index="{axis}"]', 0.97)
            assert browser.text("#here-title") == f"Moved from row {chosen + 1}"
            moved = browser.text("#here tbody")
            assert moved != before
            # what is shown is what the model decodes there
            code = table.transform(people())[[chosen]]
            code[0, axis] = float(browser.value(f"document.querySelector('#axes input[data-index=\"{axis}\"]').value"))
            assert f"{table.inverse_transform(code)['age'][0]:.0f}" in moved.splitlines()[0]
            browser.click("#walk-end")
            assert f"to row {chosen + 1}" in browser.text("#walk-what")
            browser.click("#way", 0.5)
            assert f"% of the way from row 1 to row {chosen + 1}" in browser.text("#here-title")
            drawn = browser.text("#draws tbody")
            browser.click("#again")
            assert browser.text("#draws tbody") != drawn
            assert browser.errors == []
            browser.resize(400, 800)
            assert browser.value("document.documentElement.scrollWidth <= innerWidth")

    def test_images_under_another_class(self, images, tmp_path):
        model, x, y = images
        data = "document.querySelector('#decoded').getContext('2d').getImageData(0, 0, 8, 8).data"
        pixels = f"[...{data}].filter((_, i) => i % 4 === 0)"
        with Browser(explore(model, x, y).save(tmp_path / "page.html")) as browser:
            assert_allclose(
                browser.value(pixels), model.inverse_transform(model.transform(x[:1], y[:1]), y[:1]).flatten(), atol=1
            )
            browser.value(
                "(() => { const s = document.querySelector('#conditions select'); s.value = '2';"
                " s.dispatchEvent(new Event('change')); })()"
            )
            wanted = model.inverse_transform(model.transform(x[:1], y[:1]), np.array(["2"]))
            assert_allclose(browser.value(pixels), wanted.flatten(), atol=1)
            assert browser.errors == []

    def test_points_on_a_line_and_conditions_that_are_numbers(self, tmp_path):
        x = SOURCE.normal(size=(40, 3)) @ np.diag([1, 1e4, 1e-4])
        point = vaelab.RegularizedAutoencoder(1, densities=("gaussian",), **SHORT).fit(x)
        number = vaelab.ConditionalVAE(2, **SHORT).fit(x, pd.DataFrame({"a": x[:, 0], "b": ["p", "q"] * 20}))
        for model, y in ((point, None), (number, pd.DataFrame({"a": x[:, 0], "b": ["p", "q"] * 20}))):
            page = explore(model, x, y)
            assert page.live
            with Browser(page.save(tmp_path / "page.html")) as browser:
                browser.click("#map", 0.1, 0.5)
                browser.click("#axes input", 0.9)
                assert browser.text("#here-title").startswith("Moved from row ")
                browser.click("#centre")
                assert browser.text("#here-title") == "The centre of the codes"
                assert browser.errors == []

    def test_outputs_that_were_computed_beforehand(self, images, tmp_path):
        model, x, y = images
        with Browser(explore(model, x, y, most_mb=0.001).save(tmp_path / "page.html")) as browser:
            assert "more than the 0.001 MB" in browser.text("#notice")
            assert browser.value("document.querySelector('#walk-card').hidden")
            browser.click("#axes .strip", 0.95)
            assert browser.text("#here-title").startswith("Along z")
            browser.click("#map", 0.2, 0.5)
            assert browser.text("#here-title").startswith("Row ")
            assert browser.errors == []
