"""Records in other frameworks: Lightning Fabric, DataLoader, torch.export and pytrees."""

from __future__ import annotations

import copy
import dataclasses
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, default_collate

import fastvae
from fastvae import VAE, Batch, DiagonalGaussian, VAETerms

KEY = fastvae.noise_key(0, 3)


def small_vae() -> VAE:
    return VAE(fastvae.MLPEncoder(16, 8, latent_dim=2), fastvae.MLPDecoder(2, 8, output_dim=16), fastvae.Gaussian())


def apply_to_dataclass(record: Any, function: Callable[[Tensor], Any]) -> Any:
    """Make a deep copy and set its fields, as Lightning's ``apply_to_collection`` does with a dataclass."""
    values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    result = copy.deepcopy(record, memo={id(value): value for value in values.values()})
    for name, value in values.items():
        setattr(result, name, function(value) if isinstance(value, Tensor) else value)
    return result


@pytest.mark.parametrize(
    "record",
    [
        Batch(x=torch.rand(3, 2), target=torch.rand(3, 2), lengths=torch.tensor([1, 2, 2])),
        VAETerms(z=torch.rand(3, 2), rate=torch.rand(3), distortion=torch.rand(3)),
        DiagonalGaussian(torch.rand(3, 2), torch.rand(3, 2)),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_can_be_copied_field_by_field(record: Any) -> None:
    before = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    halved = apply_to_dataclass(record, lambda tensor: tensor.to(torch.bfloat16))
    mapped = pytree.tree_map(lambda value: None if value is None else value.to(torch.bfloat16), record)
    for found in (halved, mapped):
        assert type(found) is type(record)
        for name, value in before.items():
            assert getattr(record, name) is value  # the original is not changed
            changed = getattr(found, name)
            assert changed is None if value is None else changed.dtype == torch.bfloat16
    shapes = pytree.tree_map(lambda value: tuple(value.shape), record, is_leaf=lambda v: isinstance(v, Tensor))
    assert type(shapes) is type(record)


def test_fabric_style_mixed_precision_gives_the_same_gradients() -> None:
    """Fabric converts the inputs and outputs of a forward pass: batches, posteriors and terms."""
    model, x = small_vae(), torch.rand(4, 16)
    gradients = []
    for convert in (lambda record: record, lambda record: apply_to_dataclass(record, torch.Tensor.float)):
        terms = convert(model(convert(Batch(x=x, target=x)), KEY))
        posterior = convert(model.encode(Batch(x=x, target=x)))
        gradients.append(torch.autograd.grad((terms.rate + terms.distortion).mean(), list(model.parameters())))
        assert posterior.kl_divergence().shape == (4,)
    assert all(map(torch.equal, *gradients))


class Examples(Dataset[Batch]):
    """A data set of single examples, each a `Batch` without a batch dimension."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Batch:
        x = torch.full((16,), index / 8)
        return Batch(x=x, target=x, mask=torch.ones(16), lengths=torch.tensor(index))


def test_a_data_loader_collates_examples_to_batches_for_a_model() -> None:
    batches = list(DataLoader(Examples(), batch_size=4))
    assert [batch.lengths.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert batches[0].x.shape == batches[0].mask.shape == (4, 16)
    assert batches[0].condition is None
    assert small_vae()(batches[0], KEY).rate.shape == (4,)


def test_posteriors_and_terms_are_collated() -> None:
    posterior = default_collate([DiagonalGaussian(torch.full((2,), float(i)), torch.zeros(2)) for i in range(3)])
    assert posterior.mu.tolist() == [[0, 0], [1, 1], [2, 2]]
    terms = default_collate([VAETerms(z=torch.zeros(2), rate=torch.tensor(1.0), distortion=torch.tensor(2.0))] * 3)
    assert (terms.z.shape, terms.rate.tolist(), terms.rate_per_dimension) == ((3, 2), [1, 1, 1], None)


def test_incompatible_examples_are_not_collated() -> None:
    x = torch.zeros(2)
    with pytest.raises(ValueError, match=r"Batch\.mask .*2 .*got 1 None"):
        default_collate([Batch(x=x, target=x, mask=x), Batch(x=x, target=x)])
    with pytest.raises(ValueError, match=r"Batch\.dropout_key"):
        default_collate([Batch(x=x, target=x, dropout_key=KEY)])


def test_a_batch_pins_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor + 1)
    pinned = Batch(x=torch.zeros(2), target=torch.ones(2)).pin_memory()
    assert (pinned.x.tolist(), pinned.target.tolist(), pinned.mask) == ([1, 1], [2, 2], None)


class Encode(nn.Module):
    """A module whose input and output are records."""

    def __init__(self) -> None:
        super().__init__()
        self.vae = small_vae()

    def forward(self, batch: Batch) -> DiagonalGaussian:
        return self.vae.encode(batch)


def test_a_model_with_records_is_exported_saved_and_loaded() -> None:
    x = torch.rand(4, 16)
    batch, model = Batch(x=x, target=x), Encode().eval()
    exported = torch.export.export(model, (batch,))
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    again = torch.export.load(file).module()(batch)
    assert isinstance(again, DiagonalGaussian)
    torch.testing.assert_close(again.mu, model(batch).mu)
    vae = small_vae().eval()
    terms = torch.export.export(vae, (batch, KEY)).module()(batch, KEY)
    assert isinstance(terms, VAETerms)
    torch.testing.assert_close(terms.rate, vae(batch, KEY).rate)
