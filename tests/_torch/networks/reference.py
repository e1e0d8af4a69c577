"""The paper's network as one would write it from the appendix, layer by layer."""

import torch
from torch import nn
from torch.nn import functional as F


class PlainPaperNetwork(nn.Module):
    """Plain layers with the names of PaperNetwork, so that weights can be copied."""

    def __init__(self, channels, side, n_targets, latent_dim):
        super().__init__()
        self.small = side // 4
        n_units = 64 * self.small**2
        self.conv1 = nn.Conv2d(channels, 32, 3, padding="same")
        self.conv2 = nn.Conv2d(32, 64, 3, padding="same")
        self.dense_phy = nn.Linear(n_units, n_targets)
        self.dense_rest = nn.Linear(n_units, latent_dim - n_targets)
        self.dense_decoder = nn.Linear(latent_dim, n_units)
        self.upconv1 = nn.Conv2d(64, 64, 3, padding="same")
        self.upconv2 = nn.Conv2d(64, 32, 3, padding="same")
        self.conv_out = nn.Conv2d(32, channels, 3, padding="same")

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.flatten(1)
        z_phy, z_rest = self.dense_phy(x), F.relu(self.dense_rest(x))
        x = F.relu(self.dense_decoder(torch.cat([z_phy, z_rest], 1)))
        x = x.reshape(-1, 64, self.small, self.small)
        x = F.relu(self.upconv1(F.interpolate(x, scale_factor=2, mode="nearest")))
        x = F.relu(self.upconv2(F.interpolate(x, scale_factor=2, mode="nearest")))
        return z_phy, z_rest, torch.sigmoid(self.conv_out(x))
