"""Data: sources of examples, their order, and the batches that a step of training or evaluation reads."""

from fastvae.data.audio_preprocess import AudioConfig, LogMelPreprocess
from fastvae.data.condition import ConditionField, Conditions, Field, NumberField
from fastvae.data.config import DataConfig
from fastvae.data.dataset import Data, State, as_data, condition_on
from fastvae.data.loader import Loader, MicroBatch, evaluation_batches, load_examples
from fastvae.data.order import order_index, share
from fastvae.data.prefetch import LoadError, Prefetcher
from fastvae.data.preprocess import Preprocess, Preprocessor
from fastvae.data.registry import DATASETS, RECOGNIZERS, Recognizer, build_data, read_source
from fastvae.data.restore import DESCRIPTION, MissingSource, describe, restore
from fastvae.data.source import Source, as_source
from fastvae.data.tokenizer import TextDataConfig

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
    "restore",
    "share",
]
