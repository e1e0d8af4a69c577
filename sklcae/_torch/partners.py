"""Draw, for each stamp, another stamp of the same group for the exchange loss."""

import numpy as np
import torch


class Partners:
    """For each stamp, another stamp of the same group.

    All arguments have the shape (n,). Only a usable stamp may be the partner of
    another. Without weights all stamps have the same weight.
    """

    def __init__(self, groups, usable, weights=None):
        order = np.argsort(groups, kind="stable")
        self.order = order[usable[order]]
        members = groups[self.order]
        self.start = np.searchsorted(members, groups)
        self.place = np.full(len(groups), -1)
        self.place[self.order] = np.arange(len(self.order)) - self.start[self.order]
        size = np.searchsorted(members, groups, side="right") - self.start
        self.n_others = size - usable
        self.weights = np.ones(len(groups)) if weights is None else weights
        counted = usable * self.weights
        others = np.bincount(groups, counted)[groups] - counted
        self.mean_of_others = others / np.maximum(self.n_others, 1)

    def draw(self, rows, generator=None):
        """Return the partners of some rows, (m,), and whether each has one, (m,).

        A stamp without a partner is its own. Without a generator the partner is always
        the next stamp of the group.
        """
        rows = np.asarray(rows)
        n_others, place = self.n_others[rows], self.place[rows]
        has_partner = n_others > 0
        if generator is None:
            step = np.zeros(len(rows), dtype=int)
        else:
            uniform = torch.rand(len(rows), generator=generator, dtype=torch.float64)
            step = (uniform.numpy() * n_others).astype(int)
        # Counted from the stamp itself, if it is usable.
        size = np.maximum(n_others + (place >= 0), 1)
        partner = self.start[rows] + (place + 1 + step) % size
        partner = (
            self.order[np.where(has_partner, partner, 0)] if len(self.order) else rows
        )
        return np.where(has_partner, partner, rows), has_partner

    def shares(self, rows, partner_rows):
        """Return the weights of partners relative to the mean of all candidates, (m,).

        The arguments are rows and partners as in `draw`. The shares, float32, have mean
        1 over the candidates of a stamp. A weight then decides which candidates count,
        and not how much all of them count.
        """
        mean = self.mean_of_others[np.asarray(rows)]
        shares = self.weights[partner_rows] / np.where(mean > 0, mean, 1)
        return shares.astype(np.float32)
