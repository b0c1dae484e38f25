"""Mixtures of given size and the Bayesian mixture: same law as scikit-learn's, components that fade, names, states."""

import numpy as np
import pytest
import torch
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from vaelab.errors import InputError
from vaelab.latent import ClassMixture, Codes, JointMixture, Mixture, Site, law_of
from vaelab.latent.mixtures import infer
from vaelab.runs.stages import check_densities
from vaelab.specs import Density, Settings


def clusters(n=600, k=3, d=2, seed=0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = 6 * torch.eye(k, d, dtype=torch.float64) - 3 * torch.arange(k)[:, None]
    return centres[torch.arange(n) % k] + 0.5 * torch.randn(n, d, generator=generator, dtype=torch.float64)


def still(z: torch.Tensor, c: torch.Tensor | None = None) -> Codes:
    return Codes(z, torch.zeros_like(z), c)


def test_the_density_is_the_plug_in_of_scikit_learn_s_posterior_means():
    z = clusters()
    found = Mixture.fit_bayesian(still(z), components=5, seed=0)
    peer = BayesianGaussianMixture(
        n_components=5,
        weight_concentration_prior=0.2,
        reg_covar=1e-5,
        max_iter=200,
        random_state=0,
        init_params="k-means++",
    ).fit(z.numpy())
    laws = [
        np.log(weight) + torch.distributions.MultivariateNormal(torch.tensor(mean), torch.tensor(cov)).log_prob(z)
        for weight, mean, cov in zip(peer.weights_, peer.means_, peer.covariances_, strict=True)
    ]
    torch.testing.assert_close(found.log_prob(z), torch.stack(laws).logsumexp(0), rtol=1e-6, atol=1e-6)
    assert float(found.weights.sum()) == pytest.approx(1, abs=1e-12)
    assert found.covariance == "full"


def test_components_that_the_data_do_not_need_fade():
    found = infer(clusters(), 10, seed=0)
    weights = found.weights.sort(descending=True).values
    torch.testing.assert_close(weights[:3], torch.full((3,), 1 / 3, dtype=torch.float64), atol=0.03, rtol=0)
    assert float(weights[3:].max()) < 0.03
    plain = Mixture.fit(still(clusters()), components=10, seed=0)
    assert float(plain.weights.sort(descending=True).values[3]) > 0.03


def fitted(name, codes, seed=0):
    law = Density.of(name)
    return law_of(law).fit(law, codes, Site(Settings(seed=seed)), None)


def test_names_say_how_many_components():
    codes = still(clusters(n=300))
    assert fitted("gaussian", codes).components == 1
    ten = fitted("mixture_10", codes)
    assert (ten.components, ten.covariance) == (10, "full")
    assert fitted("mixture_100", codes).components == 100
    assert fitted("bayesian_mixture", codes).components == 10
    two = fitted("mixture(2, diag)", codes)
    assert (two.components, two.covariance) == (2, "diag")
    for name in ("mixture_10", "bayesian_mixture"):
        found = fitted(name, codes, seed=3)
        law = Density.of(name)
        rebuilt = law_of(law).rebuild(law, found.state_dict(), Site(Settings(latent_dim=2)))
        assert torch.equal(rebuilt.log_prob(codes.loc), found.log_prob(codes.loc))
        assert torch.equal(fitted(name, codes, seed=3).means, found.means)


def test_a_seed_gives_other_rows_but_the_same_law():
    codes = Codes(clusters(), torch.full((600, 2), 0.3, dtype=torch.float64))
    one, other = (Mixture.fit_bayesian(codes, components=3, seed=seed).log_prob(codes.loc) for seed in (0, 1))
    assert not torch.equal(one, other)
    assert float(one.mean()) == pytest.approx(float(other.mean()), abs=0.1)


def test_sizes_under_conditions():
    z = clusters()
    classes = torch.eye(3, dtype=torch.float64)[torch.arange(600) % 3]
    per_class = fitted("mixture_10", still(z, classes))
    assert isinstance(per_class, ClassMixture)
    assert per_class.parts[0].components == 10
    joint = fitted("mixture_10", still(z, z[:, :1] + 0.1))
    assert isinstance(joint, JointMixture)
    assert joint.components == 10


def test_what_cannot_be_fitted_is_refused_before_training():
    z = clusters(n=60)
    with pytest.raises(InputError, match="under conditions"):
        check_densities([Density.of("bayesian_mixture")], (2,))
    with pytest.raises(InputError, match="under conditions"):
        check_densities([Density.of("bayesian_mixture")], (3,))
    with pytest.raises(InputError, match="sequences"):
        check_densities([Density.of("mixture_10")], (4, 3))
    with pytest.raises(InputError, match="at least 100 for 100 components"):
        fitted("mixture_100", still(z))
    with pytest.raises(InputError, match="at least 10 for 10 components"):
        fitted("bayesian_mixture", still(z[:9]))
    with pytest.raises(InputError, match="mixture_1000"):
        fitted("mixture_1000", still(z))
    check_densities([Density.of("bayesian_mixture"), Density.of("mixture_10")], ())
    names = ("mixture_10", "bayesian_mixture")
    assert tuple(law.name for law in Settings(densities=names).densities) == names


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_a_mixture_of_means_is_the_program_of_rae(covariance):
    """scikit-learn's EM with the program's settings, on means, whatever the posteriors' variances are; and rebuilt."""
    z = clusters()
    law = Density.of(f"mixture(3, {covariance}, codes=means)")
    site = Site(Settings(latent_dim=2))
    found = law_of(law).fit(law, Codes(z, torch.full_like(z, 5.0)), site, lambda model, length, stage: model)
    peer = GaussianMixture(3, covariance_type=covariance, max_iter=2000, reg_covar=1e-6, random_state=0).fit(z.numpy())
    np.testing.assert_allclose(found.log_prob(z).numpy(), peer.score_samples(z.numpy()), rtol=1e-6, atol=1e-6)
    again = law_of(law).rebuild(law, found.state_dict(), site)
    assert torch.equal(again.log_prob(z), found.log_prob(z))
    with pytest.raises(InputError, match="3 components"):
        law_of(law).fit(law, still(z[:2]), site, None)
    with pytest.raises(InputError, match="mixture of means under conditions"):
        check_densities([law], (3,))
