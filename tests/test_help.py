"""The help of recipes, and errors for options without an effect."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastvae.commands.parsing import UsageError, option_names
from fastvae.commands.run_options import PRESET, parse_run
from fastvae.recipes import RECIPES
from fastvae.run import RunConfig


def printed(words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The output of `fastvae train` with options that request help, 100 columns wide."""
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as ended:
        parse_run("train", words[0], words[1:])
    assert not ended.value.code
    return capsys.readouterr().out


def shown(text: str) -> set[str]:
    """The options in the text of a help."""
    return set(re.findall(r"^(?:│| ) --([a-z][\w.-]+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipes_help_is_short(
    recipe: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = printed([recipe, "--help"], capsys, monkeypatch)
    assert 30 <= len(shown(text)) <= 60
    assert text.count("\n") <= 190
    hidden = re.findall(r"^(\d+) more options", text, flags=re.MULTILINE)
    everything = printed([recipe, "--help-all"], capsys, monkeypatch)
    assert [len(shown(everything)) - len(shown(text))] == [int(number) for number in hidden]
    assert "more options" not in everything


def test_help_all_shows_every_option(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = shown(printed(["digits", "--help-all"], capsys, monkeypatch))
    assert {*option_names(RunConfig), PRESET[2:]} - {"recipe"} == found


def test_the_help_depends_on_the_other_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = shown(printed(["digits", "--help"], capsys, monkeypatch))
    assert not {"model.conv.blocks", "train.fsdp.cpu-offload", "data.text.vocab-size"} & plain
    assert {"model.hidden-dim", "model.likelihood-logvar", "train.objective.kl-weight", "data.binarize"} <= plain
    conv = shown(printed(["digits", "--model.network", "conv", "--help"], capsys, monkeypatch))
    assert ("model.conv.blocks" in conv, "model.hidden-dim" in conv) == (True, False)
    assert "train.fsdp.cpu-offload" in shown(
        printed(["digits", "--help", "--train.strategy=fsdp"], capsys, monkeypatch)
    )
    own = shown(printed(["digits", "--help", "--data.path=here"], capsys, monkeypatch))
    assert {"data.text.vocab-size", "data.table.label"} <= own
    assert not any(
        name.startswith("train.objective") for name in shown(printed(["movielens-100k-dae", "-h"], capsys, monkeypatch))
    )


def test_names_of_registries_are_listed_as_choices(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = printed(["mnist-conv", "--help"], capsys, monkeypatch)
    assert "--model.network {mlp,conv,linear}" in text
    assert "--model.preset {None,small,base,large}" in text
    assert "--model.likelihood {bernoulli,gaussian," in text


@pytest.mark.parametrize(
    "option",
    [
        "--train.beta2=.9",
        "--train.guard.stop-after=3",
        "--train.ddp.bucket-mib=1",
        "--data.max-gib=2",
        "--train.timeout=9",
    ],
)
def test_options_that_the_help_omits_are_accepted(option: str) -> None:
    assert parse_run("train", "digits", [option]) != parse_run("train", "digits", [])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("digits --data.text.vocab-size 3", "--data.text.vocab-size is for text data, and this run has pixels data"),
        (
            "sst2-sentences --data.binarize=static",
            "--data.binarize is for pixels data, and this run has text data (sst2)",
        ),
        (
            "digits --model.conv.channels 8",
            "--model.conv.channels is for family vae conv, and this run has network mlp",
        ),
        ("mnist-conv --model.hidden_dim 8", "--model.hidden-dim is for family vae mlp"),
        ("mnist --model.likelihood-logvar=scalar", "--model.likelihood-logvar is for likelihood gaussian"),
        ("autoencoder-digits --model.likelihood gaussian", "--model.likelihood is for models with a likelihood"),
        ("autoencoder-digits --beta 2", "--train.objective.kl-weight is for models with a rate"),
        ("digits --model.family text", "got pixels; set model.family to vae, autoencoder or hierarchical"),
        ("digits --model.network gru", "gru is a network of family text, and the family is vae"),
        ("digits --model.preset huge", "has small, base or large, got 'huge'"),
        ("digits --model.preset", "Missing value for argument '--model.preset'"),
        ("digits --model.presett small", "did you mean --model.preset?"),
    ],
)
def test_options_without_an_effect_are_refused(words: str, expected: str) -> None:
    recipe, *options = words.split()
    with pytest.raises(UsageError, match=re.escape(expected)):
        parse_run("train", recipe, options)


def test_options_of_all_kinds_are_accepted_with_a_path(tmp_path: Path) -> None:
    config = parse_run("train", "digits", [f"--data.path={tmp_path}", "--data.text.vocab-size=7"])
    assert config.data.text.vocab_size == 7


def test_a_preset_sets_the_options_that_are_not_given() -> None:
    small = parse_run("train", "mnist", ["--model.preset=small", "--model.latent-dim", "3"]).model
    assert (small.hidden_dim, small.latent_dim, small.likelihood) == ((128,), 3, "bernoulli")
    conv = parse_run("train", "mnist", ["--model.network", "conv", "--model.preset", "large"]).model
    assert (conv.conv.channels, conv.latent_dim) == ((48, 96), 128)


def test_another_family_has_its_own_defaults(tmp_path: Path) -> None:
    words = ["--data.path", str(tmp_path), "--model.family=text", "--model.network=lstm", "--model.latent-dim=5"]
    model = parse_run("train", "digits", words).model
    assert (model.family, model.network, model.likelihood) == ("text", "lstm", "tokens")
    assert (model.hidden_dim, model.latent_dim) == ((256,), 5)
