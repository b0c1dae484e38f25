"""The page of a diagnosis: whole, safe, readable by machines that read aloud, whatever was measured."""

import dataclasses
import itertools
import json
import math
from html.parser import HTMLParser
from importlib import resources

import pytest
import torch
import yaml
from matplotlib.figure import Figure

from helpers import Rows
from vaelab.diagnostics.diagnosis import Diagnosis, Evidence, Examples, Measures, Verdict
from vaelab.diagnostics.measures import (
    Continuation,
    aggregated,
    axis_noise,
    code_use,
    generalisation,
    off_manifold,
    optimality,
    reconstruction,
    residuals,
)
from vaelab.diagnostics.report import render
from vaelab.diagnostics.report.canvas import Pixels, number, share
from vaelab.diagnostics.report.page import _BEARING, _PICTURES
from vaelab.diagnostics.report.tables import tables
from vaelab.diagnostics.report.variances import gammas, posterior
from vaelab.diagnostics.row_means import Mean
from vaelab.diagnostics.smoothness import smoothness
from vaelab.latent import PriorDensity
from vaelab.model import VAE, FixedVariance, Gaussian
from vaelab.nets import MLPDecoder, MLPEncoder

EVIL = '<script>alert("x")</script>'
VERDICTS = (
    Verdict(
        "prior-mismatch",
        f"Samples miss the codes {EVIL}",
        "critical",
        (Evidence(f"share {EVIL}", 0.12, ">", 0.02, f"zoo {EVIL}"),),
        f"One. Two {EVIL}.",
        f"Do it {EVIL}.",
        f'vaelab.enhance(model, "{EVIL}")',
    ),
    Verdict("some-idle-dimensions", "Some idle dimensions", "note", (), "One. Two.", ""),
)


class Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self._script = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._script = tag in ("script", "style")
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self._script = False

    def handle_data(self, data):
        if not self._script:
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def measured(shape):
    torch.manual_seed(0)
    x = torch.rand(100, *shape)
    vae = VAE(
        MLPEncoder(shape, 6, hidden=(16,)),
        MLPDecoder(3, shape, hidden=(16,)),
        latent_dim=3,
        likelihood=Gaussian(FixedVariance(0.05)),
    ).eval()
    train, unseen, densities = Rows(x[:70]), Rows(x[70:]), {"prior": PriorDensity(vae.prior)}
    measures = Measures(
        code_use=code_use(vae, train),
        reconstruction=reconstruction(vae, train),
        residuals=residuals(vae, train),
        smoothness=smoothness(vae, train, rows=20),
        optimality=optimality(vae, train, rows=16),
        axes=axis_noise(vae, train),
        aggregated=aggregated(vae, train, densities),
        manifold=off_manifold(vae, train, densities),
        generalisation=generalisation(vae, train, unseen),
        continuation=Continuation(
            10, 5, Mean(2.0, 0.1), Mean(1.5, math.nan), Mean(1.0, 0.1), Mean(1.0, 0.1), 0.25, 3.0, Mean(3.0, 0.1), 0.1
        ),
    )
    with torch.no_grad():
        rebuilt = vae.decode(vae.encode(x[:12]).mean)
    examples = Examples(
        real=x[:12],
        rebuilt=rebuilt,
        samples={"prior": rebuilt.flip(0)},
        between=rebuilt[:10].unflatten(0, (2, 5)),
        embedding=torch.randn(30, 2),
        drawn=torch.arange(30) >= 20,
        labels=torch.arange(30) % 3,
    )
    return Diagnosis(
        name=f"a model {EVIL}",
        family=f"a family {EVIL}",
        kind="image" if len(shape) == 3 else "table",
        event_shape=shape,
        latent_dim=3,
        rows=120,
        held_out_rows=40,
        sampler="prior",
        gamma_known=True,
        measures=measures,
        verdicts=VERDICTS,
        examples=examples,
        history=[{"epoch": e, "gamma": 0.1 / e, "distortion": 9.0 - e, "active_dimensions": e} for e in (1, 2, 3)],
        notes=(f"a note {EVIL}",),
        seconds=1.5,
    )


@pytest.fixture(scope="module", params=[(1, 6, 6), (5,)], ids=["image", "table"])
def diagnosis(request):
    return measured(request.param)


@pytest.fixture(scope="module")
def text(diagnosis):
    return render(diagnosis)


@pytest.fixture
def undrawn(monkeypatch):
    """Charts are made but not written out, which takes most of the time."""

    def write(figure, file, **options):
        file.write('<svg width="1" viewBox="0 0 1 1"></svg>')

    monkeypatch.setattr(Figure, "savefig", write)


def addresses(page):
    return [
        attrs[key] for _, attrs in page.tags for key in ("src", "href", "srcset", "action", "data") if attrs.get(key)
    ]


def test_nothing_is_fetched(text):
    page = Page(text)
    assert addresses(page)
    assert all(one.startswith(("data:", "#")) for one in addresses(page))
    assert "@import" not in text
    assert "url(http" not in text
    assert not {"iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    assert all("src" not in attrs for attrs in page.all("script"))
    assert len(text.encode()) < 3_000_000


def test_a_text_from_outside_is_never_markup(text):
    assert EVIL not in text
    page = Page(text)
    assert len(page.all("script")) == 1  # the page's own
    # name (title and heading), family, verdict, evidence, its source, meaning, remedy, call, note, chips
    assert "".join(page.words).count("alert(") >= 10


def test_a_page_to_move_about_in_is_linked_where_it_is(diagnosis, tmp_path):
    run = dataclasses.replace(diagnosis, name="runs/a", family="a run of vaelab")
    text = run.save(tmp_path / "report.html").read_text("utf-8")
    assert "vaelab explore runs/a" in text
    (tmp_path / "explore.html").write_text("")
    links = Page(run.save(tmp_path / "report.html").read_text("utf-8")).all("a")
    assert "explore.html" in [link.get("href") for link in links]
    assert "vaelab explore" not in render(diagnosis)  # of what is no run


def test_all_images_say_what_they_show(text):
    page = Page(text)
    images = page.all("img")
    assert all(attrs.get("alt") and any(c.isdigit() for c in attrs["alt"]) for attrs in images)
    drawings = page.all("svg")
    assert sum("aria-label" in attrs for attrs in drawings) >= 8
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") == "true" for attrs in drawings)


def test_headings_landmarks_and_ids(text):
    page = Page(text)
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for landmark in ("header", "main", "footer"):
        assert len(page.all(landmark)) == 1
    assert page.all("html")[0]["lang"] == "en"
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    named = {attrs[key] for _, attrs in page.tags for key in ("aria-labelledby",) if key in attrs}
    local = {one[1:] for one in addresses(page) if one.startswith("#")}
    assert named | local <= set(ids)


def test_both_schemes_and_print(text):
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert "#010203" not in text  # charts take the colour of the page's text
    assert "currentColor" in text


def test_the_main_verdict_is_in_words(text, diagnosis):
    words = " ".join(Page(text).words)
    assert words.index("Critical") < words.index("Samples miss the codes") < words.index("Some idle dimensions")
    assert "0.12 > 0.02" in words
    assert "threshold: zoo" in words


def test_tables_hold_the_numbers(diagnosis):
    found = {table.title: table for table in tables(diagnosis)}
    assert set(found) == {"Latent dimensions", "Densities", "Smoothness and noise on the code", "All numbers"}
    dimensions, use = found["Latent dimensions"], diagnosis.measures.code_use
    place = dimensions.columns.index("λ")
    shown = {int(row[0].key): row[place].key for row in dimensions.rows}
    assert shown == {j: float(use.ratios[j]) for j in range(3)}
    assert [row[place].key for row in dimensions.rows] == sorted(shown.values())
    listed = {(row[0].text, row[1].text): row[2].key for row in found["All numbers"].rows}
    assert listed["reconstruction", "residual"] == diagnosis.measures.reconstruction.residual
    assert listed["reconstruction", "error of draws"] == diagnosis.measures.reconstruction.error_of_draws.value
    assert listed["continuation", "error after error"] == math.inf  # not a number: last when sorted


def test_smoothness_has_a_table(diagnosis):
    (table,) = (one for one in tables(diagnosis) if one.title.startswith("Smoothness"))
    found, fit = diagnosis.measures.smoothness, diagnosis.measures.reconstruction
    rows = {row[0].text: [cell.key for cell in row[1:]] for row in table.rows}
    assert rows["expected gap Δ² at s² = 0.01"] == list(found.gaps[1e-2])
    assert rows["ELS/κ, per latent dimension"] == [found.local.value / 3, found.local.error / 3]
    assert rows["I(x; z) at least, nats"] == list(found.information.lower)
    parts = [rows[f"linearised −ELBO, {name}, nats"][0] for name in ("error at the mean", "gradient penalty")]
    parts += [rows[f"linearised −ELBO, {name}, nats"][0] for name in ("constant", "KL")]
    assert rows["linearised −ELBO, sum, nats"][0] == pytest.approx(sum(parts))
    means = rows["squared error at the posterior mean"][0], rows["squared error of draws"][0]
    assert means == (fit.error_at_mean.value, fit.error_of_draws.value)
    assert rows["gap, share of the error of draws"][0] == pytest.approx(1 - means[0] / means[1])


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("implied", "known", "said"),
    [
        (0.7, True, "the declared one is 14 times smaller"),
        (0.005, True, "the declared one is 10 times larger"),
        (0.05, True, "the declared one is about the same"),
        (0.7, False, "it is 0.7, and none is declared"),
        (None, True, "Under the declared variance of 0.05"),
        (None, False, "Under the assumed variance of 0.05"),
    ],
)
def test_the_posterior_is_held_against_a_variance_that_is_named(diagnosis, implied, known, said):
    """Beside the line of variances: the misfit is that between dimensions, and both pictures name the same ratio."""
    m = diagnosis.measures
    optimum = dataclasses.replace(m.optimality, implied_gamma=implied, misfit=math.log(1.2))
    picture = posterior(
        dataclasses.replace(diagnosis, gamma_known=known, measures=dataclasses.replace(m, optimality=optimum))
    )
    assert said in picture.title
    assert "by a factor of 1.2" in picture.title
    assert ("Under the variance that the posterior implies" in picture.title) == (implied is not None)
    assert ("says nothing on whether that variance is right" in picture.help) == (implied is not None)


@pytest.mark.usefixtures("undrawn")
def test_evidence_that_is_not_finite_is_in_words(diagnosis):
    evidence = Evidence("explained", -math.inf, "<", 0.5, "zoo")
    verdict = dataclasses.replace(VERDICTS[0], evidence=(evidence,))
    text = render(dataclasses.replace(diagnosis, verdicts=(verdict,)))
    assert "not finite &lt; 0.5" in text


def test_json_has_no_nan_and_round_trips(diagnosis, tmp_path):
    path = diagnosis.save(tmp_path / "report.json")

    def refuse(name):
        raise AssertionError(name)

    content = json.loads(path.read_text(), parse_constant=refuse)
    assert content["verdicts"][0]["name"] == "prior-mismatch"
    assert content["measures"]["reconstruction"]["residual"] == diagnosis.measures.reconstruction.residual
    assert content["measures"]["continuation"]["error_after"]["error"] is None


@pytest.mark.parametrize("name", [one.name for one in dataclasses.fields(Measures)])
@pytest.mark.usefixtures("undrawn")
def test_all_other_measures_may_be_missing(name, diagnosis):
    alone = dataclasses.replace(diagnosis, measures=Measures(**{name: getattr(diagnosis.measures, name)}))
    shown = render(alone)
    assert "</html>" in shown
    assert name.replace("_", " ") in shown  # in the table of all numbers


def test_bare_diagnosis(diagnosis):
    """Nothing measured, nothing to look at: verdicts alone."""
    empty = torch.empty(0, *diagnosis.event_shape)
    bare = dataclasses.replace(
        diagnosis, measures=Measures(), examples=Examples(empty, empty, {}), history=(), notes=(), seconds=math.nan
    )
    page = Page(render(bare))
    assert not page.all("figure")
    assert not page.all("table")
    assert page.all("article")


@pytest.mark.usefixtures("undrawn")
def test_partial_measures(diagnosis):
    """What a deterministic code, a Bernoulli or few rows leave out."""
    m = diagnosis.measures
    match = dataclasses.replace(m.aggregated.matches["prior"], accuracy=None)
    odd = Measures(
        code_use=dataclasses.replace(m.code_use, degenerate=True, kl=None, ratios=None, dimension=None, active=None),
        reconstruction=dataclasses.replace(m.reconstruction, gamma=None, ratio=None, nats=None, explained=math.nan),
        optimality=dataclasses.replace(m.optimality, implied_gamma=None, implied_low=None, implied_high=None),
        aggregated=dataclasses.replace(m.aggregated, matches={"prior": match}),
        generalisation=dataclasses.replace(m.generalisation, gap=None),
    )
    examples = dataclasses.replace(diagnosis.examples, between=None, embedding=None, drawn=None, labels=None)
    assert "</html>" in render(dataclasses.replace(diagnosis, measures=odd, examples=examples))


def test_drawings_do_not_change_and_name_what_is_known(diagnosis):
    drawn = gammas(diagnosis).body
    assert gammas(diagnosis).body == drawn
    assert "declared by the model" in drawn
    assert "declared by the model" not in gammas(dataclasses.replace(diagnosis, gamma_known=False)).body


def test_notebooks_show_the_verdicts_alone(diagnosis):
    shown = diagnosis._repr_html_()
    page = Page(shown)
    assert EVIL not in shown
    assert not page.all("script")
    assert not page.all("figure")
    assert "Critical: Samples miss the codes" in " ".join(page.words)


def test_large_images_stay_small():
    """Twelve colour images of 256 × 256 are some kilobytes each on the page."""
    pixels = Pixels(torch.tensor([-1.0, 1.0]))
    shown = pixels(torch.tensor([-1.0, 0.0, 1.0, 3.0]).view(4, 1, 1, 1).expand(4, 4, 256, 128))
    assert shown.shape == (4, 3, 96, 48)
    assert shown[:, 0, 0, 0].tolist() == [0, 128, 255, 255]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),
        (math.nan, "–"),
        (3.0, "3"),
        (12345.0, "12,345"),
        (0.01234, "0.0123"),
        (-0.5, "−0.5"),
        (999.7, "1,000"),
        (1e-4, "10⁻⁴"),
        (2.5e-7, "2.5·10⁻⁷"),
        (-1.5e8, "−1.5·10⁸"),
    ],
)
def test_numbers_are_short(value, written):
    assert number(value) == written


def test_shares_do_not_round_to_none_or_all():
    assert [share(v).replace("\N{NO-BREAK SPACE}", " ") for v in (0.0, 0.001, 0.5, 0.999, 1.0)] == [
        "0 %",
        "below 1 %",
        "50 %",
        "more than 99 %",
        "100 %",
    ]


@pytest.mark.usefixtures("undrawn")
def test_verdicts_point_at_pictures_that_exist(diagnosis):
    known = {
        one["name"]
        for one in yaml.safe_load(resources.files("vaelab.diagnostics").joinpath("verdicts.yaml").read_text())
    }
    assert known - {"healthy"} == set(_BEARING)
    drawn = {found.name for draw in _PICTURES if (found := draw(diagnosis)) is not None}
    pointed = {name for names in _BEARING.values() for name in names}
    images_only = {"between", "perturbed"}
    assert pointed - drawn <= (set() if diagnosis.kind == "image" else images_only)


def test_templates_are_part_of_the_package():
    folder = resources.files("vaelab.diagnostics.report")
    for name in ("page.html", "summary.html", "verdict.html", "page.css", "page.js"):
        assert (folder / name).is_file()
