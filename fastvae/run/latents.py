"""Paths through a latent space: between two examples, along a dimension or along the direction of an attribute.

A latent may have any shape; its dimensions are its elements, by their flattened index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastvae.data import Data
from fastvae.data.condition import ConditionField, LengthField
from fastvae.generative import AnyModel
from fastvae.records import Batch


def check_num(what: str, num: int) -> None:
    """Check that at least one example is requested.

    Raises:
        ValueError: it is not.
    """
    if num < 1:
        raise ValueError(f"{what}: num must be at least 1, got {num}")


def check_shape(what: str, latents: Tensor, shape: tuple[int, ...] | None) -> None:
    """Check that latents [N, ...] have the model's shape; None accepts any shape.

    Raises:
        ValueError: they do not.
    """
    if shape is not None and latents.shape[1:] != shape:
        raise ValueError(f"{what}: must have the model's latent shape {list(shape)}, got {list(latents.shape[1:])}")


def sampling_options(model: AnyModel, temperature: float | None) -> dict[str, float]:
    """Return the options of ``model.generate`` for sampling tokens; empty for the model's own temperature.

    Raises:
        ValueError: the model does not sample tokens, or the temperature is not a positive number.
    """
    if temperature is None:
        return {}
    if not model.draws_at_temperature:
        raise ValueError(f"sample: temperature requires a model of sentences, got {model.name}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"sample: temperature must be a positive number, got {temperature}")
    return {"temperature": temperature}


def perturb(mean: Tensor, noise: Tensor, strength: float) -> Tensor:
    """Return ``mean`` [...] plus ``strength`` times ``noise`` [N, ...].

    Raises:
        ValueError: the strength is not finite.
    """
    if not math.isfinite(strength):
        raise ValueError(f"vary: strength must be a finite number, got {strength}")
    return mean + strength * noise


def display_target(batch: Batch) -> Tensor:
    """Return the examples with missing values as NaN instead of their replacement."""
    if batch.mask is None or not batch.target.is_floating_point():
        return batch.target
    return batch.target.masked_fill(~batch.mask, math.nan)


def repeat_condition(condition: Tensor | None, num: int) -> Tensor | None:
    """Repeat one condition [1, C] for ``num`` examples; None stays None."""
    return None if condition is None else condition.expand(num, -1)


def widest_dimensions(means: Tensor, num: int) -> list[int]:
    """Return the dimensions whose posterior means [N, ...] vary most over the data, in decreasing order.

    Raises:
        ValueError: ``num`` is below 1.
    """
    if num < 1:
        raise ValueError(f"traverse: dimensions must be at least 1, got {num}")
    order: list[int] = means.flatten(1).var(0, correction=0).argsort(descending=True).tolist()
    return order[:num]


def mean_difference(means: Tensor, mask: Tensor) -> Tensor:
    """Return the mean latent [...] of the examples with an attribute minus that of the others.

    Args:
        means: posterior means [N, ...].
        mask: bool [N].

    Raises:
        ValueError: all examples have the attribute, or none.
    """
    num = int(mask.sum())
    if num in (0, len(means)):
        raise ValueError(f"attribute: some examples must have the attribute and others not, got {num} of {len(means)}")
    return means[mask].mean(0) - means[~mask].mean(0)


def unit_directions(dimensions: Sequence[int], scales: Tensor) -> Tensor:
    """Return directions [R, ...] along R dimensions, each with the length of its entry in ``scales`` [...]."""
    return torch.diag(scales.flatten())[list(dimensions)].unflatten(1, scales.shape)


def attribute_mask(data: Data, attribute: str) -> Tensor:
    """Return which training examples have an attribute, bool [N].

    Args:
        data: the data.
        attribute: ``label=3`` (or ``3``) for a class; the name of a numeric attribute for those above its median.

    Raises:
        ValueError: the attribute or value does not exist in the data, or a class has no value.
    """
    name, _, value = attribute.rpartition("=")
    fields = {field.name: field for field in data.known_fields()}
    name = name or (value if value in fields else "label")
    known = data.train.attribute(name) if name in fields else None
    if known is None:
        there_are = ", ".join(fields) or "none"
        raise ValueError(f"attribute: must be one of {there_are}, such as label=3, got {attribute!r}")
    if value == name:
        field = fields[name]
        if isinstance(field, ConditionField) and not isinstance(field, LengthField):
            raise ValueError(f"attribute: {name} requires a value, such as {name}={field.values[0]}")
        return known > known.float().median()
    return (fields[name].columns(known) == fields[name].vector(value)).all(1)
