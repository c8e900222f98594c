"""Marian folders against Hugging Face transformers; `make_marian.py` wrote both."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
from safetensors.numpy import save_file

import ktransformer
from ktransformer.cli import main
from ktransformer.conversion import import_published
from ktransformer.conversion.huggingface import export_huggingface
from ktransformer.conversion.tensors import TensorReader
from ktransformer.errors import InputError
from ktransformer.exporting import LiteModel, SavedModel, export_lite, export_saved_model
from ktransformer.fitting.pruning import prune_run
from ktransformer.models import Transformer
from ktransformer.saving.run import load_run
from ktransformer.tasks import Translator
from ktransformer.tasks.written_texts import start_labels
from ktransformer.text import Tokenizer
from tests.conversion.marian_folders import change_json, unpack
from tests.run_command import refusal
from tests.text.odd_texts import odd_texts
from tests.text.own_ids import PAIRS, run_in_lite, with_bytes

NAMES = pytest.mark.parametrize("name", ["relu", "swish"])
# Each with the settings of its search.
SEARCHES = {
    "greedy": {"beam_size": 1},
    "beam": {"beam_size": 4, "early_stopping": True},
    "beam_late": {"beam_size": 4, "early_stopping": False},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return unpack(tmp_path_factory.mktemp("marian"))


@pytest.fixture(scope="module")
def stored(folders):
    with np.load(folders / "marian.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def imported(folders):
    return {name: import_published(folders / name) for name in ("relu", "swish")}


@pytest.fixture(scope="module")
def run_path(imported, folders):
    """The run of `relu`."""
    imported["relu"].save(folders / "run")
    return folders / "run"


@pytest.fixture
def copy(folders, tmp_path):
    """A copy of a folder that a test may damage."""
    return shutil.copytree(folders / "relu", tmp_path / "relu")


def their_ids(folder):
    """Returns their id of each of our ids but the start."""
    table = json.loads((folder / "vocab.json").read_text())
    first = [table[text] for text in ("<pad>", "<unk>", "</s>")]
    return first + [i for i in range(len(table)) if i not in first]


def texts_of(outputs):
    return [text.decode() for text in np.array(outputs["text"])]


def test_a_folder_that_was_exported_comes_in_with_the_same_logits(tmp_path):
    tokenizer = Tokenizer.train([line for pair in PAIRS for line in pair], 60)
    sizes = {"num_layers": 1, "d_model": 16, "num_heads": 2, "hidden_dim": 24, "max_length": 16}
    model = Transformer(tokenizer.vocabulary_size, **sizes)
    model.build()
    generator = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign_add(0.3 * generator.normal(size=weight.shape))
    export_huggingface(Translator(model, tokenizer), tmp_path / "folder")
    task = import_published(tmp_path / "folder").task
    inputs = {"source": tf.constant([[7, 9, 5, 3]]), "target": tf.constant([[2, 8, 6]])}
    assert task.tokenizer.pieces([1, 3, 7]) == tokenizer.pieces([1, 3, 7])
    ours, theirs = (each(inputs, training=False).numpy()[..., 3:] for each in (model, task.model))
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


@NAMES
def test_logits_equal_those_of_transformers(name, folders, imported, stored):
    task = imported[name].task
    sources = task.to_ids(stored[f"{name}/logit_lines"])
    labels, _ = task.target_tokenizer.encode_dense(tf.constant(stored[f"{name}/targets"]), 60)
    theirs = their_ids(folders / name)
    lengths = (stored[f"{name}/label_ids"] != theirs[0]).sum(axis=1)
    np.testing.assert_array_equal((labels.numpy() != 0).sum(axis=1), lengths)
    start = task.tokenizer.special_ids.start
    inputs = {"source": sources, "target": start_labels(labels, start)}
    logits = np.delete(task.model(inputs, training=False).numpy(), start, axis=2)
    real = labels.numpy() != 0
    np.testing.assert_allclose(
        logits[real], stored[f"{name}/logits"][:, :, theirs][real], atol=1e-4
    )


def long(*values):
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.mark.parametrize(
    ("name", "search"),
    [
        ("relu", "greedy"),
        ("swish", "beam"),
        ("relu", "beam_late"),
        long("swish", "greedy"),
        long("relu", "beam"),
        long("swish", "beam_late"),
    ],
)
def test_texts_equal_those_of_generate(name, search, imported, stored):
    task = imported[name].task.with_settings(**SEARCHES[search])
    expected = stored[f"{name}/{search}"].tolist()
    assert texts_of(task.translate_texts(stored[f"{name}/lines"])) == expected


def test_the_settings_of_generate_become_those_of_the_search(imported):
    decoding = imported["relu"].task.decoding
    assert (decoding.beam_size, decoding.early_stopping, decoding.suppress_unknown) == (
        4,
        False,
        False,
    )
    assert decoding.max_target_length == 39  # Without the start.


def test_the_command_makes_a_run_with_the_same_texts(folders, stored, tmp_path, capsys):
    assert main(["import", str(folders / "swish"), "--output", str(tmp_path / "run")]) == 0
    assert "translator" in capsys.readouterr().out
    run = load_run(tmp_path / "run")
    assert run.config.model.output_bias
    task = ktransformer.load(tmp_path / "run")
    lines = stored["swish/lines"][:10]
    assert texts_of(task.translate_texts(lines)) == stored["swish/beam_late"][:10].tolist()


@pytest.mark.long
def test_a_folder_is_fine_tuned_and_exported_as_it_is(folders, stored, tmp_path, capsys):
    lines, texts = stored["swish/lines"].tolist(), stored["swish/greedy"].tolist()
    for side, content in (("source", lines), ("target", texts)):
        (tmp_path / side).write_text("\n".join(content) + "\n", encoding="utf-8")
    folder, run, lite = folders / "swish", tmp_path / "run", tmp_path / "model.tflite"
    train = ["train", "--from", folder, "--source", tmp_path / "source", "--output", run]
    train += ["--target", tmp_path / "target", "--set", "epochs=1"]
    assert main([str(word) for word in train]) == 0
    before, after = import_published(folder).run, load_run(run)
    assert after.tokenizer.sha256 == before.tokenizer.sha256
    assert after.config.model == before.config.model
    weights = zip(before.model.get_weights(), after.model.get_weights(), strict=True)
    assert all(0 < np.abs(one - other).max() < 0.1 for one, other in weights)
    export = ["export", folder, "--format", "tflite", "--signatures", "serving_default"]
    assert main([str(word) for word in (*export, "--output", lite)]) == 0
    outputs = LiteModel(lite).run("serving_default", texts=stored["swish/lines"][:20])
    assert texts_of(outputs) == stored["swish/beam_late"][:20].tolist()


@pytest.mark.long
def test_a_saved_model_writes_the_texts_of_generate(imported, stored, tmp_path):
    export = SavedModel(export_saved_model(imported["relu"].task, tmp_path / "export"))
    outputs = export.run("serving_default", texts=stored["relu/lines"])
    assert texts_of(outputs) == stored["relu/beam_late"].tolist()


@pytest.mark.long
@NAMES
def test_a_tflite_writes_the_texts_of_generate(name, imported, stored, tmp_path):
    path = export_lite(
        imported[name].task, tmp_path / "model.tflite", signatures=["serving_default"]
    )
    outputs = LiteModel(path).run("serving_default", texts=stored[f"{name}/lines"])
    assert texts_of(outputs) == stored[f"{name}/beam_late"].tolist()


def test_a_target_language_puts_its_token_before_each_text(imported, stored):
    task = imported["relu"].task.with_settings(target_language="por", beam_size=1)
    place = [line.startswith(">>por<< ") for line in stored["relu/lines"]].index(True)
    line = stored["relu/lines"][place]
    text = line.removeprefix(">>por<< ")
    np.testing.assert_array_equal(task.to_ids([text]), imported["relu"].task.to_ids([line]))
    expected = [stored["relu/greedy"][place], ""]
    assert texts_of(task.translate_texts([text, ""])) == expected


@pytest.mark.long
def test_a_saved_model_has_the_target_language_it_was_exported_with(run_path, tmp_path):
    arguments = ["export", str(run_path), "--output", str(tmp_path / "export")]
    arguments += ["--signatures", "serving_default"]
    assert main([*arguments, "--target-language", "deu", "--beam-size", "1"]) == 0
    export = SavedModel(tmp_path / "export" / "1")
    assert export.description.decoding.target_language == "deu"
    plain = ktransformer.load(run_path, beam_size=1)
    expected = plain.translate_texts([">>deu<< goda bona"])
    assert texts_of(export.run("serving_default", texts=["goda bona"])) == texts_of(expected)


def test_an_import_and_its_target_language_do_not_go_to_a_hugging_face_folder(imported, tmp_path):
    task = imported["relu"].task.with_settings(target_language="por")
    with pytest.raises(InputError, match=r"target_language.*tokenizers"):
        export_huggingface(task, tmp_path / "folder")


def test_an_unknown_target_language_is_refused(run_path, tmp_path, capsys):
    arguments = ["export", str(run_path), "--output", str(tmp_path / "export")]
    message = refusal(capsys, *arguments, "--target-language", "xyz")
    assert "target_language" in message
    assert "deu, por" in message


def test_a_pruned_import_encodes_its_corpus_into_the_same_pieces(imported, stored):
    run, lines = imported["relu"].run, stored["relu/lines"][:8].tolist()
    pruned = prune_run(run, [*lines, *stored["relu/greedy"][:8].tolist()])
    assert pruned.model.vocabulary_size < run.model.vocabulary_size
    assert pruned.target_tokenizer.vocabulary_size == pruned.model.vocabulary_size
    ours, theirs = pruned.tokenizer, run.tokenizer
    assert [ours.pieces(ids) for ids in ours.encode_lines(lines)] == [
        theirs.pieces(ids) for ids in theirs.encode_lines(lines)
    ]


def test_byte_fallback_is_noted_and_keeps_texts_out_of_a_tflite(copy, tmp_path):
    for name in ("source.spm", "target.spm"):
        (copy / name).write_bytes(with_bytes((copy / name).read_bytes()))
    noted = import_published(copy)
    assert any("ids" in note for note in noted.notes)
    with pytest.raises(InputError, match=r"bytes.*serving_default"):
        export_lite(noted.task, tmp_path / "model.tflite")


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("config.json", {"share_encoder_decoder_embeddings": False}, "share_encoder_decoder"),
        ("config.json", {"normalize_before": True}, "normalize_before=True"),
        ("config.json", {"activation_function": "gelu_new"}, "activation_function.*relu"),
        ("config.json", {"decoder_ffn_dim": 8}, "decoder_ffn_dim=8"),
        ("config.json", {"encoder_layers": 10**9}, "encoder_layers=1000000000"),
        ("config.json", {"new_option": 1}, "new_option"),
        ("generation_config.json", {"do_sample": True}, "do_sample"),
        ("generation_config.json", {"bad_words_ids": [[3]]}, "bad_words_ids"),
        ("generation_config.json", {"early_stopping": "never"}, "early_stopping"),
        ("vocab.json", {"<pad>": 999}, "vocab.json.*0 to"),
        ("vocab.json", {"<unk>": 5}, "vocab.json.*each once"),
        ("tokenizer_config.json", {"separate_vocabs": True}, "separate_vocabs"),
    ],
)
def test_what_has_no_counterpart_is_refused(copy, file, values, words):
    change_json(copy / file, **values)
    with pytest.raises(InputError, match=words):
        import_published(copy)


def test_a_copy_of_the_table_that_differs_is_refused(copy):
    reader = TensorReader(copy)
    tensors = {name: reader.read(name) for name in reader.names}
    save_file(
        {**tensors, "lm_head.weight": 2 * tensors["model.shared.weight"]},
        copy / "model.safetensors",
    )
    with pytest.raises(InputError, match=r"lm_head\.weight is not model\.shared\.weight"):
        import_published(copy)


def test_all_obstacles_are_named_at_once(copy):
    change_json(copy / "config.json", normalize_before=True, decoder_attention_heads=2)
    (copy / "source.spm").unlink()
    with pytest.raises(InputError, match=r"normalize_before.*source\.spm") as error:
        import_published(copy)
    assert "decoder_attention_heads" in str(error.value)


@pytest.mark.parametrize("name", ["vocab.json", "source.spm", "target.spm"])
def test_a_file_that_is_missing_or_damaged_is_refused(copy, name, tmp_path, capsys):
    command = ["import", str(copy), "--output", str(tmp_path / "run")]
    (copy / name).write_bytes(b"{no")
    assert name in refusal(capsys, *command)
    (copy / name).unlink()
    assert name in refusal(capsys, *command)


def test_the_tokenizer_of_another_model_is_refused(copy, tmp_path):
    lines = tmp_path / "lines"
    lines.write_text("QWERTY XCVB ZXCV WQQ\n" * 20)
    options = {"vocab_size": 30, "hard_vocab_limit": False, "minloglevel": 3}
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines), model_prefix=str(tmp_path / "other"), **options
    )
    shutil.copy(tmp_path / "other.model", copy / "target.spm")
    with pytest.raises(InputError, match=r"target\.spm.*vocab\.json"):
        import_published(copy)


@pytest.mark.long
@pytest.mark.skipif("KTRANSFORMER_OPUS_MT" not in os.environ, reason="needs OPUS-MT folders")
def test_real_tokenizers_look_up_what_sentencepiece_segments():
    """As Hugging Face's tokenizer does; LiteRT computes the same ids and texts."""
    texts = odd_texts()
    for path in sorted(Path(os.environ["KTRANSFORMER_OPUS_MT"]).glob("*/vocab.json")):
        table = json.loads(path.read_text())
        for side in ("source.spm", "target.spm"):
            model = path.with_name(side).read_bytes()
            tokenizer = Tokenizer.from_table(model, table, start_piece="<start>")
            package = sentencepiece.SentencePieceProcessor(model_proto=model)
            unknown, end = table["<unk>"], table["</s>"]
            expected = [
                [*(table.get(piece, unknown) for piece in pieces), end]
                for pieces in package.encode_as_pieces(texts)
            ]
            assert tokenizer.encode(tf.constant(texts)).to_list() == expected
            lite = run_in_lite(tokenizer, texts)
            dense, _ = tokenizer.encode_dense(tf.constant(texts), 200)
            np.testing.assert_array_equal(lite["ids"], dense)
            np.testing.assert_array_equal(lite["texts"], tokenizer.decode(dense))


@pytest.mark.long
def test_an_import_goes_to_ctranslate2(run_path, stored, tmp_path, capsys):
    # Two tokenizers of one table of ids, an output bias, and texts with a language token.
    output, source = tmp_path / "relu.ct2", tmp_path / "source"
    arguments = ["export", str(run_path), "--format", "ctranslate2", "--output", str(output)]
    assert main([*arguments, "--early-stopping", "--score-forced-end"]) == 0
    source.write_text("\n".join(map(str, stored["relu/lines"])) + "\n", encoding="utf-8")
    verify = ["verify", output, "--run", run_path, "--source", source]
    assert main([*map(str, verify)]) == 0
    assert re.search("serving_default .* CTranslate2 .* 1.0000 ", capsys.readouterr().out)
