import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from fastvae import figures
from fastvae.data import as_data


def images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"), dtype=float)


@pytest.mark.parametrize("shape", [(7, 64), (7, 8, 8), (30, 1, 8, 8), (5, 3, 6, 9), (1, 4, 4)])
def test_images_of_all_shapes_are_drawn(tmp_path, shape):
    figures.save_samples(tmp_path / "samples.png", images(*shape))
    figures.save_reconstructions(tmp_path / "pairs.png", images(*shape), images(*shape, seed=1))
    for name in ("samples.png", "pairs.png"):
        assert pixels(tmp_path / name).std() > 10


def test_the_picture_shows_the_pixels_of_the_samples(tmp_path):
    path = tmp_path / "samples.png"
    figures.save_samples(path, torch.tensor([[[0.0]], [[1.0]], [[0.5]], [[0.25]]]), columns=2)
    height, width, _ = (picture := pixels(path)).shape
    rows, columns = (int(0.3 * height), int(0.7 * height)), (int(0.25 * width), int(0.75 * width))
    assert [picture[r, c, 0] / 255 for r in rows for c in columns] == pytest.approx([0, 1, 0.5, 0.25], abs=0.01)


def test_values_out_of_range_are_clipped(tmp_path):
    inside, outside = torch.tensor([[[0.0, 1.0, 0.5, 0.5]]]), torch.tensor([[[-3.0, 2.0, 0.5, 0.5]]])
    for name, value in {"a.png": inside, "b.png": outside}.items():
        figures.save_samples(tmp_path / name, value)
    assert np.array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))


@pytest.mark.parametrize("shape", [(4, 7), (4, 2, 8, 8), (4,)])
def test_tensors_that_are_not_images_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match=re.escape(str(list(shape)))):
        figures.save_samples(tmp_path / "samples.png", images(*shape))


def test_pairs_of_different_shapes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\[4, 8, 8\], got \[4, 64\]"):
        figures.save_reconstructions(tmp_path / "pairs.png", images(4, 8, 8), images(4, 64))


@pytest.mark.parametrize("num_dims", [1, 2, 10])
@pytest.mark.parametrize("num_labels", [None, 3, 20])
def test_latents_are_drawn_with_and_without_labels(tmp_path, num_dims, num_labels):
    means = images(200, num_dims)
    labels = None if num_labels is None else torch.arange(200) % num_labels
    figures.save_latents(tmp_path / "a.png", means, labels)
    figures.save_latents(tmp_path / "b.png", means, labels)
    assert pixels(tmp_path / "a.png").std() > 5
    assert np.array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))


def test_the_legend_shows_the_label_names(tmp_path):
    means, labels = images(200, 2), torch.arange(200) % 2
    drawn = []
    for names in (None, ("0", "1"), ("negative", "positive")):
        figures.save_latents(tmp_path / "latents.png", means, labels, names)
        figures.save_maps(tmp_path / "maps.png", {"z": means}, labels, names)
        drawn.append([pixels(tmp_path / name) for name in ("latents.png", "maps.png")])
    for integers, same, words in zip(*drawn, strict=True):
        assert np.array_equal(integers, same)
        assert not np.array_equal(integers, words)


def test_a_single_point_and_equal_points_are_drawn(tmp_path):
    figures.save_latents(tmp_path / "a.png", torch.zeros(1, 5))
    figures.save_latents(tmp_path / "b.png", torch.zeros(9, 5), torch.zeros(9, dtype=torch.int64))
    assert pixels(tmp_path / "b.png").std() > 5


def write_metrics(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def test_curves_have_one_panel_per_metric(tmp_path):
    both = [{"kind": "train", "step": s, "elbo_nats": -100 / (s + 1), "rate_nats": 1.0 * s} for s in range(30)]
    both += [{"kind": "evaluation", "step": 30, "elbo_nats": -3.0, "rate_nats": None}]
    write_metrics(tmp_path / "both.jsonl", both)
    write_metrics(tmp_path / "one.jsonl", [{"kind": "evaluation", "step": 1, "squared_error": 2.5}])
    for name in ("both", "one"):
        figures.save_curves(tmp_path / f"{name}.png", tmp_path / f"{name}.jsonl")
    wide, narrow = pixels(tmp_path / "both.png"), pixels(tmp_path / "one.png")
    assert wide.shape[1] == pytest.approx(2 * narrow.shape[1], abs=2)


def test_metrics_without_values_are_refused(tmp_path):
    write_metrics(tmp_path / "metrics.jsonl", [{"kind": "train", "step": 1, "lr": 0.1}])
    with pytest.raises(ValueError, match=r"save_curves: .*metrics\.jsonl.*elbo_nats"):
        figures.save_curves(tmp_path / "curves.png", tmp_path / "metrics.jsonl")


def test_rows_have_their_names_to_the_left(tmp_path):
    rows = images(3, 5, 1, 8, 8)
    figures.save_rows(tmp_path / "named.png", rows, ["z1", "z2", "z3"])
    figures.save_rows(tmp_path / "other.png", rows, ["z1", "z2", "z4"])
    named, other = pixels(tmp_path / "named.png"), pixels(tmp_path / "other.png")
    assert named.std() > 10
    changed = np.argwhere((named != other).any(2))
    assert len(changed)
    assert changed[:, 0].min() > 0.5 * named.shape[0]  # the last row's name
    assert changed[:, 1].max() < 0.15 * named.shape[1]  # left of the images
    with pytest.raises(ValueError, match="3 rows, got 2"):
        figures.save_rows(tmp_path / "few.png", rows, ["a", "b"])


def test_every_kind_of_data_has_a_renderer(tmp_path):
    image, vector = as_data(images(20, 1, 4, 4)), as_data(images(20, 3))
    assert figures.find_renderer(image).suffix == ".png"
    renderer = figures.find_renderer(vector)
    examples = torch.tensor([[1.0, 0.25, -3.0], [4.0, 5.0, 6.0]])
    renderer.write_examples(tmp_path / "a.csv", examples, vector, title="")
    assert (tmp_path / "a.csv").read_text() == "x0,x1,x2\n1,0.25,-3\n4,5,6\n"
    renderer.write_pairs(tmp_path / "b.csv", examples[:1], examples[1:], vector, title="")
    assert (tmp_path / "b.csv").read_text() == "of,x0,x1,x2\ndata,1,0.25,-3\nmodel,4,5,6\n"
    renderer.write_rows(tmp_path / "c.csv", examples[None], ["z1"], vector, title="")
    assert (tmp_path / "c.csv").read_text() == "row,x0,x1,x2\nz1,1,0.25,-3\nz1,4,5,6\n"
