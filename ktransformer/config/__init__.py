"""The settings of a run: dataclasses, and the reading of YAML and of the command's words."""

from ktransformer.config.sections import CHOICES as CHOICES
from ktransformer.config.sections import CLEANING_RULES as CLEANING_RULES
from ktransformer.config.sections import BatchingConfig as BatchingConfig
from ktransformer.config.sections import CompilationConfig as CompilationConfig
from ktransformer.config.sections import Config as Config
from ktransformer.config.sections import DataConfig as DataConfig
from ktransformer.config.sections import DecodingConfig as DecodingConfig
from ktransformer.config.sections import ModelConfig as ModelConfig
from ktransformer.config.sections import TrainingConfig as TrainingConfig
from ktransformer.config.sections import convert as convert
from ktransformer.config.sections import flatten as flatten
from ktransformer.config.sections import read_settings as read_settings
from ktransformer.config.sections import split_settings as split_settings
