"""Anomaly detection: seven tables of ADBench, compared with other detectors, and held-out digits of MNIST.

    python benchmarks/app_anomalies.py [--only tables|mnist] [--steps-mnist 4500]
    python benchmarks/app_anomalies.py --folder FOLDER --name NAME [--seen]

Tables: the defaults of `fastvae train anomaly-table --data.path` with seeds 1 to 3 and stratified 70/30 splits; the
training rows may contain anomalies. The other detectors are those of `anomaly-report`: IsolationForest, and PyOD's if
it is installed. ``--folder`` measures all .npz and .csv tables of a folder (the label of a .csv is its column anomaly)
and writes the results under ``--name``; ``--seen`` says that a choice may have depended on them.
MNIST: ten models, each trained on nine digits; the tenth digit is the anomaly in the test set. The images are deskewed
and scaled to the same norm, so that the score depends on neither slant nor stroke thickness. The preprocessing, the
latent dimension and the learning rate were chosen on the digits 4 and 9 of the last 10 000 training images, with models
that were not trained on them. The score is the negative ELBO. ``--only`` measures one part and keeps the results of the
other. The data are searched for in $FASTVAE_DATA (adbench/, mnist/).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from applications import Figure, figure, write_figures
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn.functional import grid_sample

import fastvae
from fastvae.applications.anomalies import (
    Detection,
    column_names,
    compare_on,
    detection,
    make_reference,
    score_rows,
)
from fastvae.data import VALIDATION_SHARE, Data, DataConfig, Source, as_data, build_data, evaluation_batches, hold_out
from fastvae.data.config import TableConfig
from fastvae.data.files.places import find_file
from fastvae.data.table.columns import RawTable
from fastvae.data.table.file import read_table
from fastvae.data.table.tables import table_data
from fastvae.evaluate import scores
from fastvae.models import VAE, ModelInputs, build_model
from fastvae.recipes import find_recipe, for_own_data
from fastvae.train import TrainConfig

TABLES = {  # file of ADBench, and the published AUROC of a VAE, from which ours may be at most .01 lower
    "cardio": ("6_cardio.npz", 0.916),
    "thyroid": ("38_thyroid.npz", 0.946),
    "satimage-2": ("31_satimage-2.npz", 0.975),
    "WBC": ("42_WBC.npz", 0.977),
    "breastw": ("4_breastw.npz", 0.980),
    "Ionosphere": ("18_Ionosphere.npz", 0.937),
    "mammography": ("23_mammography.npz", 0.839),
}
MAX_ROWS = 10_000
OURS, ELBO = "fastvae", "negative ELBO alone"


def table_split(path: Path, seed: int, config: TableConfig) -> Data:
    """The split of the published tables: 70/30, stratified, of at most 10 000 rows."""
    if path.suffix == ".csv":
        table = read_table(path, config)
    else:
        with np.load(path) as arrays:
            x, y = arrays["X"].astype(np.float64), arrays["y"].astype(np.int64)
        table = RawTable({f"x{place}": column for place, column in enumerate(x.T)}, y)
    if len(table) > MAX_ROWS:
        table = table.rows(np.random.default_rng(0).permutation(len(table))[:MAX_ROWS])
    rows = train_test_split(np.arange(len(table)), test_size=0.3, stratify=table.labels, random_state=seed)
    return table_data(table.rows(rows[0]), table.rows(rows[1]), config, name=path.stem)


def table_detections(path: Path, seed: int, directory: Path) -> dict[str, Detection]:
    """Train and evaluate the recipe and the other detectors on one table with one seed."""
    recipe = for_own_data(find_recipe("anomaly-table"))  # the defaults of `fastvae train anomaly-table --data.path`
    data = hold_out(table_split(path, seed, recipe.data.table), VALIDATION_SHARE)
    inputs = data.model_inputs
    model = build_model(recipe.model, inputs, seed=seed)
    config = replace(recipe.train, final_samples=1)
    fastvae.train(model, data, config, run_dir=directory / f"{path.stem}-{seed}", seed=seed)
    assert isinstance(model, VAE)
    reference = make_reference(model.eval(), data, seed=seed)
    batches = evaluation_batches(data.test, data.preprocess, batch_size=512, seed=seed)
    found = score_rows(model, batches, column_names(data), reference)
    labels = np.asarray(data.test.labels, dtype=np.float64)
    elbo = {ELBO: detection(labels, found.negative_elbo.numpy())}
    return compare_on(data, found, name=OURS, seed=seed) | elbo


def table_paths(names: list[str]) -> dict[str, tuple[Path, float | None]]:
    """The files of named tables, and the published AUROC."""
    found = {}
    for name in names:
        file, published = TABLES[name]
        found[name] = (find_file("ADBench", ["adbench"], [file], None, "clone github.com/Minqi824/ADBench"), published)
    return found


def table_figures(
    began: float,
    tables: dict[str, tuple[Path, float | None]],
    seeds: tuple[int, ...],
    which: str,
    *,
    unseen: bool = False,
) -> list[Figure]:
    """AUROC and average precision of each table (means over the seeds), and the mean AUROC over the tables."""
    rows, means = [], {}
    with tempfile.TemporaryDirectory() as directory:
        for name, (path, published) in tables.items():
            found = [table_detections(path, seed, Path(directory)) for seed in seeds]
            means[name] = {rival: statistics.fmean(one[rival].auroc for one in found) for rival in found[0]}
            common: dict[str, Any] = {"seed": seeds[0], "seconds": time.perf_counter() - began, "unseen": unseen}
            deviation = statistics.pstdev(one[OURS].auroc for one in found)
            note = f"seeds {seeds}, standard deviation {deviation:.3f}; {others(means[name])}"
            at_least = None if published is None else published - 0.01
            auroc = means[name][OURS]
            rows.append(figure("anomalies", f"{name}: AUROC", auroc, at_least=at_least, note=note, **common))
            precision = statistics.fmean(one[OURS].average_precision for one in found)
            rows.append(figure("anomalies", f"{name}: average precision", precision, **common))
            print(rows[-2].figure, f"{rows[-2].value:.4f}", rows[-2].bar, note, flush=True)
    overall = {rival: statistics.fmean(mean[rival] for mean in means.values()) for rival in means[name]}
    at_least = overall["IsolationForest"]
    mean = figure(
        "anomalies", f"mean AUROC of {which}", overall[OURS], at_least=at_least, note=others(overall), **common
    )
    print(mean.figure, f"{mean.value:.4f}", mean.note, flush=True)
    return [*rows, mean]


def others(aurocs: dict[str, float]) -> str:
    """The AUROC of the other detectors, in words."""
    return ", ".join(f"{rival} {value:.3f}" for rival, value in aurocs.items() if rival != OURS)


def deskewed(images: Tensor) -> Tensor:
    """Centre images [N, 28, 28] on their centre of mass and shear them so that their vertical axis is upright.

    The shear is a least-squares fit weighted by the pixels: the deskewing of LeCun et al. 1998, section III-A.
    """
    places = torch.arange(28.0) - 13.5
    ink = images.sum((1, 2))
    x, y = images.sum(1) @ places / ink, images.sum(2) @ places / ink
    from_x, from_y = places - x[:, None], places - y[:, None]
    covariance = torch.einsum("nyx,ny,nx->n", images, from_y, from_x)
    shear = covariance / torch.einsum("nyx,ny->n", images, from_y.square())
    source_x = (x[:, None] + shear[:, None] * places)[:, :, None] + places
    source_y = (y[:, None] + places)[:, :, None].expand_as(source_x)
    grid = torch.stack((source_x, source_y), dim=-1) / 13.5
    return grid_sample(images[:, None], grid, align_corners=True).squeeze(1)


def same_norm(images: Tensor) -> Tensor:
    """Flatten images and scale them to the same Euclidean norm, that of an average digit with pixels in [0, 1]."""
    rows = images.flatten(1)
    return rows * (9.2 / rows.norm(dim=1, keepdim=True))


class Images(NamedTuple):
    """Preprocessed images with their labels."""

    images: Tensor  # [N, 784]
    labels: Tensor  # [N]


def normalised(source: Source) -> Images:
    """All images of a source, deskewed and scaled to the same norm."""
    assert source.labels is not None
    images = source[torch.arange(len(source))].squeeze(1).float() / 255
    return Images(torch.cat([same_norm(deskewed(part)) for part in images.split(1000)]), source.labels)


def mnist_auroc(train: Images, test: Images, digit: int, config: TrainConfig, directory: Path, seed: int) -> float:
    """Train a model on nine digits and evaluate it on all test images."""
    split = as_data((train.images[train.labels != digit], test.images), name=f"without-{digit}")
    recipe = find_recipe("anomaly-table")
    network = replace(recipe.model, hidden_dim=(512, 256), latent_dim=8, activation="relu")
    model = build_model(
        replace(network, likelihood="gaussian", likelihood_logvar_start=-3.0),
        ModelInputs(event_shape=split.event_shape),
        seed=seed,
        mean=split.train_mean,
    )
    fastvae.train(model, split, config, run_dir=directory / str(digit), seed=seed)
    batches = evaluation_batches(split.test, split.preprocess, batch_size=1000, seed=seed)
    nats = torch.cat(list(scores(model.eval(), batches))).numpy()
    return detection((test.labels == digit).double().numpy(), nats).auroc


def mnist_figures(began: float, steps: int, digits: tuple[int, ...], seed: int) -> list[Figure]:
    """AUROC of each held-out digit, and their mean."""
    data = build_data(DataConfig(name="mnist"))
    config = TrainConfig(
        steps=steps, global_batch_size=128, lr=2e-3, log_every=500, checkpoint_every=None, final_samples=1
    )
    train, test = normalised(data.train), normalised(data.test)
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for digit in digits:
            value = mnist_auroc(train, test, digit, config, Path(directory), seed)
            common = {"seed": seed, "seconds": time.perf_counter() - began}
            rows.append(figure("anomalies", f"MNIST without {digit}: AUROC of {digit}", value, **common))
            print(rows[-1].figure, f"{value:.4f}", flush=True)
    if len(rows) < 10:
        return rows
    mean = statistics.fmean(float(row.value) for row in rows)
    return [*rows, figure("anomalies", "MNIST, mean AUROC of the digits left out", mean, at_least=0.855, **common)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure AUROC on tables and on held-out digits.")
    parser.add_argument("--only", choices=("tables", "mnist"), help="measure one part only")
    parser.add_argument("--tables", choices=TABLES, nargs="+", default=list(TABLES), help="tables to measure")
    parser.add_argument("--seeds", type=int, nargs="+", default=(1, 2, 3), help="seeds for the tables")
    parser.add_argument("--digits", type=int, nargs="+", default=range(10), help="digits to hold out, one at a time")
    parser.add_argument("--steps-mnist", type=int, default=4500, help="training steps of 128 images")
    parser.add_argument("--out", type=Path, help="file of the results; by default in benchmarks/results")
    parser.add_argument("--folder", type=Path, help="measure the .npz and .csv tables of this folder only")
    parser.add_argument("--name", default="unseen", help="name of the tables of --folder in the results")
    parser.add_argument("--seen", action="store_true", help="the tables of --folder are not unseen")
    options = parser.parse_args()
    began, rows = time.perf_counter(), []
    if options.folder is not None:
        paths = sorted(path for path in options.folder.iterdir() if path.suffix in (".npz", ".csv"))
        tables = {path.stem: (path, None) for path in paths}
        which = f"{len(tables)} tables ({options.name})"
        rows = table_figures(began, tables, tuple(options.seeds), which, unseen=not options.seen)
        write_figures(f"anomalies_{options.name}", rows, options.out)
        return
    if options.only != "mnist":
        rows += table_figures(began, table_paths(options.tables), tuple(options.seeds), "the tables")
    if options.only != "tables":
        rows += mnist_figures(began, options.steps_mnist, tuple(options.digits), seed=0)
    write_figures("anomalies", rows, options.out, merge=options.only is not None)


if __name__ == "__main__":
    main()
