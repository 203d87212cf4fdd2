"""Data: sources of examples, their order, and the batches that a step of training or evaluation reads."""

from typing import TYPE_CHECKING

from fastvae.lazy import lazy_names

if TYPE_CHECKING:
    from fastvae.data.audio_preprocess import LogMelPreprocess
    from fastvae.data.condition import ConditionField, Conditions, Field, NumberField
    from fastvae.data.config import AudioConfig, DataConfig, TextDataConfig
    from fastvae.data.dataset import Data, State, as_data, condition_on
    from fastvae.data.loader import Loader, MicroBatch, evaluation_batches, load_examples
    from fastvae.data.order import order_index, share
    from fastvae.data.prefetch import LoadError, Prefetcher
    from fastvae.data.preprocess import Preprocess, Preprocessor
    from fastvae.data.registry import DATASETS, RECOGNIZERS, Recognizer, build_data, read_source
    from fastvae.data.restore import DESCRIPTION, MissingSource, describe
    from fastvae.data.source import Source, as_source

__all__ = [
    "DATASETS",
    "DESCRIPTION",
    "RECOGNIZERS",
    "AudioConfig",
    "ConditionField",
    "Conditions",
    "Data",
    "DataConfig",
    "Field",
    "LoadError",
    "Loader",
    "LogMelPreprocess",
    "MicroBatch",
    "MissingSource",
    "NumberField",
    "Prefetcher",
    "Preprocess",
    "Preprocessor",
    "Recognizer",
    "Source",
    "State",
    "TextDataConfig",
    "as_data",
    "as_source",
    "build_data",
    "condition_on",
    "describe",
    "evaluation_batches",
    "load_examples",
    "order_index",
    "read_source",
    "share",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "audio_preprocess": ("LogMelPreprocess",),
        "condition": ("ConditionField", "Conditions", "Field", "NumberField"),
        "config": ("AudioConfig", "DataConfig", "TextDataConfig"),
        "dataset": ("Data", "State", "as_data", "condition_on"),
        "loader": ("Loader", "MicroBatch", "evaluation_batches", "load_examples"),
        "order": ("order_index", "share"),
        "prefetch": ("LoadError", "Prefetcher"),
        "preprocess": ("Preprocess", "Preprocessor"),
        "registry": ("DATASETS", "RECOGNIZERS", "Recognizer", "build_data", "read_source"),
        "restore": ("DESCRIPTION", "MissingSource", "describe"),
        "source": ("Source", "as_source"),
    },
)
