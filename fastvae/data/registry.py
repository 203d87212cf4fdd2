"""Loading data by name, and user data by kind or by the detected contents of a path."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastvae.data.condition import conditioned
from fastvae.data.config import DataConfig
from fastvae.data.dataset import Data, State, condition_on, hold_out
from fastvae.data.files.foreign import check_not_foreign, what_a_folder_holds
from fastvae.data.files.stamp import STAMP_FILE, stamp_of, why_unreadable
from fastvae.data.kind import Form, Renderer
from fastvae.data.kinds import ANY, KINDS, dataset_names, kind_of_dataset, resolve
from fastvae.data.loading.settings import Loading
from fastvae.data.restore import examples_missing, kept_kind, restore
from fastvae.data.source import Source
from fastvae.data.views import looked_at


def build_data(config: DataConfig, seed: int = 0, state: State | None = None) -> Data:
    """Load the data of a configuration.

    Args:
        config: settings of the data.
        seed: the run's seed; static binarisation depends on it.
        state: files that a finished run stored of its data, so that the same tokens, scales or items are used again. If
            its own examples are missing or have changed, the data have none, and reading one raises the reason.

    Raises:
        ValueError: missing, damaged, empty or unsuitable data; the message names the file and the remedy.
    """
    config = resolve(config)
    if not state:
        return _build(config, seed, {})
    try:
        return _build(config, seed, state)
    except (ValueError, OSError) as error:
        restored = restore(state, str(error))
        if restored is None:
            raise ValueError(examples_missing(str(error))) from error
        return restored


def read_source(examples: Any, data: Data, config: DataConfig) -> Source:
    """All examples of a file, folder or object in its order, for a model that was trained on ``data``.

    Args:
        examples: a path, or an object in memory of the data's kind: an array, tensor, list, sparse matrix or Pillow
            images for pixels and plain numbers, a DataFrame for a table, a list of sentences for text, a sparse matrix
            for interactions.
        data: the run's data.
        config: how they are read.

    Raises:
        ValueError: the examples are unsuitable, or do not have the run's shape and type.
        TypeError: an object of another kind; the message has the remedy.
    """
    config = replace(config, on_bad_example="stop")  # no row of the output may be missing
    if isinstance(examples, str | Path):
        path = Path(examples).expanduser()
        return _checked(str(path), _read_path(path, data, config), data)
    name = type(examples).__name__
    return _checked(name, _read_object(examples, name, data, config), data)


def _read_path(path: Path, data: Data, config: DataConfig) -> Source:
    form = _recognize(path, data.kind)
    if form.read is None:
        raise ValueError(f"{path}: {form.description} can only be read by a new run; name a file of examples")
    return form.read(path, config, data.state)


def _read_object(examples: Any, name: str, data: Data, config: DataConfig) -> Source:
    read = None if data.kind not in KINDS else KINDS[data.kind].handlers.read_object
    if read is None:
        raise TypeError(
            f"{name}: a run on data of kind {data.kind} reads files; write the examples to one, or give a fastvae.data"
            ".Source"
        )
    return read(examples, name, config, data)


def _checked(name: str, source: Source, data: Data) -> Source:
    """The examples of that name with the run's conditions, if they are like the run's."""
    if source.event_shape != data.event_shape or source.dtype != data.train.dtype:
        raise ValueError(
            f"{name}: examples must have the run's shape and type, {list(data.event_shape)} of {data.train.dtype}, "
            f"got {list(source.event_shape)} of {source.dtype}"
        )
    _check_levels(name, source, data.train.levels)
    for note in source.notes:
        print(note, file=sys.stderr, flush=True)
    return source if data.conditions is None else conditioned(source, data.conditions)


def find_renderer(data: Data) -> Renderer:
    """The renderer of the data's kind; that of pixels and plain numbers for a kind that is not registered."""
    return KINDS.get(data.kind, KINDS["pixels"]).handlers.renderer(data)


def _check_levels(name: str, source: Source, levels: int | None) -> None:
    """ValueError if pixels are not on the scale of the training data."""
    if levels is None or source.levels is None:
        return
    highest = max(int(source[some].max()) for some in looked_at(source))
    if highest >= levels:
        raise ValueError(f"{name}: pixels must be in 0 .. {levels - 1} as in training, got {highest}")
    if levels == 256 and highest <= 1:
        raise ValueError(f"{name}: pixels are only 0 and 1, but up to 255 in training; multiply them by 255")


def _build(config: DataConfig, seed: int, state: State) -> Data:
    data = _with_files(_build_parts(config, seed, state), config)
    loading = Loading(workers=config.workers, prefetch=config.prefetch, on_bad_example=config.on_bad_example)
    data = replace(data, loading=loading)
    return hold_out(data, config.validation_share) if config.validation_share else data


def _with_files(data: Data, config: DataConfig) -> Data:
    """Data with the test and validation examples of the files that the configuration names."""
    if config.test_path is not None:
        kind = KINDS.get(data.kind)
        if kind is not None and not kind.takes_test_path:
            raise ValueError(f"data.test_path: data of kind {data.kind} choose their own test examples; leave it out")
        assert config.path is not None, "DataConfig requires it"
        train, test = (_read_path(path.expanduser(), data, config) for path in (config.path, config.test_path))
        data = replace(
            data,
            train=_checked(str(config.path), train, data),
            test=_checked(str(config.test_path), test, data),
            notes=(*data.notes, f"test: the {len(test):,} examples of {config.test_path}"),
        )
    if config.validation_path is not None:
        path = config.validation_path.expanduser()
        source = _checked(str(path), _read_path(path, data, config), data)
        note = f"validation: the {len(source):,} examples of {config.validation_path}"
        data = replace(data, validation=source, notes=(*data.notes, note))
    return data


def _build_parts(config: DataConfig, seed: int, state: State) -> Data:
    if config.path is not None:
        return _build_own(config, config.path.expanduser(), seed, state)
    kind = kind_of_dataset(config.name)
    if kind is None:
        known = ", ".join([*dataset_names(), ANY, *KINDS])
        raise ValueError(f"data.name: must be one of {known}, got {config.name!r}")
    return condition_on(kind.handlers.datasets[config.name](config, seed, state), config.condition)


def _build_own(config: DataConfig, path: Path, seed: int, state: State) -> Data:
    """Load user data: of the kind in the run's state, else of the named kind, else of the detected kind."""
    reason = why_unreadable(path, state)
    if reason is not None:
        raise ValueError(reason)
    kind = kept_kind(state) or (None if config.name == ANY else config.name)
    data = _recognize(path, kind).load(config, seed, state)
    if not state:
        data = replace(data, state={**data.state, STAMP_FILE: stamp_of(path, len(data.all_train) + len(data.test))})
    return condition_on(data, config.condition)


def _recognize(path: Path, kind: str | None) -> Form:
    """Detect the form of a path: one of a kind, or of any kind for None."""
    kinds = KINDS.values() if kind is None else [KINDS[kind]]
    forms = [form for each in kinds for form in each.handlers.forms]
    known = ", ".join(form.description for form in forms)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; it can be {known}")
    check_not_foreign(path)
    for form in forms:
        matches = form.matches if kind is None or form.suits is None else form.suits
        if matches(path):
            return form
    raise ValueError(
        f"{path}: must be {known}"
        + ("" if kind is None else f", which data of kind {kind} are read from")
        + what_a_folder_holds(path)
    )
