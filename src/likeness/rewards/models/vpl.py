"""Reward model ``vpl``: a taste as a latent that a user's votes tell of (Variational Preference Learning, 2408.10075).

A pair encoder h_i = MLP([e_w, e_l]), pooled by attention over the N pairs of one user, gives q(z | pairs) =
N(mu, sigma²); r(x, c, z) is a head that also sees z. Maximised is the ELBO of Bradley-Terry, E_q log sigma(r_w - r_l) -
beta KL(q || N(0, 1)), beta growing over the first epochs. Called without a user, z is the prior's mean 0: nobody in
particular. Shapes: B samples, F image features, D joint embedding, Z latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from likeness.core.config import Config
from likeness.rewards.fit import FitConfig, Scale, calibration, descend
from likeness.rewards.learnt import REWARD_MODELS, FitData, Fitted, RewardModel
from likeness.rewards.loss import bradley_terry_loss
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from torch import Tensor


class VplConfig(Config):
    """``latent``: Z. ``hidden``: of the pair encoder; ``width``: of the head. ``context``: pairs of a user that it is
    shown in training, at most.

    ``kl``: beta at its full size, reached after ``anneal`` epochs. ``radius``: bring z to length sqrt(Z), as the
    authors' code does; the prior's mean then is no user at all, and the average is taken over the training users.
    """

    latent: int = Field(default=6, ge=1)
    hidden: int = Field(default=48, ge=1)
    width: int = Field(default=32, ge=1)
    context: int = Field(default=12, ge=1)
    kl: float = Field(default=0.01, ge=0)
    anneal: int = Field(default=10, ge=1)
    radius: bool = False


@dataclass
class VplScorer:
    """``net``: pair encoder and head; ``z``: (Z,) of the user it scores for."""

    config: VplConfig
    net: Any
    mean: Tensor
    std: Tensor
    z: Tensor
    scale: Scale = field(default_factory=Scale)

    def raw(self, features: Tensor, text: Tensor, z: Tensor | None = None) -> Tensor:
        """(B,) uncalibrated; ``z``: (B, Z) or (Z,), by default the scorer's own."""
        import torch

        latent = self.z if z is None else z
        seen = (features - self.mean) / self.std
        # The taste turns what is seen: a latent that only adds a number cannot change an order.
        turned = torch.cat([seen, latent.expand(len(features), -1)], dim=1)
        score: Tensor = self.net["head"](turned).squeeze(1)
        return score

    def __call__(self, features: Tensor, text: Tensor) -> Tensor:
        return (self.raw(features, text) - self.scale.centre) / self.scale.temperature

    def posterior(self, context: PairFeatures) -> tuple[Tensor, Tensor]:
        """mu and log sigma², (Z,) each, of one user's pairs, in any order; the prior's where there is none."""
        import torch

        if not len(context):
            return torch.zeros_like(self.z), torch.zeros_like(self.z)
        sides = [(side - self.mean) / self.std for side in (context.chosen, context.rejected)]
        encoded = self.net["pairs"](torch.cat(sides, dim=1))
        weight = self.net["attention"](encoded).softmax(dim=0)
        # As many pairs as there are say more than one: the pooled vector is a sum of shares times their square root.
        pooled = (weight * encoded).sum(dim=0) * len(context) ** 0.5
        mu, log_variance = self.net["posterior"](pooled).chunk(2)
        if self.config.radius:
            mu = mu / mu.norm().clamp(min=1e-6) * len(mu) ** 0.5
        return mu, log_variance.clamp(-8, 2)

    def for_user(self, context: PairFeatures) -> VplScorer:
        """The same model for the user who cast these votes."""
        import torch

        with torch.no_grad():
            return replace(self, z=self.posterior(context)[0])

    def state(self) -> dict[str, Tensor]:
        """The network, what standardises, the average user and the scale."""
        import torch

        scale = torch.tensor([self.scale.centre, self.scale.temperature], dtype=torch.float32)
        net = {f"net.{name}": value.detach() for name, value in self.net.state_dict().items()}
        return {**net, "mean": self.mean, "std": self.std, "z": self.z, "scale": scale}


def build(config: VplConfig, mean: Tensor, std: Tensor, dropout: float = 0.0) -> VplScorer:
    """An untrained scorer; ``mean``, ``std``: (F,) standardise the features."""
    import torch
    from torch import nn

    inputs, hidden, latent = len(mean), config.hidden, config.latent
    net = nn.ModuleDict(
        {
            "pairs": nn.Sequential(nn.Linear(2 * inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden)),
            "attention": nn.Linear(hidden, 1),
            "posterior": nn.Linear(hidden, 2 * latent),
            "head": nn.Sequential(
                nn.Dropout(dropout),
                nn.Linear(inputs + latent, config.width),
                nn.GELU(),
                nn.Linear(config.width, 1, bias=False),
            ),
        }
    )
    return VplScorer(config, net, mean, std, torch.zeros(latent))


def fit_vpl(config: VplConfig, fit: FitConfig, data: FitData) -> Fitted:
    """Maximise the ELBO over the users of the training pairs; votes of nobody are scored for the average user.

    Raises:
        TrainingError: the loss is not finite.
    """
    import torch

    train = data.train
    own = [torch.nonzero(train.annotator == user).flatten() for user in range(len(train.people))]
    batches = -(-len(train) // fit.batch)
    steps = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        pictures = torch.cat([train.chosen, train.rejected])
        scorer = build(config, pictures.mean(0), pictures.std(0) + 1e-4, fit.dropout)

        def loss(pairs: PairFeatures) -> Tensor:
            nonlocal steps
            training = scorer.net.training
            users = sorted({int(user) for user in pairs.annotator if user >= 0})
            latent = {user: _context(scorer, train, own[user], training) for user in users if len(own[user])}
            z, kl = _latents(scorer, pairs, latent, training)
            better, worse = (scorer.raw(side, pairs.text, z) for side in (pairs.chosen, pairs.rejected))
            each = pairs.weight * bradley_terry_loss(better, worse, pairs.margin, pairs.smoothing)
            if not training:
                return each
            steps += 1
            return each + config.kl * min(1.0, steps / (batches * config.anneal)) * kl

        went = descend(scorer.net, loss, fit, train, data.validation)
        scorer.net.eval()
        if config.radius:
            with torch.no_grad():
                known = [scorer.posterior(train.take(rows))[0] for rows in own if len(rows)]
            scorer.z = torch.stack(known).mean(0) if known else scorer.z
    scorer.scale = calibration(scorer.raw, train, data.validation)
    return Fitted(scorer, {**went.record, "temperature": round(scorer.scale.temperature, 6), "users": len(own)})


def _context(scorer: VplScorer, train: PairFeatures, rows: Tensor, training: bool) -> tuple[Tensor, Tensor]:
    """The posterior given some of a user's pairs: in training a random number of them, else the first."""
    import torch

    most = min(len(rows), scorer.config.context)
    if training:
        rows = rows[torch.randperm(len(rows))[: int(torch.randint(1, most + 1, ()))]]
    return scorer.posterior(train.take(rows[:most]))


def _latents(
    scorer: VplScorer, pairs: PairFeatures, latent: Mapping[int, tuple[Tensor, Tensor]], training: bool
) -> tuple[Tensor, Tensor]:
    """z (P, Z), drawn in training, and KL to the prior (P,), each pair's user's."""
    import torch

    nobody = (torch.zeros_like(scorer.z), torch.zeros_like(scorer.z))
    each = [latent.get(int(user), nobody) for user in pairs.annotator]
    mu, log_variance = (torch.stack([one[k] for one in each]) for k in (0, 1))
    kl = 0.5 * (mu.square() + log_variance.exp() - log_variance - 1).sum(dim=1)
    if training and not scorer.config.radius:
        mu = mu + (0.5 * log_variance).exp() * torch.randn_like(mu)
    return mu, kl


def load_vpl(config: VplConfig, state: Mapping[str, Tensor], dimension: int) -> VplScorer:
    """The inverse of :meth:`VplScorer.state`, for the average user."""
    scorer = build(config, state["mean"], state["std"])
    scorer.net.load_state_dict({k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")})
    scorer.net.eval().requires_grad_(False)
    centre, temperature = (float(value) for value in state["scale"])
    return replace(scorer, z=state["z"], scale=Scale(centre, temperature))


_MODEL: RewardModel[Any] = RewardModel(VplConfig, fit_vpl, load_vpl)
REWARD_MODELS.add("vpl", _MODEL, __name__)
