"""Published models in: the folders of other libraries, opened as tasks."""

from ktransformer.conversion import bert as bert
from ktransformer.conversion import gpt2 as gpt2
from ktransformer.conversion import llama as llama
from ktransformer.conversion import marian as marian
from ktransformer.conversion import vit as vit
from ktransformer.conversion.folder import PublishedFolder as PublishedFolder
from ktransformer.conversion.folder import is_published as is_published
from ktransformer.conversion.importing import Imported as Imported
from ktransformer.conversion.importing import import_published as import_published
from ktransformer.conversion.importing import load as load
from ktransformer.conversion.importing import open_run as open_run
from ktransformer.conversion.problems import Problems as Problems
from ktransformer.conversion.registry import register_family as register_family
from ktransformer.conversion.registry import registered_families as registered_families
from ktransformer.conversion.settings import Settings as Settings
from ktransformer.conversion.weight_table import Weight as Weight
from ktransformer.conversion.weight_table import load_weights as load_weights
