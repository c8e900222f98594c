"""Search for the best target sequences, given a step function; knows no model."""

from ktransformer.decoding.beam import beam_search as beam_search
from ktransformer.decoding.hypotheses import Hypotheses as Hypotheses
from ktransformer.decoding.hypotheses import SpecialIds as SpecialIds
from ktransformer.decoding.hypotheses import length_limits as length_limits
from ktransformer.decoding.sampling_options import check_sampling as check_sampling
from ktransformer.decoding.sampling_options import to_seed as to_seed
from ktransformer.decoding.search_model import SearchModel as SearchModel
from ktransformer.decoding.search_model import StepFunctionModel as StepFunctionModel
from ktransformer.decoding.single import greedy_search as greedy_search
from ktransformer.decoding.single import sample as sample
