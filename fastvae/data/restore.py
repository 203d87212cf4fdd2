"""Data of a run whose files are gone: what its model needs is kept, its examples are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from fastvae.data.audio import recordings
from fastvae.data.condition import ConditionField, Conditions, Field, LengthField, NumberField
from fastvae.data.dataset import Data, State
from fastvae.data.interactions.catalogue import CATALOGUE_FILE
from fastvae.data.interactions.source import Counts
from fastvae.data.preprocess import Preprocess, Preprocessor
from fastvae.data.source import Source
from fastvae.data.table.columns import TABLE_FILE, MaskGaps
from fastvae.data.text import sentences

DESCRIPTION = "data.json"
_PREPROCESS: dict[str, Callable[[State], Preprocessor]] = {  # others: pixels and numbers
    "text": sentences.restored_preprocess,
    "audio": recordings.restored_preprocess,
    "table": lambda state: MaskGaps(),
    "interactions": lambda state: Counts(),
}
_KEPT = {  # the kind of a run's data by a file that it keeps
    TABLE_FILE: "table",
    CATALOGUE_FILE: "interactions",
    sentences.TOKENIZER_FILE: "text",
    recordings.STATE: "audio",
    DESCRIPTION: "pixels",
}


class MissingSource(Source):
    """Examples that are not there: whoever asks for one is told why."""

    def __init__(self, event_shape: tuple[int, ...], dtype: torch.dtype, levels: int | None, reason: str) -> None:
        self.event_shape, self.dtype, self.levels, self.reason = event_shape, dtype, levels, reason

    def __len__(self) -> int:
        raise ValueError(self.reason)

    def __getitem__(self, indices: Tensor) -> Any:
        raise ValueError(self.reason)


def describe(data: Data) -> bytes:
    """What `restore` needs, as JSON. It restores the kinds of this package; of others only the name is kept."""
    described: dict[str, Any] = {"name": data.name, "kind": data.kind, "preprocess": None}
    if isinstance(data.preprocess, Preprocess) or data.kind in _PREPROCESS:
        described |= {
            "preprocess": asdict(data.preprocess) if isinstance(data.preprocess, Preprocess) else {},
            "event_shape": list(data.event_shape),
            "dtype": str(data.train.dtype).removeprefix("torch."),
            "levels": data.train.levels,
            "label_names": data.label_names,
            "fields": [_described(field) for field in data.known_fields()],
            "conditions": None if data.conditions is None else [field.name for field in data.conditions.fields],
            "inputs": dict(data.inputs),
        }
    return (json.dumps(described, indent=1) + "\n").encode()


def kept_kind(state: State) -> str | None:
    """Of what kind a run's own data were, from what it kept; images and plain numbers are pixels. None: a new run."""
    return next((kind for file, kind in _KEPT.items() if file in state), None)


def restore(state: State, reason: str) -> Data | None:
    """Data without examples from what a run kept; None for a preprocessing of the user's own.

    Args:
        state: the files of ``RUN/data``.
        reason: why the examples are missing; asking for one raises it as a ValueError.
    """
    try:
        return _restore(state, reason)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{DESCRIPTION} of the run does not describe its data ({error!r}); was it changed?") from None


def _restore(state: State, reason: str) -> Data | None:
    described = json.loads(state.get(DESCRIPTION, b"{}"))
    if described.get("preprocess") is None:
        return None
    dtype = getattr(torch, described["dtype"])
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{described['dtype']!r} is no type of numbers")
    source = MissingSource(tuple(described["event_shape"]), dtype, described["levels"], reason)
    fields = {item["name"]: _restored(item) for item in described["fields"]}
    names = described["conditions"]
    return Data(
        name=described["name"],
        train=source,
        test=source,
        preprocess=_PREPROCESS.get(described["kind"], _restored_pixels)(state),
        kind=described["kind"],
        label_names=None if described["label_names"] is None else tuple(described["label_names"]),
        fields=tuple(fields.values()),
        conditions=None if names is None else Conditions(tuple(fields[name] for name in names)),
        inputs={name: tuple(v) if isinstance(v, list) else v for name, v in described["inputs"].items()},
        state=state,
    )


def _restored_pixels(state: State) -> Preprocess:
    return Preprocess(**json.loads(state[DESCRIPTION])["preprocess"])


def _described(field: Field) -> dict[str, Any]:
    if isinstance(field, LengthField):
        return {"type": "length", "name": field.name, "values": list(field.values), "usual": list(field.usual)}
    if isinstance(field, ConditionField):
        return {"type": "class", "name": field.name, "values": list(field.values)}
    assert isinstance(field, NumberField)
    return {"type": "number", "name": field.name, "low": field.low, "high": field.high}


def _restored(described: dict[str, Any]) -> Field:
    if described["type"] == "class":
        return ConditionField(described["name"], tuple(described["values"]))
    if described["type"] == "length":
        return LengthField(described["name"], tuple(described["values"]), tuple(described["usual"]))
    return NumberField(described["name"], low=described["low"], high=described["high"])
