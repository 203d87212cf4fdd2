"""Data: sources of examples, their order, and the batches that a step of training or evaluation reads."""

from fastvae.data.condition import ConditionField, Conditions, Field, NumberField
from fastvae.data.config import DataConfig
from fastvae.data.dataset import Data, as_data, condition_on
from fastvae.data.loader import Loader, MicroBatch, evaluation_batches
from fastvae.data.order import order_index, share
from fastvae.data.preprocess import Preprocess, Preprocessor
from fastvae.data.registry import DATASETS, RECOGNIZERS, Recognizer, build_data
from fastvae.data.source import Source, as_source

__all__ = [
    "DATASETS",
    "RECOGNIZERS",
    "ConditionField",
    "Conditions",
    "Data",
    "DataConfig",
    "Field",
    "Loader",
    "MicroBatch",
    "NumberField",
    "Preprocess",
    "Preprocessor",
    "Recognizer",
    "Source",
    "as_data",
    "as_source",
    "build_data",
    "condition_on",
    "evaluation_batches",
    "order_index",
    "share",
]
