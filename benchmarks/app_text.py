"""Text: whether z is used without a loss of likelihood, and whether samples have the requested label and length.

    python benchmarks/app_text.py [--num-samples 200] [--per-label 500] [--only PART] [--pictures docs]

The script trains the recipe sst2-sentences and its control sst2-collapsed, and a classifier (logistic regression on
unigrams and bigrams) on the training phrases, whose accuracy on the real test sentences is also reported. Sentences are
evaluated after they were decoded to text and tokenised again. The quality of interpolations is measured by the fraction
of their trigrams that occur in the training phrases, compared with real test sentences. ``--only`` measures one part
and keeps the other results.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from applications import Figure, figure, write_figures
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

import fastvae
from fastvae.data.text.sentences import tokenizer_of
from fastvae.data.views import take
from fastvae.figures import find_renderer
from fastvae.recipes import find_recipe
from fastvae.run import LoadedRun, start

LENGTHS = range(3, 28, 2)  # in tokens: from short phrases to long sentences
NLL_EVERY = 8  # every 8th sentence: many samples for some sentences are more accurate than few samples for all


def train_run(recipe: str, directory: Path, seed: int, scale: float) -> LoadedRun:
    """Train a recipe with scaled durations; a finished run is not trained again."""
    config = find_recipe(recipe)
    objective = config.train.objective
    scaled = partial(_scaled, scale)
    settings = replace(
        config.train,
        epochs=config.train.epochs * scale,
        eval_every=None,
        final_samples=1,
        objective=replace(
            objective,
            autoencoder_phase=scaled(objective.autoencoder_phase),
            kl_warmup=scaled(objective.kl_warmup),
        ),
    )
    start(replace(config, run_dir=directory, seed=seed, train=settings))
    return fastvae.load(directory)


def likelihood_figures(run: LoadedRun, control: LoadedRun, num_samples: int, common: dict[str, float]) -> list[Figure]:
    """KL and active units on all test sentences, and importance-weighted NLL on some, for the run and its control."""
    ours, theirs = run.evaluate(), control.evaluate()
    assert ours.rate_nats is not None
    assert ours.active_units is not None
    assert theirs.rate_nats is not None
    dims, floor = run.config.model.latent_dim, run.config.train.objective.free_bits
    assert floor is not None
    found = partial(figure, "text", **common)
    some = take(run.data.test, torch.arange(0, len(run.data.test), NLL_EVERY))
    nll, control_nll = (float(one.score(some, num_samples=num_samples).mean()) for one in (run, control))
    bound = f"{num_samples} samples on every {NLL_EVERY}th test sentence, {len(some)} in total"
    assert some.lengths is not None
    tokens = float(some.lengths.sum()) / len(some) + 1  # with the end token
    ppl, control_ppl = math.exp(nll / tokens), math.exp(control_nll / tokens)
    return [
        found(
            "KL over its target of free bits",
            ours.rate_nats / (dims * floor),
            at_least=0.9,
            note=f"{dims * floor:g} nats",
        ),
        found("share of active units", ours.active_units / dims, at_least=0.5, note=f"{ours.active_units} of {dims}"),
        found("NLL over the collapsed control's", nll / control_nll, at_most=1.01, note=bound),
        found("NLL (nats per sentence)", nll, note=f"{bound}; perplexity {ppl:.1f} per token"),
        found("NLL of the collapsed control (nats per sentence)", control_nll, note=f"perplexity {control_ppl:.1f}"),
        found("KL of the collapsed control (nats)", theirs.rate_nats, note=f"{theirs.active_units} active units"),
    ]


def control_figures(run: LoadedRun, classifier: Pipeline, per_label: int, common: dict[str, float]) -> list[Figure]:
    """Measure how often samples have the requested label and length, and how often they copy training sentences."""
    tokenizer, names = tokenizer_of(run.data), run.data.label_names or ()
    asked, sentences = [], []
    for label, name in enumerate(names):
        for number, length in enumerate(LENGTHS):
            num = per_label // len(LENGTHS) + (number < per_label % len(LENGTHS))
            drawn = run.sample(num, seed=int(common["seed"]) + 1000 * label + length, label=name, length=length)
            sentences += tokenizer.decode(drawn.tolist())
            asked += [(label, length)] * num
    ids = tokenizer.encode(sentences)
    exact = sum(len(row) == length for row, (_, length) in zip(ids, asked, strict=True)) / len(ids)
    recognised = float((classifier.predict(sentences) == [label for label, _ in asked]).mean())
    known = {tuple(row) for row in tokenizer.encode(_texts(run, "train"))}
    copied = sum(tuple(row) in known for row in ids) / len(ids)
    real = float(classifier.score(_texts(run, "test"), run.data.test.labels))
    found = partial(figure, "text", **common)
    temperature = (
        f"{len(ids)} samples of {LENGTHS[0]} to {LENGTHS[-1]} tokens, temperature {run.config.model.text.temperature:g}"
    )
    return [
        found("requested label recognised", recognised, at_least=0.8, note=temperature),
        found("classifier's accuracy on real test sentences", real, note=f"{len(run.data.test)} sentences"),
        found("requested length exact", exact, at_least=0.95, note="with the condition and the length constraint"),
        found("length exact by the condition alone", unconstrained(run, per_label), note="without the constraint"),
        found("samples copied from the training set", copied, note="verbatim"),
    ]


def interpolation_figures(run: LoadedRun, num_pairs: int, common: dict[str, float]) -> list[Figure]:
    """Measure how many trigrams of interpolations occur in the training phrases, and how many sentences differ."""
    tokenizer = tokenizer_of(run.data)
    phrases, real = (tokenizer.encode(_texts(run, split)) for split in ("train", "test"))
    known = {trigram for row in phrases for trigram in _trigrams(row)}
    pairs = torch.arange(2 * num_pairs).view(num_pairs, 2) * (len(real) // (2 * num_pairs))
    paths = [tokenizer.encode(tokenizer.decode(run.interpolate(*pair).tolist())) for pair in pairs.tolist()]
    drawn = tokenizer.encode(tokenizer.decode(run.sample(500, seed=int(common["seed"])).tolist()))
    inner = [row for path in paths for row in path[1:-1]]
    distinct = sum(len(set(map(tuple, path))) for path in paths) / sum(map(len, paths))
    found = partial(figure, "text", **common)
    name = "runs of three tokens that occur in the training phrases"
    return [
        found(f"{name}: between sentences", _share_known(inner, known), note=f"{num_pairs} pairs of test sentences"),
        found(f"{name}: samples", _share_known(drawn, known), note=f"{len(drawn)} samples"),
        found(f"{name}: real test sentences", _share_known(real, known), note=f"{len(real)} sentences"),
        found("distinct sentences on a way of nine", distinct),
    ]


def _trigrams(row: list[int]) -> list[tuple[int, ...]]:
    return list(zip(row, row[1:], row[2:], strict=False))


def _share_known(rows: list[list[int]], known: set[tuple[int, ...]]) -> float:
    trigrams = [trigram for row in rows for trigram in _trigrams(row)]
    return sum(trigram in known for trigram in trigrams) / len(trigrams)


def unconstrained(run: LoadedRun, num: int) -> float:
    """The fraction of samples that have the length of their condition without the length constraint."""
    model, conditions = run.model, run.data.conditions
    assert isinstance(model, fastvae.models.TextVAE)
    assert conditions is not None
    condition = conditions.vectors(num)
    first, stop = conditions.column_ranges["length"]
    columns, model.length_columns = model.length_columns, None
    try:
        key = fastvae.noise_key(run.config.seed + 1)
        ids = model.sample(num, key, condition=condition)
    finally:
        model.length_columns = columns
    return float(((ids != 0).sum(1) - 1 == condition[:, first:stop].argmax(1) + 1).float().mean())


def train_classifier(run: LoadedRun) -> Pipeline:
    """Train a logistic regression on TF-IDF weighted unigrams and bigrams of the training phrases."""
    features = TfidfVectorizer(ngram_range=(1, 2), min_df=2, token_pattern=r"\S+", sublinear_tf=True)
    return make_pipeline(features, LogisticRegression(C=3.0, max_iter=300)).fit(
        _texts(run, "train"), run.data.train.labels
    )


def write_sentences(run: LoadedRun, folder: Path) -> None:
    """Write interpolations between test sentences, and samples for both labels, as text."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(0, 3), (10, 25), (40, 77)]
    paths = [run.interpolate(*pair, steps=7) for pair in pairs]
    longest = max(path.shape[1] for path in paths)
    rows = torch.stack([torch.nn.functional.pad(path, (0, longest - path.shape[1])) for path in paths])
    names = [f"test sentences {first} and {second}" for first, second in pairs]
    renderer = find_renderer(run.data)
    renderer.write_rows(
        folder / "text-interpolations.txt", rows, names, run.data, title="interpolations between two sentences"
    )
    print((folder / "text-interpolations.txt").read_text(encoding="utf-8"))
    samples = [run.sample(8, seed=1, label=name, length=10) for name in run.data.label_names or ()]
    rows = torch.stack(samples)
    names = list(run.data.label_names or ())
    renderer.write_rows(folder / "text-samples.txt", rows, names, run.data, title="samples of 10 tokens, by label")
    print((folder / "text-samples.txt").read_text(encoding="utf-8"))


def _texts(run: LoadedRun, split: str) -> list[str]:
    source = run.source(split)
    return tokenizer_of(run.data).decode(source[torch.arange(len(source))].tolist())


def _scaled(scale: float, duration: int | str) -> int | str:
    """A duration in epochs times a factor; a share of the run stays."""
    if isinstance(duration, int):
        return round(duration * scale)
    return f"{float(duration.removesuffix('ep')) * scale}ep" if duration.endswith("ep") else duration


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the use of z and the control of label and length on SST-2.")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the recipes' steps; below 1 is faster")
    parser.add_argument("--num-samples", type=int, default=200, help="number of importance samples of the NLL")
    parser.add_argument("--per-label", type=int, default=500, help="number of samples per label")
    parser.add_argument("--pairs", type=int, default=50, help="number of interpolations between test sentences")
    parser.add_argument("--only", choices=("likelihood", "samples", "interpolations"), help="measure one part only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--run-dir", type=Path, default=Path("runs/app-text"), help="run directory; the control adds -collapsed"
    )
    parser.add_argument("--pictures", type=Path, help="folder of example sentences; by default the run directory")
    parser.add_argument("--out", type=Path, help="file of the results; by default in benchmarks/results")
    options = parser.parse_args()
    began = time.perf_counter()
    control_dir = options.run_dir.with_name(f"{options.run_dir.name}-collapsed")
    run = train_run("sst2-sentences", options.run_dir, options.seed, options.scale)
    write_sentences(run, options.pictures or options.run_dir)
    rows: list[Figure] = []
    common = {"seed": options.seed, "seconds": time.perf_counter() - began}
    if options.only in (None, "samples"):
        rows += control_figures(run, train_classifier(run), options.per_label, common)
    if options.only in (None, "interpolations"):
        rows += interpolation_figures(run, options.pairs, common)
    if options.only in (None, "likelihood"):
        control = train_run("sst2-collapsed", control_dir, options.seed, options.scale)
        common["seconds"] = time.perf_counter() - began
        rows += likelihood_figures(run, control, options.num_samples, common)
    write_figures("text", rows, options.out, merge=options.only is not None)


if __name__ == "__main__":
    main()
