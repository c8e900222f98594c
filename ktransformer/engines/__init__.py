"""Opens a model in any of its forms, such as a folder or a .tflite; runs translators."""

from ktransformer.runtime import supported_backend as supported_backend  # isort: skip
from ktransformer.engines.annotation import Annotation as Annotation
from ktransformer.engines.anything import load as load
from ktransformer.engines.attention import draw_attention as draw_attention
from ktransformer.engines.converted import CTranslate2Engine as CTranslate2Engine
from ktransformer.engines.converted import OnnxEngine as OnnxEngine
from ktransformer.engines.engine import Engine as Engine
from ktransformer.engines.engine import ModelEngine as ModelEngine
from ktransformer.engines.lite import LiteEngine as LiteEngine
from ktransformer.engines.opening import load_engine as load_engine
from ktransformer.engines.opening import open_model as open_model
from ktransformer.engines.saved_model import SavedModelEngine as SavedModelEngine
from ktransformer.engines.scoring import PairScore as PairScore
from ktransformer.engines.scoring import score_pairs as score_pairs
from ktransformer.engines.streams import batches_by_length as batches_by_length
from ktransformer.engines.streams import translate_blocks as translate_blocks
from ktransformer.engines.streams import translate_lines as translate_lines
from ktransformer.engines.streams import translate_pieces as translate_pieces
from ktransformer.engines.task_model import PublishedModel as PublishedModel
from ktransformer.engines.task_model import TaskModel as TaskModel
from ktransformer.engines.translations import DocumentSentence as DocumentSentence
from ktransformer.engines.translations import DocumentTranslation as DocumentTranslation
from ktransformer.engines.translations import TermTranslation as TermTranslation
from ktransformer.engines.translations import Translation as Translation
from ktransformer.runtime.threads import available_cores as available_cores
from ktransformer.tasks import load_translator as load_translator
