"""What plugins and harness say to each other: tasks, splits, runs, and the errors that a plugin may raise.

Imports NumPy only, so that plugins, the command line and the workflow can use it without starting a framework.
"""

from morphobench.contract.errors import DataUnavailable, Diverged, FrameworkUnavailable, InvalidPlugin, OutOfTime
from morphobench.contract.graphs import Graph, GraphSplit
from morphobench.contract.hooks import (
    FRAMEWORKS,
    OPERATIONS,
    Family,
    FrameworkName,
    MorphologicalTarget,
    OperatorInstance,
    RecoveryOperator,
)
from morphobench.contract.run import Budget, EpochLog, Run
from morphobench.contract.split import SPLITS, AnySplit, Split
from morphobench.contract.task import PRIMARY_METRIC, TASK_KINDS, Task, TaskKind

__all__ = [
    "FRAMEWORKS",
    "OPERATIONS",
    "PRIMARY_METRIC",
    "SPLITS",
    "TASK_KINDS",
    "AnySplit",
    "Budget",
    "DataUnavailable",
    "Diverged",
    "EpochLog",
    "Family",
    "FrameworkName",
    "FrameworkUnavailable",
    "Graph",
    "GraphSplit",
    "InvalidPlugin",
    "MorphologicalTarget",
    "OperatorInstance",
    "OutOfTime",
    "RecoveryOperator",
    "Run",
    "Split",
    "Task",
    "TaskKind",
]
