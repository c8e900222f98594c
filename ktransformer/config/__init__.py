"""Settings as dataclasses, read from YAML or the command line."""

from ktransformer.config.choices import CHOICES as CHOICES
from ktransformer.config.data import CLEANING_RULES as CLEANING_RULES
from ktransformer.config.data import DataConfig as DataConfig
from ktransformer.config.export import BatchingConfig as BatchingConfig
from ktransformer.config.export import CompilationConfig as CompilationConfig
from ktransformer.config.model import ModelConfig as ModelConfig
from ktransformer.config.search import DecodingConfig as DecodingConfig
from ktransformer.config.search import SearchConfig as SearchConfig
from ktransformer.config.sections import Config as Config
from ktransformer.config.sections import flatten as flatten
from ktransformer.config.sections import read_settings as read_settings
from ktransformer.config.training import TrainingConfig as TrainingConfig
from ktransformer.config.values import convert as convert
from ktransformer.config.values import split_settings as split_settings
