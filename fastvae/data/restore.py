"""Data of a run whose examples are missing or have changed: only what its model needs is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import dacite
import torch
from torch import Tensor

from fastvae.data.condition import ConditionField, Conditions, Field, LengthField, NumberField
from fastvae.data.dataset import Data, State
from fastvae.data.kinds import KINDS
from fastvae.data.source import Source
from fastvae.model_inputs import ModelInputs

DESCRIPTION = "data.json"


def examples_missing(reason: str, needs_no_examples: str = "") -> str:
    """Return the message that a run's own examples cannot be read; this is its only definition.

    Args:
        reason: which file or folder is missing or has changed.
        needs_no_examples: clause on what works without them; see `Kind`.
    """
    rest = f"; {needs_no_examples}" if needs_no_examples else ""
    return (
        f"the run's examples cannot be read: {reason}; restore the data, or name a file with --data"
        f" if the command has it{rest}"
    )


class MissingSource(Source):
    """Examples that cannot be read: reading one raises the reason."""

    def __init__(self, event_shape: tuple[int, ...], dtype: torch.dtype, levels: int | None, reason: str) -> None:
        self.event_shape, self.dtype, self.levels, self.reason = event_shape, dtype, levels, reason

    def __len__(self) -> int:
        raise ValueError(self.reason)

    def __getitem__(self, indices: Tensor) -> Any:
        raise ValueError(self.reason)


def describe(data: Data) -> bytes:
    """Return the input of `restore` as JSON; only name and kind for data with a user's preprocessing."""
    described: dict[str, Any] = {"name": data.name, "kind": data.kind, "preprocess": None}
    kind = KINDS.get(data.kind)
    if kind is not None and isinstance(data.preprocess, kind.handlers.preprocess):
        described |= {
            "preprocess": kind.handlers.describe(data.preprocess),
            "event_shape": list(data.event_shape),
            "dtype": str(data.train.dtype).removeprefix("torch."),
            "levels": data.train.levels,
            "label_names": data.label_names,
            "fields": [_described(field) for field in data.known_fields()],
            "conditions": None if data.conditions is None else [field.name for field in data.conditions.fields],
            "inputs": None if data.inputs is None else asdict(data.inputs),
        }
    return (json.dumps(described, indent=1) + "\n").encode()


def kept_kind(state: State) -> str | None:
    """Return the kind of a run's data from its state; None for a new run.

    Raises:
        ValueError: the run's description is damaged, or of a kind that is not registered.
    """
    if DESCRIPTION not in state:
        return None
    name = _description(state).get("kind")
    if name not in KINDS:
        known = ", ".join(KINDS)
        raise ValueError(f"{DESCRIPTION} of the run must name a known kind of data, got {name!r}; known: {known}")
    return str(name)


def restore(state: State, reason: str) -> Data | None:
    """Restore data without examples from a run's state; None for a user's preprocessing.

    Args:
        state: the files of ``RUN/data``.
        reason: why the examples are missing; reading one raises a ValueError with it.
    """
    try:
        return _restore(state, reason)
    except (KeyError, TypeError, AttributeError, RecursionError, dacite.DaciteError) as error:
        raise ValueError(f"{DESCRIPTION} of the run does not describe its data ({error!r}); was it edited?") from None


def _restore(state: State, reason: str) -> Data | None:
    described = _description(state)
    if described.get("preprocess") is None:
        return None
    dtype = getattr(torch, described["dtype"])
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{described['dtype']!r} is not a numeric type")
    kind = KINDS[described["kind"]]
    message = examples_missing(reason, kind.needs_no_examples)
    source = MissingSource(tuple(described["event_shape"]), dtype, described["levels"], message)
    fields = {item["name"]: _restored(item) for item in described["fields"]}
    names = described["conditions"]
    return Data(
        name=described["name"],
        train=source,
        test=source,
        preprocess=kind.handlers.restore(state, described["preprocess"]),
        kind=kind.name,
        label_names=None if described["label_names"] is None else tuple(described["label_names"]),
        fields=tuple(fields.values()),
        conditions=None if names is None else Conditions(tuple(fields[name] for name in names)),
        inputs=None if described["inputs"] is None else _restored_inputs(described["inputs"]),
        state=state,
    )


def _description(state: State) -> dict[str, Any]:
    try:
        described = json.loads(state.get(DESCRIPTION, b"{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{DESCRIPTION} of the run is not JSON ({error}); was it edited?") from None
    if not isinstance(described, dict) or not isinstance(described.get("kind", ""), str):
        raise ValueError(f"{DESCRIPTION} of the run must describe its data, got {str(described)[:60]}")
    return described


def _restored_inputs(described: Mapping[str, Any]) -> ModelInputs:
    return dacite.from_dict(ModelInputs, described, dacite.Config(cast=[tuple], strict=True))


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
