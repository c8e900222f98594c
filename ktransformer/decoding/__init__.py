"""Search for the best target sequences, given a step function; knows no model."""

from ktransformer.decoding.beam import beam_search as beam_search
from ktransformer.decoding.greedy import greedy_search as greedy_search
from ktransformer.decoding.hypotheses import IMPOSSIBLE as IMPOSSIBLE
from ktransformer.decoding.hypotheses import Hypotheses as Hypotheses
from ktransformer.decoding.hypotheses import SpecialIds as SpecialIds
from ktransformer.decoding.hypotheses import length_limits as length_limits
from ktransformer.decoding.rules import Context as Context
from ktransformer.decoding.rules import Coverage as Coverage
from ktransformer.decoding.rules import ForcedPrefix as ForcedPrefix
from ktransformer.decoding.rules import LengthPenalty as LengthPenalty
from ktransformer.decoding.rules import MinimumLength as MinimumLength
from ktransformer.decoding.rules import MinP as MinP
from ktransformer.decoding.rules import NoRepeatedNgrams as NoRepeatedNgrams
from ktransformer.decoding.rules import RepetitionPenalty as RepetitionPenalty
from ktransformer.decoding.rules import RequiredPhrases as RequiredPhrases
from ktransformer.decoding.rules import Rule as Rule
from ktransformer.decoding.rules import SuppressedIds as SuppressedIds
from ktransformer.decoding.rules import Temperature as Temperature
from ktransformer.decoding.rules import TopK as TopK
from ktransformer.decoding.rules import TopP as TopP
from ktransformer.decoding.sampling import sample as sample
from ktransformer.decoding.sampling import sampling_rules as sampling_rules
from ktransformer.decoding.sampling import to_seed as to_seed
from ktransformer.decoding.search_model import SearchModel as SearchModel
from ktransformer.decoding.search_model import StepFunctionModel as StepFunctionModel
