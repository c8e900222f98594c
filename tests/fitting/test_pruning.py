import dataclasses

import keras
import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
from sentencepiece import sentencepiece_model_pb2

from ktransformer.cli import main
from ktransformer.config import Config
from ktransformer.engines import LiteEngine
from ktransformer.errors import InputError
from ktransformer.fitting.pruning import count_pieces, prune_model, prune_run
from ktransformer.layers import PositionalEmbedding
from ktransformer.models import Transformer
from ktransformer.saving.run import Run, load_run
from ktransformer.text import END_ID, MASK, PAD_ID, START_ID, UNKNOWN_ID, Tokenizer
from ktransformer.text.piece_model import find_symbols
from tests.run_command import refusal
from tests.small_run import number_pairs
from tests.subclasses import RelativeTransformer, make_batch, make_model

register = keras.saving.register_keras_serializable(package="tests")
NARROW = ["one two", "two one one", "12", "211"]  # Of number words to digits, a narrow domain.


@pytest.fixture(scope="module")
def run(run_folder) -> Run:
    return load_run(run_folder)


@pytest.fixture(scope="module")
def pruned(run) -> Run:
    return prune_run(run, NARROW)


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    """A tokenizer with pieces of many lengths."""
    lines = [source for source, _ in number_pairs(300, seed=1)]
    return Tokenizer.train([*lines, "jumped over a lazy dog"], vocabulary_size=60)


def all_pieces(tokenizer: Tokenizer) -> list[str]:
    return tokenizer.pieces(range(tokenizer.vocabulary_size))


def pieces_of(tokenizer: Tokenizer, texts: list[str]) -> list[list[str]]:
    return [tokenizer.pieces(ids) for ids in tokenizer.encode_lines(texts)]


def run_of(tokenizer: Tokenizer, **options) -> Run:
    """A run with drawn weights, those that start at 0 or 1 included."""
    sizes = {"num_layers": 1, "d_model": 16, "num_heads": 2, "hidden_dim": 24, "max_length": 16}
    model = Transformer(tokenizer.vocabulary_size, **{**sizes, **options})
    model.build()
    generator = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign_add(0.2 * generator.normal(size=weight.shape))
    return Run(Config(), tokenizer, model, {})


def kept_ids(run: Run, smaller: Run) -> np.ndarray:
    """The old id of each new one."""
    old = {piece: i for i, piece in enumerate(all_pieces(run.tokenizer))}
    return np.array([old[piece] for piece in all_pieces(smaller.tokenizer)])


def logits(model: Transformer, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model({"source": source, "target": target}))


def test_the_pieces_that_stay_are_the_special_the_used_and_the_single_characters(run, pruned):
    used = {piece for pieces in pieces_of(run.tokenizer, NARROW) for piece in pieces}
    single = {piece for piece in all_pieces(run.tokenizer) if len(piece) == 1}
    special = set(run.tokenizer.pieces([PAD_ID, UNKNOWN_ID, START_ID, END_ID]))
    assert len(used - single) > 1
    assert set(all_pieces(pruned.tokenizer)) == special | used | single
    assert len(all_pieces(pruned.tokenizer)) < len(all_pieces(run.tokenizer))


def test_the_special_pieces_keep_their_ids_and_the_others_their_order(run, pruned):
    special = [PAD_ID, UNKNOWN_ID, START_ID, END_ID]
    assert pruned.tokenizer.pieces(special) == run.tokenizer.pieces(special)
    kept = kept_ids(run, pruned)
    np.testing.assert_array_equal(kept, np.sort(kept))


def test_the_corpus_is_encoded_into_the_same_pieces(words):
    texts = [source for source, _ in number_pairs(40, seed=5)] + ["a dog ж jumped", ""]
    smaller = prune_run(run_of(words), texts).tokenizer
    assert smaller.vocabulary_size < words.vocabulary_size
    assert pieces_of(smaller, texts) == pieces_of(words, texts)


def test_the_least_probable_piece_stays_for_it_prices_unknown_characters(words):
    proto = sentencepiece_model_pb2.ModelProto.FromString(words.model)
    (seven,) = (piece for piece in proto.pieces if piece.piece == "▁seven")
    seven.score = -50
    smaller = prune_run(run_of(Tokenizer(proto.SerializeToString())), ["one"]).tokenizer
    assert "▁seven" in all_pieces(smaller)
    assert "▁seven" not in all_pieces(prune_run(run_of(words), ["one"]).tokenizer)


def test_other_text_of_known_characters_is_written_in_shorter_pieces(words):
    smaller = prune_run(run_of(words), ["one"]).tokenizer
    text = "seven lazy dogs jumped over zero"
    (ids,), (old,) = smaller.encode_lines([text]), words.encode_lines([text])
    assert UNKNOWN_ID not in ids
    assert len(ids) > len(old)
    assert smaller.decode(tf.constant([ids])).numpy()[0].decode() == text


def test_min_count_keeps_what_is_used_so_often(words):
    texts = ["dog", "one one one", "two two"]
    counts = dict(zip(all_pieces(words), count_pieces(words, texts), strict=True))
    often = {piece for piece, count in counts.items() if count >= 3}
    few = set(all_pieces(prune_run(run_of(words), texts, min_count=3).tokenizer))
    assert "▁one" in often <= few
    assert counts["▁two"] == 2
    assert "▁two" in set(all_pieces(prune_run(run_of(words), texts).tokenizer)) - few


def test_counting_gives_each_piece_and_the_end_of_each_text(words):
    counts = dict(zip(all_pieces(words), count_pieces(words, ["one", "one two"]), strict=True))
    used = {piece: count for piece, count in counts.items() if count}
    assert used == {"▁one": 2, "▁two": 1, words.pieces([END_ID])[0]: 2}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tie_embeddings": False},
        {"positions": "learned", "norm_first": True},
        {"output_bias": True},
    ],
    ids=["tied", "untied", "learned positions", "output bias"],
)
def test_the_logits_of_the_pieces_that_stay_are_those_of_the_whole_model(words, options):
    run = run_of(words, **options)
    smaller = prune_run(run, NARROW)
    kept = kept_ids(run, smaller)
    new = np.random.default_rng(1).integers(START_ID, len(kept), (3, 7))
    new[0, 4:] = PAD_ID
    expected = logits(run.model, kept[new], kept[new])[..., kept]
    np.testing.assert_allclose(logits(smaller.model, new, new), expected, atol=1e-5)
    assert np.ptp(expected) > 1


@pytest.mark.parametrize("tied", [True, False])
def test_only_the_tables_of_the_vocabulary_shrink(words, tied):
    run = run_of(words, tie_embeddings=tied)
    smaller = prune_run(run, NARROW)
    tables = 1 if tied else 3
    lost = words.vocabulary_size - smaller.tokenizer.vocabulary_size
    assert run.model.count_params() - smaller.model.count_params() == tables * lost * 16


def test_the_run_that_is_pruned_is_not_changed(words):
    run = run_of(words)
    before = [keras.ops.convert_to_numpy(weight) for weight in run.model.weights]
    prune_run(run, NARROW)
    for weight, values in zip(run.model.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), values)


def test_the_mask_keeps_its_two_pieces(words):
    lines = [source for source, _ in number_pairs(300, seed=1)]
    masked = Tokenizer.train(lines, vocabulary_size=60, mask=True)
    smaller = prune_run(run_of(masked), ["one two"]).tokenizer
    assert smaller.mask_id == find_symbols(smaller.model)[MASK] == smaller.vocabulary_size - 2
    texts = [f"one {MASK} two", f"one{MASK}"]
    assert pieces_of(smaller, texts) == pieces_of(masked, texts)


def test_a_subclass_is_pruned_with_its_own_weights():
    model = make_model(RelativeTransformer)
    kept = np.array([0, 1, 2, 3, 5, 8, 11])
    smaller = prune_model(model, kept)
    assert type(smaller) is RelativeTransformer
    inputs, _ = make_batch()
    new = {name: np.searchsorted(kept, ids) % len(kept) for name, ids in inputs.items()}
    expected = logits(model, kept[new["source"]], kept[new["target"]])[..., kept]
    np.testing.assert_allclose(logits(smaller, **new), expected, atol=1e-5)


@register
class OtherEmbedding(keras.layers.Embedding):
    pass


@register
class OtherTableTransformer(Transformer):
    def make_embedding(self, name):
        return OtherEmbedding(self.vocabulary_size, self.d_model, name=name)


@register
class CountedEmbedding(PositionalEmbedding):
    """Has a second weight with a row for each id."""

    def build(self, input_shape=None):
        super().build(input_shape)
        self.rarity = self.add_weight(shape=(self.vocabulary_size, 1), name="rarity")


@register
class CountedTransformer(Transformer):
    def make_embedding(self, name):
        return CountedEmbedding(self.vocabulary_size, self.d_model, max_length=16, name=name)


@pytest.mark.parametrize(
    ("subclass", "reason"),
    [
        (OtherTableTransformer, "source_embedding is a OtherEmbedding, not a PositionalEmbedding"),
        (CountedTransformer, r"rarity of shape \(12, 1\) depends on the vocabulary"),
    ],
)
def test_a_vocabulary_in_other_layers_is_refused(subclass, reason):
    model = subclass(12, num_layers=1, d_model=16, num_heads=2, hidden_dim=24)
    model.build()
    with pytest.raises(InputError, match=reason):
        prune_model(model, np.arange(6))


def test_a_tokenizer_that_is_not_unigram_is_refused(run, tmp_path):
    (tmp_path / "text").write_text("one two three four five\n" * 9)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"),
        model_prefix=str(tmp_path / "bpe"),
        model_type="bpe",
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3},
    )
    other = dataclasses.replace(run, tokenizer=Tokenizer.load(tmp_path / "bpe.model"))
    with pytest.raises(InputError, match=r"unigram.*BPE"):
        prune_run(other, ["one"])


def test_a_corpus_without_a_line_is_refused(run):
    with pytest.raises(InputError, match="corpus"):
        prune_run(run, [])


@pytest.fixture(scope="module")
def pruned_folder(run_folder, tmp_path_factory):
    """The small run, pruned by the command to some of its digits: two corpora of a side each."""
    folder = tmp_path_factory.mktemp("pruned")
    (folder / "source").write_text("one two\ntwo one one\n")
    (folder / "target").write_text("12\n211\n")
    corpus = ["--corpus", folder / "source", "--corpus", folder / "target"]
    arguments = ["prune", run_folder, *corpus, "--output", folder / "run"]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "run"


def test_the_command_writes_a_run_with_a_configuration_of_its_size(pruned_folder, pruned):
    written = load_run(pruned_folder)
    assert written.tokenizer.model == pruned.tokenizer.model
    assert written.config.data.vocabulary_size == pruned.tokenizer.vocabulary_size
    assert written.model.vocabulary_size == pruned.tokenizer.vocabulary_size
    assert written.model.count_params() == pruned.model.count_params()


def test_the_command_prints_how_much_smaller_the_run_is(run_folder, tmp_path, capsys, run):
    (tmp_path / "corpus").write_text("one\n")
    corpus = ["--corpus", tmp_path / "corpus", "--min-count", 2]
    arguments = ["prune", run_folder, *corpus, "--output", tmp_path / "run"]
    assert main([str(argument) for argument in arguments]) == 0
    smaller = load_run(tmp_path / "run")
    old, new = run.tokenizer.vocabulary_size, smaller.tokenizer.vocabulary_size
    before, after = run.model.count_params(), smaller.model.count_params()
    assert capsys.readouterr().out.splitlines() == [
        f"pieces: {old} -> {new}",
        f"parameters: {before:,} -> {after:,}",
        "tokens of the corpus: 2 -> 5",  # The word is one piece no more: ▁ o n e, and the end.
    ]


@pytest.mark.long
def test_a_pruned_run_exports_to_lite_and_translates_its_domain(pruned_folder, tmp_path):
    output = tmp_path / "numbers.tflite"
    arguments = ["export", pruned_folder, "--format", "tflite", "--output", output]
    arguments += ["--signatures", "serving_default", "--beam-size", 1]
    assert main([str(argument) for argument in arguments]) == 0
    translations = LiteEngine(output, threads=1).translate(["two one two", "one"])
    assert translations == ["212", "1"]


def test_what_is_already_there_is_replaced_only_when_asked(run_copy, tmp_path, capsys):
    (tmp_path / "corpus").write_text("one\n")
    before = (run_copy / "model.json").read_bytes()
    arguments = ["prune", run_copy, "--corpus", tmp_path / "corpus", "--output", run_copy]
    assert "already exists" in refusal(capsys, *arguments)
    assert (run_copy / "model.json").read_bytes() == before
    assert main([str(argument) for argument in [*arguments, "--overwrite"]]) == 0
    assert (run_copy / "model.json").read_bytes() != before
