"""BERT in: folders that transformers and sentence-transformers wrote, and what is refused."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

import ktransformer
from ktransformer.conversion import import_published
from ktransformer.errors import InputError
from ktransformer.exporting import LiteModel, SavedModel, export_lite, export_saved_model
from ktransformer.tasks import MaskFiller, TextClassifier, TextEmbedder
from ktransformer.tasks.text_pairs import cut_longest_first, encode_pairs
from tests.layers.layer_checks import array

FOLDER = Path(__file__).parent / "bert"
LENGTH = 24
KINDS = {"model": TextEmbedder, "masked": MaskFiller, "classifier": TextClassifier}
WEIGHTS, CONFIG, FAST = "model.safetensors", "config.json", "tokenizer.json"
MINILM = "KTRANSFORMER_MINILM"


@pytest.fixture(scope="module")
def expected():
    with np.load(FOLDER / "expected.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def imported():
    return {name: import_published(FOLDER / name).task for name in KINDS}


def texts_of(expected, name="model"):
    texts = [str(text) for text in expected["texts"]]
    return [t.replace("cat", "[MASK]") for t in texts] if name == "masked" else texts


def encoded(texts):
    return np.array([str(text).encode() for text in texts], object)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kind", ["texts", "pairs"])
def test_the_outputs_are_those_of_transformers(imported, expected, name, kind):
    task = imported[name]
    assert type(task) is KINDS[name]
    ids, types, outputs = (expected[f"{name}_{kind}_{x}"] for x in ("ids", "types", "outputs"))
    inputs = {"ids": ids, "token_types": types}
    if name == "masked":
        inputs["positions"] = np.tile(np.arange(ids.shape[1]), (len(ids), 1))
    got = array(task.model(inputs))
    real = ids != 0 if got.ndim == 3 else slice(None)
    np.testing.assert_allclose(got[real], outputs[real], atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_texts_become_the_ids_of_transformers(imported, expected, name):
    texts = texts_of(expected, name)
    ids, truncated = imported[name].encode(tf.constant(texts))
    np.testing.assert_array_equal(ids, expected[f"{name}_texts_ids"])
    assert truncated.numpy().tolist() == [len(text) > 100 for text in texts]


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_texts_become_the_vectors_of_sentence_transformers(expected, pooling):
    embedder = ktransformer.load(FOLDER / f"sentence_{pooling}")
    assert (embedder.pooling, embedder.normalize) == (pooling, pooling != "max")
    got = embedder.embed(tf.constant(texts_of(expected)))["embedding"]
    np.testing.assert_allclose(got, expected[f"sentence_{pooling}"], atol=1e-6)


def test_the_exports_give_the_vectors_of_sentence_transformers(expected, tmp_path):
    embedder = ktransformer.load(FOLDER / "sentence_mean")
    texts = encoded(texts_of(expected))
    for model in (
        SavedModel(export_saved_model(embedder, tmp_path / "model")),
        LiteModel(export_lite(embedder, tmp_path / "m.tflite")),
    ):
        outputs = model.run("serving_default", texts=texts)
        np.testing.assert_allclose(outputs["embedding"], expected["sentence_mean"], atol=1e-6)


def softmax(logits):
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def test_pairs_of_texts_become_the_ids_and_types_of_transformers(imported, expected):
    first, second = texts_of(expected), [str(text) for text in expected["pairs"]]
    ids, types, truncated = encode_pairs(
        imported["classifier"].tokenizer, tf.constant(first), tf.constant(second), LENGTH
    )
    np.testing.assert_array_equal(ids, expected["classifier_pairs_ids"])
    np.testing.assert_array_equal(types, expected["classifier_pairs_types"])
    assert truncated.numpy().tolist() == [False, False, False, False, True, True]


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (5, 6, (5, 6)),
        (3, 20, (3, 9)),
        (20, 3, (9, 3)),
        (20, 30, (6, 6)),
        (6, 7, (6, 6)),
        (0, 13, (0, 12)),
    ],
)
def test_of_a_pair_the_longer_text_is_cut_first(first, second, kept):
    assert tuple(int(n) for n in cut_longest_first(first, second, 12)) == kept


@pytest.mark.long
def test_the_exports_classify_texts_and_pairs_as_transformers_does(imported, expected, tmp_path):
    classifier = imported["classifier"]
    assert classifier.classes == ("bad", "good", "neither")
    first, second = encoded(texts_of(expected)), encoded(expected["pairs"])
    for model in (
        SavedModel(export_saved_model(classifier, tmp_path / "model")),
        LiteModel(export_lite(classifier, tmp_path / "m.tflite")),
    ):
        for kind, outputs in (
            ("texts", model.run("serving_default", texts=first)),
            ("pairs", model.run("pairs", first=first, second=second)),
        ):
            probabilities = softmax(expected[f"classifier_{kind}_outputs"])
            np.testing.assert_allclose(outputs["probabilities"], probabilities, atol=1e-6)
            labels = [classifier.classes[i].encode() for i in probabilities.argmax(1)]
            assert outputs["label"].tolist() == labels


def test_a_mask_is_filled_with_what_the_logits_say(imported, expected):
    filler = imported["masked"]
    place = list(expected["masked_texts_ids"][1]).index(filler.special_ids.mask)
    logits = expected["masked_texts_outputs"][1, place, filler.tokenizer.ordinary_ids]
    best = np.argsort(-logits)[:5]
    fills = filler.fill("A [MASK] sleeps!")
    pieces = filler.tokenizer.pieces(filler.tokenizer.ordinary_ids[best])
    assert [fill.piece for fill in fills] == pieces
    np.testing.assert_allclose([f.probability for f in fills], softmax(logits)[best], atol=1e-5)


@pytest.mark.long
def test_a_lite_file_fills_a_mask_as_the_model_does(imported, tmp_path):
    filler = imported["masked"]
    fills = filler.fill("A [MASK] sleeps!")
    lite = LiteModel(export_lite(filler, tmp_path / "m.tflite", signatures=["serving_default"]))
    outputs = lite.run("serving_default", texts=encoded(["A [MASK] sleeps!"]))
    assert [t.decode() for t in outputs["text"][0]] == [fill.text for fill in fills]


def test_an_imported_model_is_saved_as_a_task(imported, expected, tmp_path):
    import_published(FOLDER / "sentence_cls").save(tmp_path / "run")
    embedder = ktransformer.load(tmp_path / "run")
    got = embedder.embed(tf.constant(texts_of(expected)))["embedding"]
    np.testing.assert_allclose(got, expected["sentence_cls"], atol=1e-6)


@pytest.fixture
def changed(tmp_path):
    """Copies a folder, with changed JSON files and tensors."""

    def change(name="model", tensors=None, drop=(), **files):
        folder = tmp_path / "changed"
        shutil.copytree(FOLDER / name, folder)
        for file, values in files.items():
            path = next(folder.rglob(f"{file}.json"), folder / f"{file}.json")
            old = json.loads(path.read_text()) if path.exists() else {}
            new = values(old) if callable(values) else {**old, **values}
            path.write_text(json.dumps(new))
        if tensors or drop:
            kept = {k: v for k, v in load_file(folder / WEIGHTS).items() if k not in drop}
            save_file({**kept, **(tensors or {})}, folder / WEIGHTS)
        return folder

    return change


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_act": "mish"}, r"hidden_act='mish'.*gelu"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
        ({"is_decoder": True}, "is_decoder=True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings=False"),
        ({"num_attention_heads": 3}, "hidden_size=16.*num_attention_heads=3"),
        ({"num_hidden_layers": 10**9}, "2 layers.*num_hidden_layers=1000000000"),
        ({"vocab_size": 10**9}, r"word_embeddings.*1000000000"),
        ({"intermediate_size": 10**9}, "intermediate.*1000000000"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps='small'"),
        ({"adapters": 3}, "adapters.*3"),
        ({"architectures": ["BertForTokenClassification"]}, "architectures.*BertForMaskedLM"),
        ({"architectures": None}, "architectures=None"),
        ({"pad_token_id": 7}, "pad_id"),
    ],
    ids=str,
)
def test_a_setting_without_a_counterpart_is_refused(changed, config, message):
    with pytest.raises(InputError, match=message):
        import_published(changed(config=config))


@pytest.mark.parametrize("value", ["\ud800", {}, 2])
def test_accents_in_the_normalizer_are_kept_or_stripped_or_neither(changed, value):
    def change(fields):
        return {**fields, "normalizer": {**fields["normalizer"], "strip_accents": value}}

    with pytest.raises(InputError, match=r"tokenizer\.json has strip_accents=.*true or false"):
        import_published(changed(tokenizer=change))


@pytest.mark.parametrize("model_type", ["distilbert", "roberta", "xlm-roberta"])
def test_relatives_of_bert_are_refused(changed, model_type):
    with pytest.raises(InputError, match=f"model_type.*bert.*{model_type}"):
        import_published(changed(config={"model_type": model_type}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"problem_type": "multi_label_classification"}, "multi_label"),
        ({"problem_type": "regression"}, "regression"),
        ({"id2label": {"0": "bad", "1": "good"}}, "id2label.*0 to 2"),
        ({"classifier_dropout": 2.0}, "classifier_dropout=2.0"),
    ],
    ids=str,
)
def test_another_problem_than_one_class_of_several_is_refused(changed, config, message):
    with pytest.raises(InputError, match=message):
        import_published(changed("classifier", config=config))


def test_all_that_is_wrong_with_tensors_is_said_at_once(changed):
    folder = changed(
        tensors={"extra.weight": np.zeros(3, "float32")},
        drop=["encoder.layer.1.output.dense.bias"],
    )
    with pytest.raises(InputError, match=r"output\.dense\.bias.*extra\.weight"):
        import_published(folder)


def test_an_output_that_is_not_the_embedding_is_refused(changed):
    other = {"cls.predictions.decoder.weight": np.zeros((92, 16), "float32")}
    with pytest.raises(InputError, match=r"decoder\.weight is not bert\..*word_embeddings"):
        import_published(changed("masked", tensors=other))


def test_what_pretraining_and_older_versions_wrote_is_read(changed, expected):
    tensors = load_file(FOLDER / "masked" / WEIGHTS)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for name, value in tensors.items()
        if "LayerNorm" in name
    }
    old |= {
        "bert.embeddings.position_ids": np.arange(LENGTH)[None],
        "bert.pooler.dense.weight": np.zeros((16, 16), "float32"),
        "bert.pooler.dense.bias": np.zeros(16, "float32"),
        "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"],
        "cls.seq_relationship.weight": np.zeros((2, 16), "float32"),
        "cls.seq_relationship.bias": np.zeros(2, "float32"),
    }
    dropped = [name for name in tensors if "LayerNorm" in name]
    config = {"architectures": ["BertForPreTraining"], "gradient_checkpointing": False}
    model = import_published(changed("masked", old, dropped, config=config)).task.model
    ids = expected["masked_texts_ids"]
    positions = np.tile(np.arange(LENGTH), (len(ids), 1))
    got = array(model({"ids": ids, "positions": positions}))
    real = ids != 0
    np.testing.assert_allclose(got[real], expected["masked_texts_outputs"][real], atol=1e-5)


POOLING = {"word_embedding_dimension": 16, "pooling_mode_cls_token": False}


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("1_Pooling/config", {"pooling_mode": "weightedmean"}, "weightedmean"),
        ("1_Pooling/config", {"pooling_mode": ["mean", "max"]}, "mean.*max"),
        ("1_Pooling/config", {"embedding_dimension": 8}, "embedding_dimension=8.*hidden_size"),
        ("2_Normalize/config", {"module_input_name": "tokens"}, "module_input_name='tokens'"),
        ("config_sentence_transformers", {"default_prompt_name": "query"}, "default_prompt_name"),
        ("sentence_bert_config", {"transformer_task": "fill-mask"}, "transformer_task"),
        ("sentence_bert_config", {"backbone": 1}, "backbone.*1"),
    ],
    ids=str,
)
def test_a_setting_of_sentence_transformers_without_a_counterpart_is_refused(
    changed, file, values, message
):
    folder = changed("sentence_mean")
    path = folder / f"{file}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(InputError, match=message):
        import_published(folder)


def test_an_unknown_module_of_sentence_transformers_is_refused(changed):
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    with pytest.raises(InputError, match=r"modules\.json.*Dense"):
        import_published(changed("sentence_mean", modules=lambda old: [*old, dense]))


def test_the_files_of_older_sentence_transformers_are_read(changed, expected):
    folder = changed(
        "sentence_mean",
        modules=lambda old: [
            {**each, "type": f"sentence_transformers.models.{name}"}
            for each, name in zip(old, ("Transformer", "Pooling", "Normalize"), strict=True)
        ],
        sentence_bert_config=lambda old: {"max_seq_length": 12, "do_lower_case": False},
        config_sentence_transformers=lambda old: {"__version__": old["__version__"]},
        tokenizer_config={"model_max_length": 512},
    )
    flags = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    pooling = json.dumps({**flags, "pooling_mode_cls_token": False})
    (folder / "1_Pooling" / CONFIG).write_text(pooling)
    shutil.rmtree(folder / "2_Normalize")
    embedder = import_published(folder).task
    assert embedder.settings == {"pooling": "mean", "normalize": True, "max_length": 12}
    got = embedder.embed(tf.constant(texts_of(expected)))["embedding"]
    np.testing.assert_allclose(got, expected["sentence_mean"], atol=1e-6)


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("normalizer", {"clean_text": False}, r"normalizer\.clean_text=False"),
        ("model", {"max_input_chars_per_word": 50}, "max_input_chars_per_word=50"),
        ("model", {"type": "BPE"}, r"model\.type='BPE'"),
        ("model", {"vocab": {"[PAD]": 0, "a": 2}}, "holes"),
        ("normalizer", {"lowercase": False}, "do_lower_case=True.*False"),
    ],
    ids=str,
)
def test_a_tokenizer_that_would_give_other_ids_is_refused(changed, part, values, message):
    folder = changed(tokenizer=lambda old: {**old, part: {**old[part], **values}})
    with pytest.raises(InputError, match=message):
        import_published(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tokenizer_class": "RobertaTokenizer"}, "tokenizer_class='RobertaTokenizer'"),
        ({"tokenize_chinese_chars": False}, "tokenize_chinese_chars=False"),
        ({"cls_token": "<s>"}, r"cls_token is '<s>'.*\[CLS\]"),
        ({"added_tokens_decoder": {"99": {"content": "[NEW]"}}}, r"\[NEW\]"),
        ({"additional_special_tokens": ["[NEW]"]}, r"\[NEW\]"),
        ({"clean_text": False}, "clean_text=False"),
        ({"split_special_tokens": True}, "split_special_tokens=True"),
        ({"wordpieces_prefix": "@@"}, "wordpieces_prefix='@@'"),
        ({"totally_unknown": 1}, "totally_unknown.*unknown here"),
    ],
    ids=str,
)
def test_a_tokenizer_configuration_that_would_give_other_ids_is_refused(changed, values, message):
    with pytest.raises(InputError, match=message):
        import_published(changed(tokenizer_config=values))


TEMPLATE = json.loads((FOLDER / "model" / FAST).read_text())["post_processor"]
OTHER_CLS = {"[CLS]": {"id": "[CLS]", "ids": [5], "tokens": ["[CLS]"]}}


@pytest.mark.parametrize(
    "processor",
    [
        None,
        {"type": "RobertaProcessing", "cls": ["[CLS]", 2], "sep": ["[SEP]", 3]},
        {"type": "BertProcessing", "cls": ["[PAD]", 0], "sep": ["[SEP]", 3]},
        {**TEMPLATE, "single": [{"Sequence": {"id": "A", "type_id": 0}}]},
        {**TEMPLATE, "pair": [*TEMPLATE["pair"][:3], {"Sequence": {"id": "B", "type_id": 0}}]},
        {**TEMPLATE, "special_tokens": {**TEMPLATE["special_tokens"], **OTHER_CLS}},
    ],
)
def test_a_tokenizer_that_adds_other_marks_than_bert_is_refused(changed, processor):
    folder = changed(tokenizer={"post_processor": processor})
    with pytest.raises(InputError, match=r"post_processor=.*\[CLS\] A \[SEP\]"):
        import_published(folder)


def test_the_marks_of_older_versions_are_read(changed, imported):
    processor = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    task = import_published(changed(tokenizer={"post_processor": processor})).task
    assert task.tokenizer.sha256 == imported["model"].tokenizer.sha256


def with_flag(flag):
    """Sets a flag of `[MASK]` in tokenizer.json."""
    return lambda old: {
        **old,
        "added_tokens": [
            {**token, flag: token["content"] == "[MASK]"} for token in old["added_tokens"]
        ],
    }


@pytest.mark.parametrize("flag", ["normalized", "single_word"])
def test_a_mask_that_is_not_found_as_it_is_written_is_refused(changed, flag):
    with pytest.raises(InputError, match=rf"{flag}=true for \[MASK\]"):
        import_published(changed("masked", tokenizer=with_flag(flag)))


def test_a_mask_may_take_the_space_before_it(changed, imported):
    task = import_published(changed("masked", tokenizer=with_flag("lstrip"))).task
    assert task.tokenizer.sha256 == imported["masked"].tokenizer.sha256


def test_the_usual_settings_of_a_tokenizer_are_taken(changed, imported):
    decoder = {
        str(token["id"]): token
        for token in json.loads((FOLDER / "model" / FAST).read_text())["added_tokens"]
    }
    folder = changed(
        tokenizer_config={
            "added_tokens_decoder": decoder,
            "clean_up_tokenization_spaces": True,
            "do_basic_tokenize": True,
            "extra_special_tokens": {},
            "max_length": 128,
            "model_max_length": 1e30,
            "name_or_path": "a/model",
            "never_split": None,
            "pad_to_multiple_of": None,
            "pad_token_type_id": 0,
            "padding_side": "right",
            "special_tokens_map_file": "map.json",
            "split_special_tokens": False,
            "stride": 0,
            "tokenizer_file": None,
            "truncation_side": "right",
            "truncation_strategy": "longest_first",
        },
        special_tokens_map={"mask_token": decoder["4"], "additional_special_tokens": ["[SEP]"]},
    )
    assert import_published(folder).task.tokenizer.sha256 == imported["model"].tokenizer.sha256


def test_a_token_that_a_file_of_its_own_adds_is_refused(changed):
    with pytest.raises(InputError, match=r"added_tokens\.json adds the token '\[NEW\]'"):
        import_published(changed(added_tokens={"[NEW]": 93}))


def test_a_vocabulary_without_tokenizer_json_gives_the_same_ids(changed, expected):
    folder = changed()
    vocabulary = json.loads((folder / FAST).read_text())["model"]["vocab"]
    (folder / FAST).unlink()
    with pytest.raises(InputError, match=r"no tokenizer.*vocab\.txt"):
        import_published(folder)
    (folder / "vocab.txt").write_text("\n".join([*vocabulary, ""]), encoding="utf-8")
    ids, _ = import_published(folder).task.encode(tf.constant(texts_of(expected)))
    np.testing.assert_array_equal(ids, expected["model_texts_ids"])


def test_ids_without_a_piece_are_kept(changed):
    table = "embeddings.word_embeddings.weight"
    rows = load_file(FOLDER / "model" / WEIGHTS)[table]
    padded = np.pad(rows, ((0, 4), (0, 0)))
    folder = changed(tensors={table: padded}, config={"vocab_size": len(padded)})
    task = import_published(folder).task
    assert task.tokenizer.vocabulary_size == task.model.vocabulary_size == len(padded)


@pytest.mark.skipif(MINILM not in os.environ, reason=f"{MINILM} names no folder")
def test_all_minilm_l6_v2_gives_the_vectors_of_sentence_transformers():
    folder, reference = os.environ[MINILM].split(os.pathsep)
    embedder = ktransformer.load(folder)
    with np.load(reference) as arrays:
        texts, expected = [str(text) for text in arrays["texts"]], arrays["unit"]
    got = embedder.embed(tf.constant(texts))["embedding"]
    np.testing.assert_allclose(got, expected, atol=1e-6)
