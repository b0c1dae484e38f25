"""Protocols are frozen: a change of what a number means must be a change of its hash."""

import pytest
from pydantic import ValidationError

from vaelab.errors import InputError
from vaelab.metrics.protocols import PROTOCOLS, Protocol, protocol

_FROZEN = {
    "ttur-10k": "38138b55",
    "pytorch-fid-10k": "f199d5f7",
    "lucic-2018": "cc79ff5c",
    "dai-wipf-program": "4057aaf4",
    "dai-wipf-program-unstretched": "f73a6821",
    "dai-wipf-program-cifar10": "f65d621e",
    "takida-2022": "2ef11c23",
    "classifier-10k": "a5bb785e",
    "pca-10k": "545cb9d3",
    "tabular": "dc632d4a",
    "tabular-pca": "69aaa339",
}


def test_a_published_protocol_never_changes():
    """A number on paper carries one of these; to change a field, add a protocol or raise its version."""
    assert {name: entry.hash for name, entry in PROTOCOLS.items()} == _FROZEN


def test_the_hash_is_of_what_changes_a_number():
    base = protocol("classifier-10k")
    assert base.model_copy(update={"name": "mine", "source": "me"}).hash == base.hash
    same = dict(protocol("ttur-10k"))
    changed = {
        "version": 2,
        "kind": "table",
        "extractor": "pca",
        "weights": "x",
        "preparation": "pytorch-fid",
        "celeba_crop": 140,
        "reference": "train",
        "reference_count": 50_000,
        "generated_count": 5_000,
        "observation_noise": True,
        "quantise": "truncate",
        "stretch": True,
        "jpeg": "both",
        "seed": 1,
        "components": 3,
        "kernel_subsets": 3,
        "kernel_subset_size": 3,
        "neighbours_precision": 4,
        "neighbours_density": 4,
        "projections": 3,
    }
    assert set(changed) == set(same) - {"name", "source"}
    hashes = {Protocol.model_construct(**{**same, name: value}).hash for name, value in changed.items()}
    assert len(hashes | {protocol("ttur-10k").hash}) == len(changed) + 1


def test_records_cannot_be_changed():
    with pytest.raises(ValidationError):
        protocol("ttur-10k").quantise = "none"


def test_a_derived_protocol_says_what_it_changes():
    derived = protocol("classifier-10k+quantise=none+seed=3")
    assert (derived.name, derived.quantise, derived.seed) == ("classifier-10k+quantise=none+seed=3", "none", 3)
    assert derived.hash != protocol("classifier-10k").hash
    assert protocol("classifier-10k+quantise=round").hash == protocol("classifier-10k").hash


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ttur-10", "Did you mean 'ttur-10k'"),
        ("ttur-10k+strech=true", "strech"),
        ("ttur-10k+stretch", "name\\+field=value"),
        ("tabular+quantise=round", "no pixels"),
        ("ttur-10k+version=7", "changed version"),
        ("classifier-10k+preparation=ttur", "does not go with"),
        ("classifier-10k+weights=6726825d", "published weights"),
    ],
)
def test_nonsense_is_refused(name, words):
    with pytest.raises(InputError, match=words):
        protocol(name)
