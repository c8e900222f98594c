"""Text in and out: the tokenizer, parallel corpora, and batches of them for training."""

from ktransformer.text.batches import TokenBatches as TokenBatches
from ktransformer.text.corpus import ParallelFiles as ParallelFiles
from ktransformer.text.corpus import ParallelText as ParallelText
from ktransformer.text.corpus import open_parallel as open_parallel
from ktransformer.text.corpus import read_lines as read_lines
from ktransformer.text.corpus import read_parallel as read_parallel
from ktransformer.text.corpus import read_tsv as read_tsv
from ktransformer.text.masked_batches import MaskedBatches as MaskedBatches
from ktransformer.text.piece_model import MASK as MASK
from ktransformer.text.sampling import SubwordSampler as SubwordSampler
from ktransformer.text.shards import ShardedBatches as ShardedBatches
from ktransformer.text.shards import Shards as Shards
from ktransformer.text.shards import write_shards as write_shards
from ktransformer.text.survey import Survey as Survey
from ktransformer.text.survey import survey_files as survey_files
from ktransformer.text.tokenizer import END_ID as END_ID
from ktransformer.text.tokenizer import PAD_ID as PAD_ID
from ktransformer.text.tokenizer import START_ID as START_ID
from ktransformer.text.tokenizer import UNKNOWN_ID as UNKNOWN_ID
from ktransformer.text.tokenizer import Tokenizer as Tokenizer
