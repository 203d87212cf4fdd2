"""The textbook training loop with the fused operator that samples z, as in the README."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import fastvae.ops


class TextbookVAE(nn.Module):
    def __init__(self, input_dim, hidden_dim, latent_dim):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(input_dim, hidden_dim), nn.ReLU())
        self.mu, self.logvar = nn.Linear(hidden_dim, latent_dim), nn.Linear(hidden_dim, latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, input_dim))

    def reparameterize(self, mu, logvar, step):
        z, self.kl = fastvae.ops.gaussian_rsample_kl(mu, logvar, fastvae.ops.noise_key(seed=0, step=step))
        return z

    def forward(self, x, step):
        hidden = self.encoder(x)
        mu, logvar = self.mu(hidden), self.logvar(hidden)
        return self.decoder(self.reparameterize(mu, logvar, step)), mu, logvar


def train(num_steps):
    torch.manual_seed(0)
    images = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    model = TextbookVAE(64, 128, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for step in range(num_steps):
        x = images[torch.randint(len(images), (128,))]
        reconstruction, mu, logvar = model(x, step)
        error = functional.mse_loss(reconstruction, x, reduction="sum")
        torch.testing.assert_close(model.kl, -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1), rtol=1e-4, atol=1e-4)
        loss = (error + model.kl.sum()) / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_textbook_loop_learns_and_is_reproducible():
    losses = train(300)
    assert sum(losses[-20:]) / 20 < 0.6 * losses[0]
    assert train(20) == losses[:20]
