"""A page computes what a decoder does: programs of tensor operations, run by its interpreter, against torch."""

import json
import shutil
import subprocess
from importlib import resources

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import vaelab
from nets.test_contract import CONDITION, FAMILIES, LATENT
from vaelab.errors import InputError
from vaelab.nets import Embedded, Gated, ResidualDecoder
from vaelab.runs.explorer.program import OPERATIONS, halved, program_of
from vaelab.runs.graphs import function_of

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs node, to run the page's interpreter")
SCRIPT = """
const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
const out = asked.map(({ program, rows }) => {
  const run = Interpreter.compile(program);
  return rows.map((given) => Array.from(run(...given), (x) => Number.isFinite(x) ? x : String(x)));
});
console.log(JSON.stringify({ out, operations: Interpreter.operations }));
"""


def in_javascript(asked):
    """Run programs on rows of inputs in node; return their outputs, and the operations that are known."""
    source = (resources.files("vaelab.runs.explorer") / "interpreter.js").read_text(encoding="utf-8")
    text = json.dumps([{"program": program, "rows": rows} for program, rows in asked])
    done = subprocess.run([NODE, "-e", source + SCRIPT], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return [np.array(rows, dtype=float) for rows in found["out"]], set(found["operations"])


def agree(function, rows, *, names=("z", "c"), rtol=1e-4, atol=1e-5):
    """Translate a function and compare it with torch on rows, each a tuple of tensors without the batch."""
    example = tuple(each[None] for each in rows[0])
    program = program_of(function, example, names[: len(example)])
    (found,), _ = in_javascript([(program.plain(), [[each.flatten().tolist() for each in row] for row in rows])])
    with torch.no_grad():
        wanted = torch.stack([function(*(each[None] for each in row)).flatten() for row in rows]).double().numpy()
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=atol)
    return program


def settled(network, *examples):
    """Return a network in evaluation mode, whose running averages are not those of a new one."""
    with torch.no_grad():
        network.train()(*examples)
    return network.eval()


DECODERS = {
    **{
        f"{name}-{c}": lambda own=own, c=c: own.decoder((3, 9, 11), c)
        for name, own in FAMILIES.items()
        for c in ((0, CONDITION) if name in ("mlp-skip", "infogan") else (0,))
    },
    "residual": lambda: ResidualDecoder(LATENT, (3, 9, 11), base_width=2, condition_dim=0),
    "embedded": lambda: Embedded(FAMILIES["mlp"].decoder((5,), CONDITION), CONDITION, CONDITION, hidden=(4,)),
    "gated": lambda: Gated(FAMILIES["mlp"].decoder((5,), CONDITION), CONDITION),
}


@pytest.mark.parametrize("name", DECODERS)
def test_every_family_of_decoders(name):
    torch.manual_seed(0)
    decoder = DECODERS[name]()
    conditions = (torch.randn(8, CONDITION),) if name.endswith(f"-{CONDITION}") or name in ("embedded", "gated") else ()
    decoder = settled(decoder, torch.randn(8, LATENT), *conditions)
    rows = [tuple(each[i] for each in (torch.randn(3, LATENT), *conditions)) for i in range(3)]
    program = agree(decoder, rows)
    assert program.size > 0
    assert program.products > 0


class Odd(nn.Module):
    """Operations that no family of the house has, and networks of one's own may."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(4, 24)
        self.layers = nn.Sequential(
            nn.GroupNorm(2, 6),
            nn.GELU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(6, 4, 3, padding=2, dilation=2, groups=2),
            nn.ELU(),
            nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, groups=2, bias=False),
            nn.LeakyReLU(0.2),
            nn.ReplicationPad2d(1),
        )
        self.line = nn.ConvTranspose1d(4, 2, 3, stride=2)
        self.norm = nn.LayerNorm(5)

    def forward(self, z):
        x = self.layers(self.dense(z).view(1, 6, 2, 2))
        y = self.line(x.mean(3)).softmax(1)
        y = self.norm(F.pad(y, (1, -2))[..., :5]) ** 2
        a, b = y.split([2, 3], dim=2)
        steps = torch.where(a > 0.5, a.round(), -a).cumsum(1).flatten(1)
        top = x.amax((2, 3)) - x.amin((2, 3)).clamp(max=0.1) + x.sum((2, 3)).tanh() * x.argmax(1).sum()
        again = torch.bmm(x[0], x[0].mT).flatten(1).abs().log1p().sum(1)[None]
        return torch.cat([steps, b.log_softmax(2).flatten(1), top, again, z.isnan() + torch.erf(z / 3)], 1)


def test_operations_of_other_networks():
    torch.manual_seed(1)
    agree(Odd().eval(), [(torch.randn(4),) for _ in range(4)])


def test_both_sides_know_the_same_operations():
    _, known = in_javascript([])
    assert known == OPERATIONS


def test_an_operation_that_a_page_cannot_run_is_refused_by_name():
    class Sorted(nn.Module):
        def forward(self, z):
            return z.sort().values

    with pytest.raises(InputError, match="operation sort"):
        program_of(Sorted(), (torch.randn(1, 3),), ("z",))


def mixed_table():
    source = np.random.default_rng(0)
    x = source.normal(size=(200, 2)) @ source.normal(size=(2, 3)) * [1, 100, 1] + 0.3 * source.normal(size=(200, 3))
    frame = pd.DataFrame(x, columns=list("pqr"))
    frame["count"] = source.poisson(3, 200)
    frame["when"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(source.integers(0, 10**6, 200), unit="s")
    frame["kind"] = np.array(["a", "b", "c", "d"] * 50)
    frame["size"] = pd.Categorical(source.choice(["s", "m", "l"], 200), categories=["s", "m", "l"], ordered=True)
    frame.loc[::7, "p"] = np.nan
    return frame


@pytest.mark.filterwarnings("ignore::vaelab.errors.VaelabWarning")
def test_units_of_a_mixed_table_are_inside():
    short = {"latent_dim": 2, "network": "mlp([8])", "epochs": 2, "random_state": 0}
    trained = vaelab.GaussianVAE(**short, likelihood="mixed", score_draws=2).fit(mixed_table()).trained_
    codes = 2 * torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    agree(function_of(trained, "decode"), [(z,) for z in codes], rtol=1e-4)


def test_half_the_bytes_for_large_decoders():
    torch.manual_seed(0)
    small, large = nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 1200), nn.Tanh(), nn.Linear(1200, 1200))
    assert not halved(small)
    before = large[2].weight.detach().clone()
    assert halved(large)
    assert not large[2].weight.equal(before)
    program = agree(large, [(torch.randn(8),)])  # the same numbers as the rounded network's
    assert program.size < 2.1 * 1200 * 1208
