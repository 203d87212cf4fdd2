"""Call the native operators with random shapes, strides, types and values, and compare with the reference in PyTorch.

``python operator_fuzz.py SEED CALLS`` prints the number of calls, or raises; it imports nothing from the tests, so that
it also runs with a library built under a sanitizer. Other tests check the accuracy: the comparison here is coarse and
detects values from a wrong index, unexpected NaN, and missing NaN.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastvae.ops import backend, noise_key, reference

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
TOLERANCES = {torch.float32: 2e-4, torch.float64: 1e-9, torch.bfloat16: 2e-2, torch.float16: 4e-3}
BATCHES = (0, 1, 2, 3, 5, 17, 70, 257)
EVENTS = ((), (0,), (1,), (3,), (8,), (15,), (16,), (17,), (2, 3), (33,), (64,), (5, 13), (130,), (1025,))
SPECIAL = (float("inf"), -float("inf"), float("nan"), 0.0, -0.0, 1e-40, 1e30, -1e30, 88.8, -88.8, 700.0, -103.9)


class Draw:
    """Random inputs from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype, *, special: float = 0.15) -> Tensor:
        """Return random numbers of a random scale and strides; with probability ``special`` some are from `SPECIAL`."""
        scale = 10 ** self.random.uniform(-3, 1)
        values = torch.randn(shape, generator=self.generator, dtype=torch.float64) * scale
        if values.numel() and self.random.random() < special:
            for _ in range(self.random.randint(1, 3)):
                values.view(-1)[self.random.randrange(values.numel())] = self.random.choice(SPECIAL)
        return self.strided(values.to(dtype))

    def strided(self, values: Tensor) -> Tensor:
        """Return the same numbers with the strides of one kind of view."""
        kind = self.random.choice(("plain", "plain", "offset", "every second", "turned", "expanded"))
        if kind == "offset":  # not the start of an allocation
            held = torch.empty(values.numel() + 3, dtype=values.dtype)[self.random.randint(1, 3) :][: values.numel()]
            return held.view(values.shape).copy_(values)
        if kind == "every second" and values.dim():
            held = torch.empty((*values.shape[:-1], 2 * values.shape[-1]), dtype=values.dtype)[..., ::2]
            return held.copy_(values)
        if kind == "turned" and values.dim() > 1:
            return values.transpose(0, -1).contiguous().transpose(0, -1)
        if kind == "expanded" and values.dim() > 1 and values.shape[0]:
            return values[:1].expand(values.shape)
        return values

    def rows(self) -> tuple[int, tuple[int, ...]]:
        return self.random.choice(BATCHES), self.random.choice(EVENTS)

    def key(self) -> Tensor:
        integer = self.random.randrange
        return noise_key(integer(2**32), integer(2**32), integer(2**40))

    def stream(self) -> int:
        return self.random.randrange(2**32)

    def maybe(self, make: Callable[[], Tensor]) -> Tensor | None:
        return make() if self.random.random() < 0.6 else None

    def flag(self) -> bool:
        return self.random.random() < 0.7


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which operators compute."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def gaussian_calls(draw: Draw) -> list[tuple[str, tuple[Any, ...]]]:
    dtype, (batch, event) = draw.random.choice(DTYPES), draw.rows()
    shape, stream, key, c = (batch, *event), draw.stream(), draw.key(), wide(dtype)
    mu, logvar = draw.tensor(shape, dtype), draw.tensor(shape, dtype)
    grad_z, grad_kl = draw.maybe(lambda: draw.tensor(shape, dtype)), draw.maybe(lambda: draw.tensor((batch,), c))
    samples, first = draw.random.randint(2, 4), draw.random.randrange(100)
    grads = (
        draw.maybe(lambda: draw.tensor((samples, *shape), dtype)),
        draw.maybe(lambda: draw.tensor((samples, batch), c)),
    )
    low = stream % 2**31
    return [
        ("gaussian_rsample_kl", (mu, logvar, key, stream)),
        ("gaussian_rsample_kl_backward", (grad_z, grad_kl, mu, logvar, key, stream, draw.flag(), draw.flag())),
        ("gaussian_rsample_log_ratio", (mu, logvar, key, samples, low, first)),
        (
            "gaussian_rsample_log_ratio_backward",
            (*grads, mu, logvar, key, samples, low, first, draw.flag(), draw.flag()),
        ),
        ("philox_normal", (key, batch, len(event) and event[0], stream)),
        ("philox_uniform", (key, batch, len(event) and event[0], stream)),
        ("philox_integers", (key, batch, len(event) and event[0], stream)),
    ]


def full_calls(draw: Draw) -> list[tuple[str, tuple[Any, ...]]]:
    dtype, (batch, event) = draw.random.choice(DTYPES), draw.rows()
    shape, stream, key, c = (batch, *event), draw.stream(), draw.key(), wide(dtype)
    mu, logvar = draw.tensor(shape, dtype), draw.tensor(shape, dtype)
    prior: tuple[Tensor | None, Tensor | None] = (None, None)
    if draw.flag():
        prior = (draw.tensor(shape, dtype), draw.tensor(shape, dtype))
    reduction = draw.random.randrange(4)
    dims = 1
    for size in event:
        dims *= size
    grad_kl = draw.tensor(shape if reduction == 0 else (batch,), c) if reduction != 2 and draw.flag() else None
    grad_dim = draw.tensor((dims,), c) if reduction >= 2 and draw.flag() else None
    grad_z = draw.maybe(lambda: draw.tensor(shape, dtype))
    needs = (draw.flag(), draw.flag(), prior[0] is not None and draw.flag(), prior[0] is not None and draw.flag())
    return [
        ("gaussian_rsample_kl_full", (mu, logvar, *prior, key, stream, reduction)),
        (
            "gaussian_rsample_kl_full_backward",
            (grad_z, grad_kl, grad_dim, mu, logvar, *prior, key, stream, reduction, *needs),
        ),
    ]


def likelihood_calls(draw: Draw) -> list[tuple[str, tuple[Any, ...]]]:
    dtype, (batch, event) = draw.random.choice(DTYPES), draw.rows()
    shape, c = (batch, *event), wide(dtype)
    lead = (draw.random.randint(1, 3),) if draw.random.random() < 0.4 else ()
    output = draw.tensor((*lead, *shape), dtype)
    grad = draw.tensor((*lead, batch), c)
    mask = draw.maybe(lambda: draw.strided(torch.rand(shape, generator=draw.generator) < 0.7))
    target_dtype = draw.random.choice((dtype, torch.float32))
    target = draw.tensor(shape, target_dtype)
    fraction = draw.strided(torch.rand(shape, generator=draw.generator).to(target_dtype))
    spread_shape = draw.random.choice(((), event, (*lead, *shape)))
    spread = draw.tensor(spread_shape, draw.random.choice((dtype, torch.float32)))
    scale = draw.strided(spread.clamp(min=-80))  # below, 1 / scale overflows, and its product with 0 is undefined
    levels = draw.random.choice((2, 17, 256))
    pixels = torch.randint(0, levels, shape, generator=draw.generator)
    pixels = draw.strided(pixels.to(draw.random.choice((torch.uint8, torch.float32))))
    needs = (draw.flag(), draw.flag())
    return [
        ("bernoulli_nll", (output, fraction, mask)),
        ("bernoulli_nll_backward", (grad, output, fraction, mask)),
        ("bernoulli_nll_and_gradient", (output, fraction)),
        ("gaussian_nll", (output, target, spread, mask)),
        ("gaussian_nll_backward", (grad, output, target, spread, mask, *needs)),
        ("discretized_logistic_nll", (output, scale, pixels, mask, levels)),
        ("discretized_logistic_nll_backward", (grad, output, scale, pixels, mask, levels, *needs)),
    ]


def multinomial_calls(draw: Draw) -> list[tuple[str, tuple[Any, ...]]]:
    dtype, batch, items = draw.random.choice(DTYPES), draw.random.choice(BATCHES), draw.random.choice((1, 3, 17, 1025))
    lead = (draw.random.randint(1, 3),) if draw.random.random() < 0.4 else ()
    logits = draw.tensor((*lead, batch, items), dtype)
    grad = draw.tensor((*lead, batch), wide(dtype))
    counts = torch.randint(0, 3, (batch, items), generator=draw.generator).to(
        draw.random.choice((dtype, torch.float32))
    )
    counts *= torch.rand(counts.shape, generator=draw.generator) < 0.3
    sparse = counts.to_sparse_csr()
    csr = (sparse.crow_indices(), sparse.col_indices(), sparse.values())
    _, *kept = reference.multinomial_nll(logits, counts)
    return [
        ("multinomial_nll", (logits, draw.strided(counts))),
        ("multinomial_nll_backward", (grad, logits, draw.strided(counts), *kept)),
        ("multinomial_nll_csr", (logits, *csr)),
        ("multinomial_nll_csr_backward", (grad, logits, *csr, *kept)),
    ]


FAMILIES = (gaussian_calls, full_calls, likelihood_calls, multinomial_calls)


def compare(name: str, args: tuple[Any, ...]) -> None:
    """Compare the native operator and the reference on the same arguments, which neither may change."""
    before = [arg.clone() if isinstance(arg, Tensor) else arg for arg in args]
    found = getattr(torch.ops.fastvae, name)(*args)
    truth = getattr(reference, name)(*args)
    for arg, old in zip(args, before, strict=True):
        if isinstance(arg, Tensor) and not torch.equal(arg.nan_to_num(), old.nan_to_num()):
            raise AssertionError("an argument was written to")
    infinite = any(isinstance(arg, Tensor) and bool(arg.isinf().any()) for arg in args)
    founds, truths = ((value,) if isinstance(value, Tensor) else value for value in (found, truth))
    for index, (ours, theirs) in enumerate(zip(founds, truths, strict=True)):
        difference = differ(ours, theirs, infinite)
        if difference:
            raise AssertionError(f"result {index}: {difference}")


def differ(ours: Tensor, theirs: Tensor, infinite: bool) -> str | None:
    """Describe how two results differ, or return None; an ``infinite`` argument times an underflow may be NaN."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return f"{list(ours.shape)} of {ours.dtype}, reference {list(theirs.shape)} of {theirs.dtype}"
    if not ours.is_floating_point():
        return None if torch.equal(ours, theirs) else "other integers"
    a, b = ours.double(), theirs.double()
    finite = a.isfinite() & b.isfinite()
    # The order of a sum of large numbers decides whether it overflows.
    overflow = min(torch.finfo(ours.dtype).max / 1e3, 1e30)
    odd = (a.isfinite() != b.isfinite()) & (torch.where(a.isfinite(), a, b).abs() < overflow)
    if odd.any() and not infinite:
        place = int(odd.flatten().nonzero()[0])
        return f"at {place}: {a.flatten()[place]}, reference {b.flatten()[place]}"
    scale = b[finite].abs().max() if finite.any() else torch.tensor(0.0)
    far = finite & ((a - b).abs() > TOLERANCES[ours.dtype] * (scale + 1e-3))
    if far.any():
        place = int(far.flatten().nonzero()[0])
        return f"at {place}: {a.flatten()[place]}, reference {b.flatten()[place]}"
    return None


def describe(args: tuple[Any, ...]) -> str:
    return ", ".join(
        f"{list(a.shape)}/{a.stride()} {str(a.dtype).removeprefix('torch.')}" if isinstance(a, Tensor) else str(a)
        for a in args
    )


def fuzz(seed: int, num_calls: int) -> int:
    """Make at least ``num_calls`` calls.

    Raises:
        AssertionError: native operator and reference differ; names the operator, the seed and the arguments.
    """
    calls = 0
    while calls < num_calls:
        draw = Draw(seed)
        for name, args in draw.random.choice(FAMILIES)(draw):
            try:
                compare(name, args)
            except (AssertionError, RuntimeError, ValueError, TypeError) as error:
                raise AssertionError(f"{name}, seed {seed}: {error}\narguments: {describe(args)}") from error
            calls += 1
        seed += 1
    return calls


def main() -> None:
    if not any(entry.device == "cpu" and entry.name == "native" for entry in backend()):
        raise SystemExit("operator_fuzz: the native library is not loaded")
    print(f"{fuzz(int(sys.argv[1]), int(sys.argv[2]))} calls")


if __name__ == "__main__":
    main()
