"""The Inception network of the FID, with random weights: layers, preprocessing, and which files are taken."""

import copy
import hashlib

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from vaelab.errors import InputError
from vaelab.metrics.inception import PUBLISHED_FILE, Inception, load_inception
from vaelab.metrics.inception_network import InceptionNetwork
from vaelab.metrics.pixels import resize

SHAPES = {
    "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
    "Conv2d_4a_3x3.bn.running_var": (192,),
    "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
    "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
    "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
    "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
    "Mixed_6c.branch7x7dbl_4.conv.weight": (160, 160, 7, 1),
    "Mixed_6e.branch7x7dbl_5.bn.bias": (192,),
    "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
    "Mixed_7b.branch1x1.conv.weight": (320, 1280, 1, 1),
    "Mixed_7c.branch3x3_2a.conv.weight": (384, 384, 1, 3),
    "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
    "Mixed_7c.branch_pool.conv.weight": (192, 2048, 1, 1),
}


@pytest.fixture(scope="session")
def weights():
    """A table like the published file's: every layer, counters of batches, and the classifier."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in InceptionNetwork().state_dict().items()}
    tensors = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("conv.weight"):
            tensors[name] = noise * (2 / noise[0].numel()) ** 0.5
        elif name.endswith(("bn.weight", "running_var")):
            tensors[name] = (1 + 0.2 * noise).abs()
        else:
            tensors[name] = 0.3 * noise
        if name.endswith("running_var"):
            tensors[name.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    return {**tensors, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}


@pytest.fixture(scope="session")
def path(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / PUBLISHED_FILE
    torch.save(weights, path)
    return path


@pytest.fixture(scope="session")
def ttur(path):
    return load_inception(path, preprocessing="ttur")


@pytest.fixture(scope="session")
def images():
    return (255 * torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))).round()


@pytest.fixture(scope="session")
def features(ttur, images):
    return ttur(images)


def test_layers_are_those_of_the_published_file(weights):
    assert {name: tuple(weights[name].shape) for name in SHAPES} == SHAPES
    convolutions = sum(name.endswith("conv.weight") for name in weights)
    assert convolutions == 94
    assert len(weights) == 6 * convolutions + 2
    network = [value.numel() for name, value in weights.items() if name.endswith((".weight", ".bias"))]
    assert sum(network) == 21_785_568 + 1008 * 2049, "what other Inception-v3 networks have, and the classifier"


def test_weights_arrive(ttur, weights):
    state = ttur.network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in state.items())


def test_features(features):
    assert features.shape == (3, 2048)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert (features >= 0).all()
    assert float(features.std(0).mean()) > 1e-3, "images are told apart"


def test_an_image_has_the_same_features_in_any_batch_even_after_train(ttur, images, features):
    assert ttur.train() is ttur
    assert not any(module.training for module in ttur.modules())
    torch.testing.assert_close(ttur(images[1:2]), features[1:2], rtol=1e-4, atol=1e-5)


def test_a_grey_image_is_its_rgb_repeat(ttur, images, features):
    torch.testing.assert_close(ttur(images[:1].repeat(1, 3, 1, 1)), features[:1], rtol=1e-4, atol=1e-5)


def test_preprocessings_differ_by_the_resize_of_small_images(ttur, path, images, features):
    port = load_inception(path, preprocessing="pytorch-fid")
    assert float((port(images[:1]) - features[:1]).norm() / features[:1].norm()) > 1e-3
    assert port.fingerprint != ttur.fingerprint, "or stored features of one would be taken for the other's"


@pytest.mark.parametrize(
    ("preprocessing", "how", "low", "high"),
    [("ttur", "tf1-bilinear", -1, 127 / 128), ("pytorch-fid", "bilinear", -1, 1)],
)
def test_what_the_network_sees(preprocessing, how, low, high, ttur, images, monkeypatch):
    inception = Inception(ttur.network, preprocessing=preprocessing, sha256="")
    monkeypatch.setattr(ttur.network, "forward", lambda x: x)
    expected = low + (high - low) * resize(images, (299, 299), how) / 255
    torch.testing.assert_close(inception(images), expected.repeat(1, 3, 1, 1), rtol=1e-5, atol=1e-5)


def test_a_unit_is_a_convolution_a_batch_norm_and_a_relu(ttur, weights):
    x = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(2))
    norm = nn.BatchNorm2d(32, eps=1e-3).eval()
    unit = copy.deepcopy(ttur.network.Conv2d_1a_3x3)
    norm.load_state_dict({name: weights[f"Conv2d_1a_3x3.bn.{name}"] for name in norm.state_dict()})
    norm.running_var[:] = unit.bn.running_var[:] = 1e-3  # where the constant counts
    expected = norm(F.conv2d(x, weights["Conv2d_1a_3x3.conv.weight"], stride=2)).relu()
    with torch.no_grad():
        torch.testing.assert_close(unit(x), expected)


def test_features_are_means_over_the_last_8_by_8_pixels(ttur, images, features):
    seen = []
    hook = ttur.network.Mixed_7c.register_forward_hook(lambda module, inputs, output: seen.append(output))
    ttur(images[:1])
    hook.remove()
    assert seen[0].shape == (1, 2048, 8, 8)
    torch.testing.assert_close(seen[0].mean((2, 3)), features[:1], rtol=1e-4, atol=1e-5)


def test_pools_of_the_last_blocks_are_those_of_the_graph(ttur):
    x = torch.rand(1, 1280, 8, 8, generator=torch.Generator().manual_seed(2))
    first, last = ttur.network.Mixed_7b, ttur.network.Mixed_7c
    inside = F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1) / F.avg_pool2d(F.pad(torch.ones_like(x), (1, 1, 1, 1)), 3, 1)
    torch.testing.assert_close(first(x)[:, -192:], first.branch_pool(inside), rtol=1e-4, atol=1e-5)
    y = first(x)
    largest = F.unfold(F.pad(y, (1, 1, 1, 1), value=-1), 3).reshape(2048, 9, 8, 8).amax(1)[None]
    torch.testing.assert_close(last(y)[:, -192:], last.branch_pool(largest), rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_images_but_no_weight(ttur, images):
    x = images[:1].clone().requires_grad_()
    ttur(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.any()
    assert not any(value.requires_grad for value in ttur.parameters())


def test_the_fingerprint_is_the_files(ttur, path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert ttur.sha256 == digest
    assert ttur.fingerprint == f"{digest} ttur"
    assert not ttur.published, "random weights under the published name"
    assert Inception(ttur.network, preprocessing="ttur", sha256="6726825d" + digest[8:]).published


def test_other_images_and_settings_are_refused(ttur):
    for shape in [(1, 4, 9, 9), (3, 9, 9), (1, 9, 9, 3)]:
        with pytest.raises(InputError, match="grey"):
            ttur(torch.zeros(shape))
    with pytest.raises(InputError, match="pytorch-fid"):
        Inception(ttur.network, preprocessing="tf", sha256="")


def test_a_missing_file_is_named_with_a_remedy(tmp_path):
    with pytest.raises(InputError, match=rf"no file.*{PUBLISHED_FILE}.*--inception.*VAELAB_INCEPTION"):
        load_inception(tmp_path / "none.pth", preprocessing="ttur")


def test_a_cut_off_file_is_refused(path, tmp_path):
    whole = path.read_bytes()
    for name, content in {"half": whole[: len(whole) // 2], "empty": b"", "text": b"<html>not found</html>"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"unreadable.*whole file"):
            load_inception(tmp_path / name, preprocessing="ttur")


class _Opens:
    """Would write a file if a loader ran what a pickle says."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_no_code_in_a_file_runs(tmp_path):
    torch.save({"fc.bias": _Opens(tmp_path / "written")}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="unreadable"):
        load_inception(tmp_path / "evil.pth", preprocessing="ttur")
    assert not (tmp_path / "written").exists()


def test_a_foreign_file_is_refused_by_the_names_of_its_layers(weights, tmp_path):
    small = {name: value for name, value in weights.items() if value.numel() < 1000 and "tracked" not in name}
    small["AuxLogits.fc.weight"] = torch.zeros(1000, 768)
    small["fc.bias"] = torch.zeros(1000)
    path = tmp_path / "foreign.pth"
    torch.save(small, path)
    with pytest.raises(InputError) as error:
        load_inception(path, preprocessing="ttur")
    missing = len(weights) - 94 + 1 - len(small)  # without counters, and with one tensor too many
    assert f"missing tensors ({missing}: Conv2d_2a_3x3.conv.weight, " in error.value.got
    assert "unexpected tensors (1: AuxLogits.fc.weight)" in error.value.got
    assert "misshapen tensors (1: fc.bias)" in error.value.got
    for content in ([torch.zeros(2)], {"epoch": 3}):
        torch.save(content, path)
        with pytest.raises(InputError, match="named tensors"):
            load_inception(path, preprocessing="ttur")


def test_counters_of_batches_may_be_absent_and_halves_are_read_as_floats(weights, path, tmp_path):
    plain = {name: value.half() for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    torch.save(plain, tmp_path / "plain.pth")
    inception = load_inception(str(tmp_path / "plain.pth"), preprocessing="ttur")
    assert {value.dtype for value in inception.state_dict().values()} == {torch.float32}
