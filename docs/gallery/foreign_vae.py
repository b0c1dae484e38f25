"""A VAE of your own code: what is wrong with it, and better samples without training it again.

The weight of its squared error, 20, was found by hand, and stands for a decoder variance of 1/40. `diagnose` says with
numbers what that does; `enhance` finds where the codes are, and draws from there.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

import vaelab


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64), nn.Unflatten(1, (1, 8, 8)))

    def encode(self, x):
        return self.encoder(x).chunk(2, dim=1)  # mean, log variance

    def decode(self, z):
        return self.decoder(z)


X = torch.as_tensor(load_digits().images[:, None] / 16, dtype=torch.float32)
model = Plain()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
steps = 1500
for _ in range(steps):
    x = X[torch.randint(len(X), (128,))]
    mean, log_variance = model.encode(x)
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    error = (x - model.decode(mean + (log_variance / 2).exp() * torch.randn_like(mean))).square().sum((1, 2, 3))
    optimizer.zero_grad()
    (20 * error + kl).mean().backward()
    optimizer.step()

report = vaelab.diagnose(model, X, gamma=1 / 40, pictures=False)
print(report)
better = vaelab.enhance(model, X, densities=("gaussian", "mixture_10"), gamma=1 / 40)
print(better)

figure, axes = plt.subplots(2, 14, figsize=(7.2, 1.3))
prior = model.decode(torch.randn(14, 8)).detach().numpy()
for line, images, name in zip(axes, (prior, better.sample(14)), ("its prior", better.best), strict=True):
    for place, image in zip(line, images, strict=True):
        place.imshow(image[0], vmin=0, vmax=1)
        place.set(xticks=[], yticks=[])
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
figure.savefig("foreign_vae.png")
