"""The options of a block as settings of the command: trained, exported both ways and verified."""

import pytest

from ktransformer.cli import main
from tests.small_run import number_pairs, train_arguments, write_pairs

ONE = ["--signatures", "serving_default"]
OPTIONS = [
    {
        "positions": "rotary",
        "num_kv_heads": 2,
        "norm": "rms",
        "norm_first": "true",
        "feed_forward": "swiglu",
    },
    {"positions": "alibi", "feed_forward": "geglu", "num_kv_heads": 1},
    {"positions": "relative"},
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "signatures"), [(OPTIONS[0], []), (OPTIONS[1], ONE), (OPTIONS[2], ONE)], ids=str
)
def test_options_of_a_block_are_trained_exported_and_verified(options, signatures, tmp_path, capfd):
    source, target = write_pairs(tmp_path, "train", number_pairs(400, seed=0))
    run, model, lite = tmp_path / "run", tmp_path / "model", tmp_path / "model.tflite"
    settings = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    assert main([*train_arguments(source, target, run), *settings, "--set", "epochs=2"]) == 0
    for output in ["--output", str(model)], ["--output", str(lite), "--format", "tflite"]:
        assert main(["export", str(run), *output, *signatures]) == 0
    verify = ["verify", model / "1", lite, "--run", run, "--source", source]
    assert main([str(word) for word in verify]) == 0
