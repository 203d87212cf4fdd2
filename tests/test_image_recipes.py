"""The image recipes build a model for their data that learns; skipped if the data are not available."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fastvae.data import Loader, build_data
from fastvae.objective import build_objective
from fastvae.recipes import find_recipe
from fastvae.run import build_run_model

DATA = Path(os.environ.get("FASTVAE_DATA") or Path(__file__).parents[2] / "shared" / "data")
FOLDERS = {
    "mnist-class": "mnist",
    "mnist-conv": "mnist",
    "mnist-iwae-2l": "mnist",
    "cifar10": "cifar10_lossless_4000",
    "frey-faces": "frey_faces",
}


@pytest.mark.parametrize("name", FOLDERS)
def test_image_recipes_learn_from_their_data(name: str) -> None:
    if not (DATA / FOLDERS[name]).is_dir():
        pytest.skip(f"no {FOLDERS[name]}/ in {DATA}; set FASTVAE_DATA")
    recipe = find_recipe(name)
    data = build_data(replace(recipe.data, dir=DATA), recipe.seed)
    model = build_run_model(recipe, data)
    loader = Loader(data.train, data.preprocess, global_batch_size=16, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.train.lr)
    losses: list[float] = []
    for step in range(4):
        (micro,) = loader.load(0)
        loss = build_objective(recipe.train.objective, model(micro.batch, micro.key)).loss.mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss), step
    assert losses[-1] < losses[0]
    assert data.condition_dim == (10 if name == "mnist-class" else 0)
