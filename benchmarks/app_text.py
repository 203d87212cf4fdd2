"""Text: is z used at no cost in likelihood, and do sentences have the label and the length that are asked for?

    python benchmarks/app_text.py [--num-samples 200] [--per-label 500] [--only PART] [--pictures docs]

Trains the recipe sst2-sentences and its control sst2-collapsed, and a classifier (words and pairs of words, logistic
regression) on the training phrases; its accuracy on the real test sentences, which it never saw, stands beside the
figure. Sentences are counted as they are read: written out as text, and split into tokens again. Whether the ways
between sentences read as sentences is held against real ones: how many of their runs of three tokens occur in the
training phrases. ``--only`` measures a part and leaves the other figures as they are.
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

LENGTHS = range(3, 28, 2)  # tokens: from short phrases to long sentences
NLL_EVERY = 8  # sentences: many samples of some say more than few samples of all


def train_run(recipe: str, directory: Path, seed: int, scale: float) -> LoadedRun:
    """The recipe, its steps scaled; a finished run is not trained again."""
    config = find_recipe(recipe)
    objective = config.train.objective
    steps = partial(_scaled, scale)
    settings = replace(
        config.train,
        steps=steps(config.train.steps),
        eval_every=None,
        final_samples=1,
        objective=replace(
            objective,
            autoencoder_steps=steps(objective.autoencoder_steps),
            kl_warmup_steps=steps(objective.kl_warmup_steps),
        ),
    )
    start(replace(config, run_dir=directory, seed=seed, train=settings))
    return fastvae.load(directory)


def likelihood_figures(run: LoadedRun, control: LoadedRun, num_samples: int, common: dict[str, float]) -> list[Figure]:
    """KL and active units on the test sentences, importance-weighted NLL on some, the collapsed control beside them."""
    ours, theirs = run.evaluate(), control.evaluate()
    assert ours.rate_nats is not None
    assert ours.active_units is not None
    assert theirs.rate_nats is not None
    dims, floor = run.config.model.latent_dim, run.config.train.objective.free_bits
    assert floor is not None
    found = partial(figure, "text", **common)
    some = take(run.data.test, torch.arange(0, len(run.data.test), NLL_EVERY))
    nll, control_nll = (float(one.score(some, num_samples=num_samples).mean()) for one in (run, control))
    bound = f"{num_samples} samples on every {NLL_EVERY}th test sentence, {len(some)} in all"
    assert some.lengths is not None
    tokens = float(some.lengths.sum()) / len(some) + 1  # and the end
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
        found("NLL (nats per sentence)", nll, note=f"{bound}; perplexity {ppl:.1f} a token"),
        found("NLL of the collapsed control (nats per sentence)", control_nll, note=f"perplexity {control_ppl:.1f}"),
        found("KL of the collapsed control (nats)", theirs.rate_nats, note=f"{theirs.active_units} active units"),
    ]


def control_figures(run: LoadedRun, classifier: Pipeline, per_label: int, common: dict[str, float]) -> list[Figure]:
    """Are sentences what was asked for, and new?"""
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
        found("requested length exact", exact, at_least=0.95, note="the condition, and a rule that ends the sentence"),
        found("length exact by the condition alone", ends_by_itself(run, per_label), note="without that rule"),
        found("samples copied from the training set", copied, note="word for word"),
    ]


def way_figures(run: LoadedRun, num_pairs: int, common: dict[str, float]) -> list[Figure]:
    """Are sentences between sentences such as people write, and does the way go anywhere?"""
    tokenizer = tokenizer_of(run.data)
    phrases, real = (tokenizer.encode(_texts(run, split)) for split in ("train", "test"))
    known = {run_of for row in phrases for run_of in _runs_of_three(row)}
    pairs = torch.arange(2 * num_pairs).view(num_pairs, 2) * (len(real) // (2 * num_pairs))
    ways = [tokenizer.encode(tokenizer.decode(run.interpolate(*pair).tolist())) for pair in pairs.tolist()]
    drawn = tokenizer.encode(tokenizer.decode(run.sample(500, seed=int(common["seed"])).tolist()))
    between = [row for way in ways for row in way[1:-1]]
    distinct = sum(len(set(map(tuple, way))) for way in ways) / sum(map(len, ways))
    found = partial(figure, "text", **common)
    name = "runs of three tokens that occur in the training phrases"
    return [
        found(f"{name}: between sentences", _share_known(between, known), note=f"{num_pairs} pairs of test sentences"),
        found(f"{name}: samples", _share_known(drawn, known), note=f"{len(drawn)} samples"),
        found(f"{name}: real test sentences", _share_known(real, known), note=f"{len(real)} sentences"),
        found("distinct sentences on a way of nine", distinct),
    ]


def _runs_of_three(row: list[int]) -> list[tuple[int, ...]]:
    return list(zip(row, row[1:], row[2:], strict=False))


def _share_known(rows: list[list[int]], known: set[tuple[int, ...]]) -> float:
    runs = [run_of for row in rows for run_of in _runs_of_three(row)]
    return sum(run_of in known for run_of in runs) / len(runs)


def ends_by_itself(run: LoadedRun, num: int) -> float:
    """The share of sentences that have the length of their condition though nothing makes them."""
    model, conditions = run.model, run.data.conditions
    assert isinstance(model, fastvae.models.TextVAE)
    assert conditions is not None
    told = conditions.vectors(num)
    first, stop = conditions.places["length"]
    columns, model.length_columns = model.length_columns, None
    try:
        key = fastvae.noise_key(run.config.seed + 1)
        ids = model.sample(num, key, condition=told)
    finally:
        model.length_columns = columns
    return float(((ids != 0).sum(1) - 1 == told[:, first:stop].argmax(1) + 1).float().mean())


def train_classifier(run: LoadedRun) -> Pipeline:
    """Words and pairs of words, weighted by TF-IDF, to a logistic regression; trained on the training phrases."""
    features = TfidfVectorizer(ngram_range=(1, 2), min_df=2, token_pattern=r"\S+", sublinear_tf=True)
    return make_pipeline(features, LogisticRegression(C=3.0, max_iter=300)).fit(
        _texts(run, "train"), run.data.train.labels
    )


def write_sentences(run: LoadedRun, folder: Path) -> None:
    """Ways from one test sentence to another, and samples of both labels, as text."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(0, 3), (10, 25), (40, 77)]
    ways = [run.interpolate(*pair, steps=7) for pair in pairs]
    longest = max(way.shape[1] for way in ways)
    rows = torch.stack([torch.nn.functional.pad(way, (0, longest - way.shape[1])) for way in ways])
    names = [f"test sentences {first} and {second}" for first, second in pairs]
    renderer = find_renderer(run.data)
    renderer.write_rows(
        folder / "text-interpolations.txt", rows, names, run.data, title="the way between two sentences"
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


def _scaled(scale: float, steps: int) -> int:
    return max(1, round(steps * scale)) if steps else 0


def main() -> None:
    parser = argparse.ArgumentParser(description="SST-2 sentences: free bits, requested labels and lengths.")
    parser.add_argument("--scale", type=float, default=1.0, help="of the recipes' steps; below 1 is quicker and worse")
    parser.add_argument("--num-samples", type=int, default=200, help="importance samples of the NLL")
    parser.add_argument("--per-label", type=int, default=500, help="sentences drawn for each label")
    parser.add_argument("--pairs", type=int, default=50, help="test sentences to go between")
    parser.add_argument("--only", choices=("likelihood", "samples", "ways"), help="one of the parts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/app-text"), help="the control is beside it")
    parser.add_argument("--pictures", type=Path, help="folder for sentences to read; by default the run's")
    parser.add_argument("--out", type=Path, help="the JSON file; by default in benchmarks/results")
    options = parser.parse_args()
    began = time.perf_counter()
    beside = options.run_dir.with_name(f"{options.run_dir.name}-collapsed")
    run = train_run("sst2-sentences", options.run_dir, options.seed, options.scale)
    write_sentences(run, options.pictures or options.run_dir)
    rows: list[Figure] = []
    common = {"seed": options.seed, "seconds": time.perf_counter() - began}
    if options.only in (None, "samples"):
        rows += control_figures(run, train_classifier(run), options.per_label, common)
    if options.only in (None, "ways"):
        rows += way_figures(run, options.pairs, common)
    if options.only in (None, "likelihood"):
        control = train_run("sst2-collapsed", beside, options.seed, options.scale)
        common["seconds"] = time.perf_counter() - began
        rows += likelihood_figures(run, control, options.num_samples, common)
    write_figures("text", rows, options.out, merge=options.only is not None)


if __name__ == "__main__":
    main()
