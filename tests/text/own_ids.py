"""Tokenizers with special ids of their own: of one SentencePiece model, and of a table."""

import io

import numpy as np
import sentencepiece
import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps
from sentencepiece import sentencepiece_model_pb2

from ktransformer.text import Tokenizer
from tests.small_run import number_pairs

PAIRS = number_pairs(300, seed=1)  # Number words, and the same in digits.
SPECIAL = {"unk_id": 0, "bos_id": 7, "eos_id": 11, "pad_id": 20}


def train_pieces(lines, vocabulary_size=60, **options) -> bytes:
    """Trains a SentencePiece model as another program would."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=vocabulary_size,
        hard_vocab_limit=False,
        minloglevel=3,
        **options,
    )
    return model.getvalue()


def make_tokenizer() -> Tokenizer:
    """A tokenizer of both sides whose special ids are scattered."""
    lines = [line for pair in PAIRS for line in pair]
    return Tokenizer(train_pieces(lines, **SPECIAL))


def make_sides() -> tuple[bytes, bytes, dict[str, int]]:
    """Two SentencePiece models and one table, as OPUS-MT has them: its padding is the last."""
    sources, targets = zip(*PAIRS, strict=True)
    models = train_pieces(sources, character_coverage=1.0), train_pieces(targets, 20)
    table = {"</s>": 0, "<unk>": 1}
    for model in models:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = [processor.id_to_piece(i) for i in range(3, processor.vocab_size())]
        for piece in sorted(pieces, reverse=True):
            table.setdefault(piece, len(table))
    table["<pad>"] = len(table)
    return *models, table


def with_bytes(model: bytes) -> bytes:
    """Adds byte fallback to a SentencePiece model, as OPUS-MT has it from March 2023 on."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    proto.trainer_spec.byte_fallback = True
    for number in range(256):
        proto.pieces.add(piece=f"<0x{number:02X}>", type=proto.SentencePiece.BYTE)
    return proto.SerializeToString()


def run_in_lite(tokenizer: Tokenizer, texts: list[str]) -> dict[str, np.ndarray]:
    """Encodes texts and decodes the ids in LiteRT, with its builtin operations."""
    module = RoundTrip()
    module.tokenizer = tokenizer
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.run.get_concrete_function()], module
    )
    converter.allow_custom_ops = True  # Those of tensorflow-text.
    interpreter = InterpreterWithCustomOps(
        model_content=converter.convert(),
        custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
    )
    encoded = np.array([text.encode() for text in texts], dtype=object)
    return interpreter.get_signature_runner()(texts=encoded)


class RoundTrip(tf.Module):
    """Texts to ids and back."""

    tokenizer: Tokenizer

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def run(self, texts):
        """Returns `ids` and `texts`."""
        ids, _ = self.tokenizer.encode_dense(texts, 200)
        return {"ids": ids, "texts": self.tokenizer.decode(ids)}
