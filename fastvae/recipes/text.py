"""Sentences: the phrases and sentences of SST-2, conditioned on a label and a length."""

from __future__ import annotations

from dataclasses import replace

from fastvae.data import DataConfig, TextDataConfig
from fastvae.models import ModelConfig, TextConfig
from fastvae.objective import ObjectiveConfig
from fastvae.run import RunConfig
from fastvae.train import TrainConfig


def sentences() -> RunConfig:
    """Your own sentences, one per line: ``--data.path FILE``; byte pairs, no condition."""
    base = sst2_sentences()
    text = replace(base.model.text, embedding_dim=256, word_dropout=0.0, temperature=0.8, no_repeat=3)
    return replace(
        base,
        recipe="sentences",
        model=replace(base.model, hidden_dim=(512,), text=text),
        data=DataConfig(name="text", text=TextDataConfig(tokenizer="bpe", vocab_size=8000)),
        train=replace(base.train, epochs=20),
    )


def sst2_sentences() -> RunConfig:
    """Sentences of SST-2 conditioned on label and length; an autoencoder first, then free bits keep z in use.

    As in Li et al. 2019 (arXiv 1909.00868): one epoch as an autoencoder, a re-initialised decoder, a KL warm-up of two
    epochs, and free bits of a quarter of a nat for each of the 32 latent dimensions: 8 nats in all.
    """
    return RunConfig(
        recipe="sst2-sentences",
        model=ModelConfig(
            family="text",
            network="lstm",
            likelihood="tokens",
            hidden_dim=(256,),
            latent_dim=32,
            text=TextConfig(embedding_dim=128, dropout=0.4, word_dropout=0.2, temperature=0.6, no_repeat=2),
        ),
        data=DataConfig(name="sst2", condition=("label", "length"), text=TextDataConfig(min_frequency=3)),
        train=TrainConfig(
            epochs=7,
            global_batch_size=64,
            lr=2e-3,
            warmup=100,
            max_grad_norm=5.0,
            precision="bf16",
            log_every=100,
            eval_every="1ep",
            checkpoint_every="1ep",
            eval_batch_size=64,
            final_samples=10,
            objective=ObjectiveConfig(
                autoencoder_phase="1ep",
                kl_weight_start=0.001,
                kl_schedule="linear",
                kl_warmup="2ep",
                free_bits=0.25,
            ),
        ),
    )


def sst2_collapsed() -> RunConfig:
    """The control: the same model and number of steps with a KL warm-up only: the posterior collapses to the prior."""
    base = sst2_sentences()
    return replace(
        base,
        recipe="sst2-collapsed",
        train=replace(base.train, objective=ObjectiveConfig(kl_schedule="linear", kl_warmup="3ep")),
    )
