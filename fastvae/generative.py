"""Any module as a `GenerativeModel`: all checks of which methods a user's model has are here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args

from torch import Tensor, nn

from fastvae.likelihoods import Likelihood
from fastvae.records import Batch, DistortionUnit, Draw, HasMean, KeyedBatch, VAETerms


class AnyModel:
    """A model with defaults for attributes that it does not declare; errors name methods that it does not have.

    Args:
        module: the model, not wrapped.

    Raises:
        ValueError: ``distortion_unit`` is not one of the known units, or ``estimates_elbo`` contradicts it.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.name = type(module).__name__
        self.distortion_unit: DistortionUnit = getattr(module, "distortion_unit", "nats")
        self.estimates_elbo: bool = getattr(module, "estimates_elbo", self.distortion_unit == "nats")
        self.latent_shape: tuple[int, ...] | None = getattr(module, "latent_shape", None)
        self.draws_at_temperature: bool = getattr(module, "draws_at_temperature", False)
        self.has_rate: bool = getattr(module, "has_rate", True)
        likelihood = getattr(module, "likelihood", None)
        self.likelihood = likelihood if isinstance(likelihood, Likelihood) else None
        parameters = inspect.signature(module.forward).parameters
        self.takes_draw = "draw" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        if self.distortion_unit not in get_args(DistortionUnit):
            known = " or ".join(map(repr, get_args(DistortionUnit)))
            raise ValueError(f"{self.name}.distortion_unit must be {known}, got {self.distortion_unit!r}")
        if self.estimates_elbo and self.distortion_unit != "nats":
            raise ValueError(
                f"{self.name}: a model whose distortion is a {self.distortion_unit} must set estimates_elbo = False"
            )

    @property
    def distortion_name(self) -> str:
        """Name of the distortion in metrics and tables, with its unit."""
        return "distortion_nats" if self.distortion_unit == "nats" else "squared_error"

    def can(self, method: str) -> bool:
        """Whether the model has this method of `GenerativeModel`."""
        return callable(getattr(self.module, method, None))

    def require(self, method: str, purpose: str) -> None:
        """Check that the model has a method.

        Raises:
            ValueError: it does not.
        """
        if not self.can(method):
            raise ValueError(f"{self.name} has no {method}: it cannot {purpose}; a VAE can")

    def require_elbo(self, purpose: str) -> None:
        """Check that the model estimates the ELBO.

        Raises:
            ValueError: it does not.
        """
        if not self.estimates_elbo:
            raise ValueError(f"{self.name} estimates no ELBO: it cannot {purpose}; use a VAE")

    def require_draw(self, purpose: str) -> None:
        """Check that the model's forward takes a draw.

        Raises:
            ValueError: it takes ``(batch, noise_key)`` only.
        """
        if not self.takes_draw:
            raise ValueError(
                f"{self.name}.forward takes (batch, noise_key) only: it cannot {purpose};"
                " add a third parameter draw (fastvae.Draw)"
            )

    def terms(self, keyed: KeyedBatch, draw: Draw) -> VAETerms:
        """Run one forward pass. A model with ``(batch, noise_key)`` only samples as in training."""
        options: dict[str, Draw] = {"draw": draw} if self.takes_draw and draw != Draw() else {}
        terms: VAETerms = self.module(keyed.batch, keyed.key, **options)
        return terms

    def encode(self, batch: Batch) -> Any:
        """See `GenerativeModel.encode`."""
        return self._method("encode", "encode")(batch)

    def kl_per_dimension(self, posterior: Any) -> Tensor | None:
        """See `GenerativeModel.kl_per_dimension`; None for a model without it, whose prior is unknown."""
        if not self.can("kl_per_dimension"):
            return None
        kl: Tensor | None = self._method("kl_per_dimension", "return the rate per dimension")(posterior)
        return kl

    def generate(self, z: Tensor, condition: Tensor | None = None, key: Tensor | None = None, **how: float) -> Tensor:
        """See `GenerativeModel.generate`."""
        examples: Tensor = self._method("generate", "decode")(z, condition, key, **how)
        return examples

    def reconstruct(self, batch: Batch) -> Tensor:
        """See `GenerativeModel.reconstruct`."""
        examples: Tensor = self._method("reconstruct", "reconstruct")(batch)
        return examples

    def draw_prior(self, num: int, noise_key: Tensor) -> Tensor:
        """See `GenerativeModel.draw_prior`."""
        z: Tensor = self._method("draw_prior", "sample")(num, noise_key)
        return z

    def sample(self, num: int, noise_key: Tensor, **options: Any) -> Tensor:
        """See `GenerativeModel.sample`."""
        examples: Tensor = self._method("sample", "sample")(num, noise_key, **options)
        return examples

    def _method(self, name: str, purpose: str) -> Callable[..., Any]:
        self.require(name, purpose)
        method: Callable[..., Any] = getattr(self.module, name)
        return method


def mean_of(posterior: Tensor | HasMean) -> Tensor:
    """Return the mean latents [B, ...] of a model's `encode`: a code is its own mean."""
    return posterior if isinstance(posterior, Tensor) else posterior.mu
