"""The tokenizer that the tests of tokenizers share."""

import pytest
from sentencepiece import sentencepiece_model_pb2

from ktransformer.text import Tokenizer
from tests.text.training_text import TRAINING_TEXT


@pytest.fixture(scope="package")
def tokenizer():
    return Tokenizer.train(TRAINING_TEXT, 120)


@pytest.fixture(scope="package")
def settings(tokenizer):
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(tokenizer.model)
    return proto
