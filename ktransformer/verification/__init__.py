"""Verifies exports: compares them with the model that they were made from."""

from ktransformer.runtime import supported_backend as supported_backend
from ktransformer.verification.report import Report as Report
from ktransformer.verification.report import Result as Result
from ktransformer.verification.runner import Export as Export
from ktransformer.verification.tolerances import Tolerances as Tolerances
from ktransformer.verification.verifying import compare_exports as compare_exports
from ktransformer.verification.verifying import verify as verify
