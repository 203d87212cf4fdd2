from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import fastvae
from fastvae import ops
from fastvae.ops import Use, noise_key, stream


def test_a_key_holds_seed_step_and_first_row() -> None:
    key = noise_key(2**32 - 1, np.int64(7), 2**40)
    assert key.dtype == torch.int64
    assert key.tolist() == [2**32 - 1, 7, 2**40]
    assert noise_key(3).tolist() == [3, 0, 0]
    assert noise_key(3, device="meta").device.type == "meta"


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((-1,), "noise_key: seed must be at least 0 and below 2**32, got -1"),
        ((2**32,), "noise_key: seed must be at least 0 and below 2**32, got 4294967296"),
        ((0, 2**32), "noise_key: step must be at least 0 and below 2**32, got 4294967296"),
        ((0, 0, -5), "noise_key: first_row must be at least 0 and below 2**62, got -5"),
    ],
)
def test_a_number_out_of_range_is_a_value_error(numbers: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace("*", r"\*") + "$"):
        noise_key(*numbers)


def test_a_noninteger_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"^noise_key: seed must be an integer, got 1\.0 of type float$"):
        noise_key(1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^stream: use must be an integer, got 'latent' of type str$"):
        stream("latent")  # type: ignore[arg-type]


def test_a_stream_packs_its_fields() -> None:
    assert stream(Use.LATENT) == 0
    assert stream(Use.GENERATION, site=3, sample=9, evaluation=True) == 1 << 31 | 4 << 24 | 3 << 16 | 9
    assert stream(127, 255, 65535, True) == 2**32 - 1
    assert [use.value for use in Use] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("field", "limit"), [("use", 2**7), ("site", 2**8), ("sample", 2**16)])
def test_a_stream_field_out_of_range_is_a_value_error(field: str, limit: int) -> None:
    for value in (-1, limit):
        with pytest.raises(ValueError, match=f"^stream: {field} must be at least 0 and below .*, got {value}$"):
            stream(**{"use": 0, field: value})


def test_streams_never_overlap() -> None:
    fields = [(use, site, sample, ev) for use in Use for site in (0, 1, 255) for sample in (0, 65535) for ev in (0, 1)]
    assert len({stream(use, site, sample, bool(ev)) for use, site, sample, ev in fields}) == len(fields)


def test_the_global_generator_is_not_used() -> None:
    before = torch.get_rng_state()
    key = noise_key(1)
    ops.philox_normal(key, 5, 5)
    ops.philox_uniform(key, 5, 5)
    mu = torch.zeros(5, 5, requires_grad=True)
    ops.gaussian_rsample_kl(mu, mu, key)[0].sum().backward()
    ops.gaussian_rsample_log_ratio(mu, mu, key, 3)[1].sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


def test_streams_are_created_under_torch_compile() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x + stream(Use.PIXELS, site=2)

    compiled = torch.compile(forward, fullgraph=True, backend="eager")
    assert compiled(torch.zeros((), dtype=torch.int64)).item() == (1 << 24) | (2 << 16)


SITES = {  # (use, evaluation bit only): the code that samples
    (Use.LATENT, False): ops.LatentSite,
    (Use.PIXELS, False): ops.PixelSite,
    (Use.DROPOUT, False): ops.DropoutSite,
    (Use.AUGMENTATION, False): ops.AugmentationSite,
    (Use.AUGMENTATION, True): ops.SplitSite,
    (Use.GENERATION, False): ops.GenerationSite,
}


def test_sites_use_different_random_words() -> None:
    assert {use for use, _ in SITES} == set(Use)
    every = [stream(use, site, 0, ev) for (use, ev), sites in SITES.items() for site in sites.__members__.values()]
    assert len(set(every)) == len(every)


def test_layers_of_a_network_have_consecutive_sites() -> None:
    assert [ops.DropoutSite.layer(index) for index in range(3)] == [2, 3, 4]
    assert max(ops.DropoutSite) == ops.DropoutSite.LAYERS  # only layers have sites above the base


def _calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call of a function of that name in the package, and its location."""
    package = Path(fastvae.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == name:
                yield f"{path.relative_to(package)}:{node.lineno}", node


def test_every_stream_of_the_package_names_its_site() -> None:
    streams = [(where, call) for where, call in _calls("stream") if "Use." in ast.unparse(call)]
    assert len(streams) > 10
    for where, call in streams:
        use = ast.unparse(call.args[0]).split(".")[-1]
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        site = ast.unparse(call.args[1] if len(call.args) > 1 else given.get("site", ast.Constant(None)))
        names = {sites.__name__ for (of, _), sites in SITES.items() if of == Use[use]}
        assert site == "site" or site.split(".")[-2] in names, f"{where}: {site} is no site of {use}"
    for where, call in _calls("KeyedDropout"):
        (site,) = (ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "site")
        assert site.startswith(("site", "ops.DropoutSite.")), f"{where}: {site}"


def test_phases_of_a_waveform_and_the_lower_prior_of_a_hierarchy_are_different_noise() -> None:
    phase, prior = (
        ops.philox_uniform(noise_key(0), 4, 8, stream=stream(Use.GENERATION, site))
        for site in (ops.GenerationSite.PHASE, ops.GenerationSite.LOWER_PRIOR)
    )
    assert not torch.equal(phase, prior)
