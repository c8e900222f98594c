"""The signatures that a SavedModel has where none are named."""

import logging

import pytest

from ktransformer.engines import ModelEngine, load_engine
from ktransformer.errors import InputError
from ktransformer.exporting import export_saved_model
from ktransformer.layers import DecoderBlock
from ktransformer.models import Transformer
from tests.small_translator import drawn_translator


class GatedBlock(DecoderBlock):
    def call(self, inputs, memory=None, inputs_mask=None, memory_mask=None, training=None):
        masks = {"inputs_mask": inputs_mask, "memory_mask": memory_mask}
        return 0.5 * super().call(inputs, memory, **masks, training=training)

    def step(self, inputs, cache, memory, at):
        outputs, cache = super().step(inputs, cache, memory, at)
        return 0.5 * outputs, cache


class GatedTransformer(Transformer):
    def make_decoder_block(self):
        return GatedBlock(self.num_heads, self.hidden_dim)


def test_a_model_that_gives_no_attention_weights_is_exported_without_annotate(tmp_path, caplog):
    translator = drawn_translator(model_class=GatedTransformer)
    with caplog.at_level(logging.WARNING):
        engine = load_engine(export_saved_model(translator, tmp_path / "model"))
    assert "no signature annotate: GatedBlock overrides call" in caplog.text
    assert {"serving_default", "score"} <= set(engine.signatures)
    assert "annotate" not in engine.signatures
    found = engine.run("serving_default", [b"four zero two"])["text"]
    assert [text.decode() for text in found] == ModelEngine(translator).translate(["four zero two"])
    with pytest.raises(InputError, match="GatedBlock overrides call"):
        export_saved_model(
            translator, tmp_path / "other", signatures=["serving_default", "annotate"]
        )
