"""What a model's training code imports: the data, the context with its loop, the metrics.

`train(data, ctx)` gets a `Data` and a `TrainContext`, `evaluate(data, predict, ctx)` an `EvaluateContext` in its place;
both return an `Evaluation`.
"""

from mercato_training.context import EvaluateContext, Quiet, Report, TrainContext
from mercato_training.data import Data
from mercato_training.errors import DataError, TrainingError
from mercato_training.group import Group
from mercato_training.hashing import UserHash, read_salt
from mercato_training.loop import Fitted
from mercato_training.metrics import Confusion, Evaluation, Fit, classification, regression
from mercato_training.options import option
from mercato_training.reading import Images
from mercato_training.run import Job, Trained, train
from mercato_training.schema import Column, TableSchema
from mercato_training.table import Parts, Table, labels_of, majority_of

__all__ = [
    "Column",
    "Confusion",
    "Data",
    "DataError",
    "EvaluateContext",
    "Evaluation",
    "Fit",
    "Fitted",
    "Group",
    "Images",
    "Job",
    "Parts",
    "Quiet",
    "Report",
    "Table",
    "TableSchema",
    "TrainContext",
    "Trained",
    "TrainingError",
    "UserHash",
    "classification",
    "labels_of",
    "majority_of",
    "option",
    "read_salt",
    "regression",
    "train",
]
