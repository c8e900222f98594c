"""What a SavedModel of a stranger may do."""

import json
import shutil

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from ktransformer.cli import main
from ktransformer.engines import load_engine
from ktransformer.errors import InputError
from ktransformer.exporting import SavedModel, export_saved_model
from ktransformer.exporting.saved_model.operations import check_operations
from tests.run_command import refusal
from tests.small_models import small_classifier


def crafted(function, saved_model, folder):
    """Writes a SavedModel of texts that looks like an export without checksums."""
    module = tf.Module()
    module.function = tf.function(function, input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.function})
    fields = json.loads((saved_model / "ktransformer.json").read_text())
    del fields["files"], fields["sha256"]
    fields |= {"format_version": 1, "signatures": ["serving_default"]}
    (folder / "ktransformer.json").write_text(json.dumps(fields))
    return folder


@pytest.mark.parametrize("operation", ["WriteFile", "ReadFile", "PrintV2", "SaveV2"])
def test_an_operation_that_touches_files_is_refused_before_it_runs(
    operation, saved_model, tmp_path, capsys
):
    path = tmp_path / "written"

    def harm(texts):
        if operation == "WriteFile":
            tf.io.write_file(str(path), texts[0])
        elif operation == "ReadFile":
            texts = tf.io.read_file("/etc/hostname")[None]
        elif operation == "PrintV2":
            tf.print(texts, output_stream=f"file://{path}")
        else:
            tf.raw_ops.SaveV2(
                prefix=str(path), tensor_names=["a"], shape_and_slices=[""], tensors=[texts]
            )
        return {"text": texts}

    folder = crafted(harm, saved_model, tmp_path / "model")
    with pytest.raises(InputError, match=operation):
        load_engine(folder)
    assert operation in refusal(capsys, "translate", folder)
    assert not list(tmp_path.glob("written*"))


def test_an_operation_within_a_function_of_a_loop_is_found(saved_model, tmp_path):
    def harm(texts):
        def write(step):
            tf.io.write_file(str(tmp_path / "written"), "a")
            return step + 1

        return {"text": texts, "steps": tf.while_loop(lambda step: step < 2, write, [0])[0]}

    with pytest.raises(InputError, match="WriteFile"):
        load_engine(crafted(harm, saved_model, tmp_path / "model"))


def test_a_signature_may_not_call_what_saves_the_variables(saved_model, tmp_path):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((saved_model / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    saver = next(f.signature.name for f in functions if "traced_save" in f.signature.name)
    wrapper = next(f for f in functions if "signature_wrapper_translate" in f.signature.name)
    call = wrapper.node_def.add(name="call", op="StatefulPartitionedCall")
    call.attr["f"].func.name = saver
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(InputError, match="SaveV2"):
        check_operations(tmp_path / "saved_model.pb")
    check_operations(saved_model / "saved_model.pb")


def test_pure_functions_of_numbers_are_allowed(saved_model, tmp_path):
    def harmless(texts):
        numbers = tf.math.erf(tf.linalg.inv(tf.eye(2))) + tf.random.uniform([2, 2])
        return {"text": texts, "numbers": tf.cumsum(tf.sin(numbers))}

    assert load_engine(crafted(harmless, saved_model, tmp_path / "model"))


def test_the_operations_of_an_image_classifier_are_allowed(tmp_path):
    folder = export_saved_model(small_classifier(), tmp_path / "model")
    assert SavedModel(folder).description.kind == "image classifier"


def test_a_file_that_is_no_graph_is_one_sentence(saved_model, tmp_path):
    folder = shutil.copytree(saved_model, tmp_path / "model")
    for content in (b"", b"no graph", b"\n" * 1000):
        (folder / "saved_model.pb").write_bytes(content)
        with pytest.raises(InputError):
            load_engine(folder, check=False)


@pytest.mark.parametrize("command", ["translate", "evaluate", "verify", "export"])
def test_help_says_where_to_read_about_files_of_strangers(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "SECURITY.md" in capsys.readouterr().out
