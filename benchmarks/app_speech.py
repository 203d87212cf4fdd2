"""Speech: the error of reconstructions, and how often a classifier recognises the requested digit.

    python benchmarks/app_speech.py [--pictures docs]

The script trains the recipe spoken-digits and a classifier on the real training clips, whose accuracy on the real test
clips is also reported. A generated clip is the mean of p(x|z, digit, speaker) for z from the prior N(0, I), with the
same number of clips for each digit and speaker. Clips are evaluated as spectrograms, and again after they were written
to WAV files as by `fastvae sample` and read back. The inversion of spectrograms is measured alone on the real test
clips, by the root mean square difference of the log-mels and by the log-spectral distance of the waveforms.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from applications import Figure, figure, write_figures
from speech_classifier import classify, spectrograms, train_classifier
from torch import Tensor
from torch.nn import Module

import fastvae
from fastvae.data import LogMelPreprocess
from fastvae.data.audio.inversion import waveforms_of
from fastvae.data.audio.render import save_spectrograms
from fastvae.data.audio.spectrogram import log_mel
from fastvae.data.audio.waveform import read_waveform, write_waveform
from fastvae.recipes import find_recipe
from fastvae.run import LoadedRun, start

SILENT = 0.5  # clips with less than half of the root mean square of the softest real clip count as silent
CLIPPED = 0.999


def train_run(directory: Path, steps: int | None, seed: int) -> LoadedRun:
    """Train the recipe spoken-digits, for a trial for ``steps`` steps only; a finished run is not trained again."""
    recipe = find_recipe("spoken-digits")
    settings = replace(recipe.train, final_samples=1)
    if steps is not None:
        settings = replace(settings, steps=steps, eval_every=None)
    start(replace(recipe, run_dir=directory, seed=seed, train=settings))
    return fastvae.load(directory)


def generate(run: LoadedRun, per_pair: int, seed: int) -> tuple[Tensor, Tensor]:
    """Generate spectrograms [N, 1, 32, 32] of all digits by all speakers, and their digits [N]."""
    assert run.data.conditions is not None
    digits, speakers = (field.values for field in run.data.conditions.fields)  # type: ignore[attr-defined]
    parts = [
        run.sample(per_pair, seed=seed + index, label=digit, speaker=speaker)
        for index, (digit, speaker) in enumerate((d, s) for d in digits for s in speakers)
    ]
    labels = torch.arange(len(digits)).repeat_interleave(len(speakers) * per_pair)
    return torch.cat(parts), labels


def read_back(run: LoadedRun, generated: Tensor) -> Tensor:
    """Write the generated clips to WAV files and read them back: waveforms [N, samples]."""
    preprocess = run.data.preprocess
    assert isinstance(preprocess, LogMelPreprocess)
    config = preprocess.audio.spectrogram
    waveforms = torch.cat([waveforms_of(part, config) for part in preprocess.restore(generated).split(100)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.wav"
        read = []
        for waveform in waveforms:
            write_waveform(path, waveform, config.sample_rate)
            read.append(read_waveform(path, config.sample_rate, config.num_samples))
    return torch.stack(read)


def inversion_figures(run: LoadedRun, classifier: Module, common: dict[str, float]) -> list[Figure]:
    """Compare the real test clips with the waveforms that are computed from their spectrograms."""
    preprocess = run.data.preprocess
    assert isinstance(preprocess, LogMelPreprocess)
    config = preprocess.audio.spectrogram
    clips = run.data.test[torch.arange(len(run.data.test))]
    wanted = log_mel(clips, config)
    again = torch.cat([waveforms_of(part, config) for part in wanted.split(100)])
    difference = float((log_mel(again, config) - wanted).square().mean().sqrt())
    accuracy = (classify(classifier, spectrograms(run.data, again)) == run.data.test.labels).double().mean()
    found = partial(figure, "speech", note="real test clips, from their spectrograms", **common)
    return [
        found("inversion: root mean square difference of log-mels", difference),
        found("inversion: log-spectral distance, dB", log_spectral_distance(clips, again)),
        found("inversion: classifier's accuracy", float(accuracy)),
    ]


def log_spectral_distance(first: Tensor, second: Tensor) -> float:
    """Distance of waveforms [N, samples] in dB: root mean square over frequencies, mean over frames of 32 ms.

    Gray and Markel 1976 (doi 10.1109/TASSP.1976.1162849); magnitudes below -60 dB count as -60 dB.
    """
    window = torch.hann_window(256)
    first, second = (
        20 * torch.log10(torch.stft(each, 256, 64, window=window, return_complex=True).abs() + 1e-3)
        for each in (first, second)
    )
    return float((first - second).square().mean(1).sqrt().mean())


def write_picture(run: LoadedRun, folder: Path, seed: int) -> None:
    """Draw ``speech-samples.png``, a generated clip of each digit by each speaker."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = run.data.preprocess
    assert isinstance(preprocess, LogMelPreprocess)
    clips, _ = generate(run, 1, seed)
    by_speaker = preprocess.restore(clips).unflatten(0, (10, -1)).transpose(0, 1).flatten(0, 1)
    save_spectrograms(
        folder / "speech-samples.png",
        by_speaker,
        preprocess.audio.spectrogram,
        title="generated digits 0 to 9, one row per speaker",
        columns=10,
    )


def figures(run: LoadedRun, options: argparse.Namespace, began: float) -> list[Figure]:
    """Measure all figures of a run."""
    originals, reconstructions = run.reconstruct(len(run.data.test))
    squared_error = float((originals - reconstructions.view(originals.shape)).square().mean())
    evaluation = run.evaluate(options.num_samples)
    assert evaluation.nll_nats is not None
    assert evaluation.elbo_nats is not None
    classifier = train_classifier(run.data, epochs=options.epochs, seed=options.seed)
    real = spectrograms(run.data, run.data.test[torch.arange(len(run.data.test))])
    generated, digits = generate(run, options.per_pair, options.seed)
    waveforms = read_back(run, generated)
    again = classify(classifier, spectrograms(run.data, waveforms)) == digits
    rms, peak = waveforms.square().mean(1).sqrt(), waveforms.abs().amax(1)
    softest = run.data.train[torch.arange(len(run.data.train))].square().mean(1).sqrt().min()
    silent, clipped = float((rms < SILENT * softest).double().mean()), float((peak >= CLIPPED).double().mean())
    common = {"seed": options.seed, "seconds": time.perf_counter() - began}
    steps, clips = f"recipe spoken-digits, {run.config.train.epochs:g} epochs", f"{len(digits)} generated clips"
    accuracy = float((classify(classifier, real) == run.data.test.labels).double().mean())
    recognised = float((classify(classifier, generated) == digits).double().mean())
    bound = -evaluation.nll_nats
    return [
        figure("speech", "test MSE of standardised log-mels, z 16", squared_error, at_most=0.018, note=steps, **common),
        figure("speech", f"bound of {options.num_samples} samples, nats", bound, at_least=520, **common),
        figure("speech", "ELBO, nats", evaluation.elbo_nats, **common),
        figure("speech", "classifier's accuracy on real test clips", accuracy, at_least=0.95, **common),
        figure("speech", "requested digit recognised", recognised, at_least=0.85, note=clips, **common),
        figure("speech", "requested digit recognised in the WAV files", float(again.double().mean()), **common),
        figure("speech", "share of WAV files that are silent", silent, at_most=0, **common),
        figure("speech", "share of WAV files that clip", clipped, at_most=0, **common),
        *inversion_figures(run, classifier, common),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure reconstruction, bound and recognition of spoken digits.")
    parser.add_argument(
        "--steps", type=int, help="training steps of 64 clips, for a trial; by default the recipe's epochs"
    )
    parser.add_argument("--epochs", type=int, default=15, help="training epochs of the classifier")
    parser.add_argument("--per-pair", type=int, default=20, help="number of clips of each digit by each speaker")
    parser.add_argument("--num-samples", type=int, default=1000, help="number of importance samples of the bound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/app-speech"))
    parser.add_argument("--pictures", type=Path, help="folder of the picture; by default it is not drawn")
    parser.add_argument("--out", type=Path, help="file of the results; by default in benchmarks/results")
    options = parser.parse_args()
    began = time.perf_counter()
    run = train_run(options.run_dir, options.steps, options.seed)
    if options.pictures is not None:
        write_picture(run, options.pictures, options.seed)
    write_figures("speech", figures(run, options, began), options.out)


if __name__ == "__main__":
    main()
