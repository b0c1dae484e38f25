"""What papers compare VAEs with: GANs, which have a generator and no encoder."""

from vaelab.baselines.gan import GAN, Judge, build_gan

__all__ = ["GAN", "Judge", "build_gan"]
