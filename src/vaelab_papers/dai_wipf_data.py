"""Published FIDs of Dai & Wipf 2019, as they stand in Table 1 of the final paper and of the review version.

Means and standard deviations of 10 trials. The GANs are those of Lucic et al. 2018, the same in both.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vaelab_papers.trials import Number, Trials

_pm = Trials  # mean ± deviation


class Numbers(NamedTuple):
    """Rows of one data set.

    Attributes
    ----------
    final
        ``fixed`` and ``learned`` γ, ``two_stage``.
    review
        The same of the review version, its cross-entropy VAE (``entropy``), and 2-Stage VAE* (``picked``).
    """

    final: dict[str, Trials]
    review: dict[str, Trials]


NUMBERS: Final = {
    "mnist": Numbers(
        {"fixed": _pm(52.0, 0.6), "learned": _pm(54.5, 1.0), "two_stage": _pm(12.6, 1.5)},
        {
            "entropy": _pm(23.8, 0.6), "fixed": _pm(51.2, 0.8), "learned": _pm(47.0, 0.9),
            "two_stage": _pm(13.4, 1.3), "picked": _pm(11.2, 0.5),
        },
    ),
    "fashion_mnist": Numbers(
        {"fixed": _pm(84.6, 0.9), "learned": _pm(60.0, 1.1), "two_stage": _pm(29.3, 1.0)},
        {
            "entropy": _pm(58.7, 1.2), "fixed": _pm(104.5, 1.3), "learned": _pm(51.5, 1.0),
            "two_stage": _pm(22.0, 0.6), "picked": _pm(21.3, 0.4),
        },
    ),
    "cifar10": Numbers(
        {"fixed": _pm(160.5, 1.1), "learned": _pm(76.7, 0.8), "two_stage": _pm(72.9, 0.9)},
        {
            "entropy": _pm(155.7, 11.6), "fixed": _pm(113.0, 0.7), "learned": _pm(80.1, 0.6),
            "two_stage": _pm(71.0, 0.6), "picked": _pm(68.0, 0.8),
        },
    ),
    "celeba": Numbers(
        {"fixed": _pm(55.9, 0.6), "learned": _pm(60.5, 0.6), "two_stage": _pm(44.4, 0.7)},
        {
            "entropy": _pm(85.7, 3.8), "fixed": _pm(119.8, 0.9), "learned": _pm(67.4, 2.1),
            "two_stage": _pm(45.9, 1.4), "picked": _pm(23.8, 0.5),
        },
    ),
}  # fmt: skip

REVIEW_MEANS: Final = {
    "MM GAN": _pm(44.4, 2.6), "NS GAN": _pm(36.7, 1.8), "LSGAN": _pm(44.9, 13.3), "WGAN": _pm(31.2, 1.6),
    "WGAN GP": _pm(32.7, 2.3), "DRAGAN": _pm(36.9, 1.7), "BEGAN": _pm(36.6, 1.1), "entropy": _pm(81, 4.3),
    "fixed": _pm(97.1, 0.9), "learned": _pm(61.5, 1.2), "two_stage": _pm(38.1, 1.0), "picked": _pm(31.1, 0.6),
}  # fmt: skip
"""Over the four data sets; the last column of the review version."""

GANS: Final[dict[str, dict[str, Number]]] = {
    # settings searched for each data set; "Best GAN, default" read off a figure of Lucic et al.
    "mnist": {
        "MM GAN": _pm(9.8, 0.9), "NS GAN": _pm(6.8, 0.5), "LSGAN": _pm(7.8, 0.6), "WGAN": _pm(6.7, 0.4),
        "WGAN GP": _pm(20.3, 5.0), "DRAGAN": _pm(7.6, 0.4), "BEGAN": _pm(13.1, 1.0), "Best GAN, default": 10.0,
    },
    "fashion_mnist": {
        "MM GAN": _pm(29.6, 1.6), "NS GAN": _pm(26.5, 1.6), "LSGAN": _pm(30.7, 2.2), "WGAN": _pm(21.5, 1.6),
        "WGAN GP": _pm(24.5, 2.1), "DRAGAN": _pm(27.7, 1.2), "BEGAN": _pm(22.9, 0.9), "Best GAN, default": 32.0,
    },
    "cifar10": {
        "MM GAN": _pm(72.7, 3.6), "NS GAN": _pm(58.5, 1.9), "LSGAN": _pm(87.1, 47.5), "WGAN": _pm(55.2, 2.3),
        "WGAN GP": _pm(55.8, 0.9), "DRAGAN": _pm(69.8, 2.0), "BEGAN": _pm(71.4, 1.6), "Best GAN, default": 70.0,
    },
    "celeba": {
        "MM GAN": _pm(65.6, 4.2), "NS GAN": _pm(55.0, 3.3), "LSGAN": _pm(53.9, 2.8), "WGAN": _pm(41.3, 2.0),
        "WGAN GP": _pm(30.3, 1.0), "DRAGAN": _pm(42.3, 3.0), "BEGAN": _pm(38.9, 0.9), "Best GAN, default": 49.0,
    },
}  # fmt: skip

CELEBA_WAE: Final = {"VAE with WAE's network": 63.0, "WAE-MMD": 55.0, "WAE-GAN": 42.0}
"""FIDs on CelebA, of section 5 of the review version."""
