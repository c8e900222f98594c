"""Rules that every search takes: which tokens are allowed, how probable, how hypotheses rank."""

from ktransformer.decoding.rules.distributions import MinP as MinP
from ktransformer.decoding.rules.distributions import Temperature as Temperature
from ktransformer.decoding.rules.distributions import TopK as TopK
from ktransformer.decoding.rules.distributions import TopP as TopP
from ktransformer.decoding.rules.exclusions import FirstTokens as FirstTokens
from ktransformer.decoding.rules.exclusions import ForcedPrefix as ForcedPrefix
from ktransformer.decoding.rules.exclusions import MinimumLength as MinimumLength
from ktransformer.decoding.rules.exclusions import NoLoops as NoLoops
from ktransformer.decoding.rules.exclusions import NoRepeatedNgrams as NoRepeatedNgrams
from ktransformer.decoding.rules.exclusions import NthFirstToken as NthFirstToken
from ktransformer.decoding.rules.exclusions import SuppressedIds as SuppressedIds
from ktransformer.decoding.rules.exclusions import SuppressedSequences as SuppressedSequences
from ktransformer.decoding.rules.penalties import Coverage as Coverage
from ktransformer.decoding.rules.penalties import LengthPenalty as LengthPenalty
from ktransformer.decoding.rules.penalties import RepetitionPenalty as RepetitionPenalty
from ktransformer.decoding.rules.phrases import RequiredPhrases as RequiredPhrases
from ktransformer.decoding.rules.rule import Context as Context
from ktransformer.decoding.rules.rule import Rule as Rule
from ktransformer.decoding.rules.rule import TokenExclusion as TokenExclusion
