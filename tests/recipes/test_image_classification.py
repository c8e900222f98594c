import argparse
import json
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from ktransformer import tasks
from tests.run_command import program

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from training.image_classification import train
from training.image_classification.fit import Settings, training_batches
from training.image_classification.images import Images, load, split

SMALL = [
    argument
    for setting in ("num_layers=1", "d_model=16", "num_heads=2", "hidden_dim=16", "epochs=1")
    for argument in ("--set", setting)
] + ["--set", "warmup_epochs=0", "--set", "refit=false"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eight bright photos and eight dark ones, all with a dark right half."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for name, brightness in (("bright", 150), ("dark", 30)):
        (folder / name).mkdir()
        for number in range(8):
            pixels = generator.integers(0, 30, (10, 10, 3))
            pixels[:, :5] += brightness
            keras.utils.save_img(folder / name / f"{number}.png", pixels, scale=False)
    return folder


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    return train.main()


@pytest.mark.long
def test_one_epoch_on_digits_goes_the_whole_way(tmp_path):
    output = tmp_path / "digits"
    arguments = ("--data", "digits", "--output", output, *SMALL, "--seeds", 1)
    result = program("training.image_classification.train", *arguments)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("10 classes; 1,151 images to train on, 287 for validation, 359 held")
    assert re.fullmatch(r"seed 1: 0\.\d{4} on the held-out images, 0\.\d{4} on .*", lines[1])
    assert re.fullmatch(r"accuracy 0\.\d{4} \+- 0\.0000 on 359 held-out images .*", lines[-1])
    assert sorted(path.name for path in output.iterdir()) == [
        "attention.png",
        "classes.json",
        "curves.png",
        "examples",
        "history.json",
        "model.json",
        "model.keras",
        "settings.json",
    ]
    assert len(list(output.glob("examples/7/*.png"))) == 20
    history = json.loads((output / "history.json").read_text())["1"]
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(
        ("loss", "accuracy", "val_loss", "val_accuracy"), 1
    )
    for name in ("attention.png", "curves.png"):
        assert (output / name).read_bytes().startswith(b"\x89PNG")
    classifier = tasks.load(output)
    assert classifier.classes == tuple("0123456789")
    (path, *_) = output.glob("examples/7/*.png")
    assert classifier.classify(tf.constant([path.read_bytes()]))["label"].shape == (1,)


@pytest.mark.long
def test_a_folder_of_photos_is_learnt_at_last_from_the_validation_images_too(
    photos, tmp_path, monkeypatch, capsys
):
    sizes, fit = [], train.fit

    def spy(settings, num_classes, images, *others, **options):
        sizes.append(len(images))
        return fit(settings, num_classes, images, *others, **options)

    monkeypatch.setattr(train, "fit", spy)
    status = run(
        monkeypatch,
        *("--data", photos, "--output", tmp_path / "run", "--seeds", 1, *SMALL),
        *("--set", "image_size=8", "--set", "epochs=8", "--set", "batch_size=4"),
        *("--set", "flip=false", "--set", "learning_rate=0.01", "--set", "pooling=mean"),
        *("--set", "refit=true"),
    )
    assert status == 0
    assert sizes == [10, 12]
    assert json.loads((tmp_path / "run" / "classes.json").read_text()) == ["bright", "dark"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 classes; 10 images to train on, 2 for validation, 4 held out")
    assert lines[-1].startswith("accuracy 1.0000 +- 0.0000 on 4 held-out images")


def test_a_folder_is_read_in_the_size_and_the_channels_that_are_asked_for(photos):
    parts = load(str(photos), 6, 1)
    assert parts.train.pixels.shape == (10, 6, 6, 1)
    assert parts.train.pixels.dtype == "uint8"
    halves = parts.train.pixels.reshape(10, 6, 2, 3).mean(axis=(1, 3))
    assert (halves[:, 0] > halves[:, 1] + 20).all()
    np.testing.assert_array_equal(halves[:, 0] < 100, parts.train.labels)


def test_digits_keep_their_shade_at_their_own_size():
    from sklearn.datasets import load_digits

    parts = load("digits", 8, 3)
    pixels = np.concatenate([p.pixels for p in (parts.train, parts.validation, parts.test)])
    shades = np.sort(pixels[..., 0].reshape(1797, -1) * (16 / 255), axis=0)
    expected = np.sort(load_digits().data, axis=0)
    np.testing.assert_allclose(shades, expected, atol=0.05)
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


def test_the_parts_share_no_image_and_have_each_class_in_proportion():
    images = Images(np.arange(50).reshape(50, 1, 1, 1), np.repeat([0, 1], [40, 10]))
    left, taken = split(images, 0.2, ["many", "few"])
    assert np.bincount(taken.labels).tolist() == [8, 2]
    assert np.bincount(left.labels).tolist() == [32, 8]
    together = np.concatenate([left.pixels, taken.pixels]).ravel()
    np.testing.assert_array_equal(np.sort(together), np.arange(50))
    again = split(images, 0.2, ["many", "few"])[1]
    np.testing.assert_array_equal(again.pixels, taken.pixels)


def test_augmentation_changes_every_batch_and_only_the_training_images():
    settings = Settings(image_size=8, channels=1, batch_size=4, flip=False)
    generator = np.random.default_rng(0)
    images = Images(generator.integers(0, 255, (4, 8, 8, 1), "uint8"), np.arange(4))
    batches = training_batches(images, settings, 4, seed=1)
    seen = []
    for inputs, labels in batches.repeat(2):
        order = labels.numpy().argmax(axis=1)
        seen.append(inputs.numpy()[np.argsort(order)])
        assert seen[-1].shape == (4, 8, 8, 1)
        assert np.abs(seen[-1]).max() <= 1
    assert np.abs(seen[0] - seen[1]).max() > 0.1


def test_the_last_line_is_the_mean_and_the_spread_of_the_seeds():
    assert train.summary([0.97, 0.99], 359) == (
        "accuracy 0.9800 +- 0.0100 on 359 held-out images (mean and standard deviation of 2 seeds)"
    )
    assert train.summary([0.97], 1200) == (
        "accuracy 0.9700 +- 0.0000 on 1,200 held-out images (mean and standard deviation of 1 seed)"
    )


@pytest.mark.long
def test_a_loss_that_is_no_number_writes_no_model(photos, tmp_path, monkeypatch, capsys):
    arguments = ("--data", photos, "--output", tmp_path / "run", *SMALL, "--set", "epochs=3")
    assert run(monkeypatch, *arguments, "--set", "learning_rate=1e30") == 2
    assert "The loss is not a finite number after update" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_a_file_and_the_command_line_set_is_checked_together(tmp_path):
    (tmp_path / "file.yaml").write_text("epochs: 3")
    options = argparse.Namespace(
        data="photos",
        config=str(tmp_path / "file.yaml"),
        set=["warmup_epochs=0", "learning_rate=1e-3"],
    )
    settings = train.read_all_settings(options)
    assert (settings.epochs, settings.warmup_epochs, settings.learning_rate) == (3, 0, 0.001)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "numbers"], "--data must be a folder or one of digits, mnist, "),
        (["--data", "empty"], "empty cannot be read as a folder of images: "),
        (["--data", "single"], "single must hold a subfolder a class; got ['only']"),
        (["--data", "pair"], "Every class needs at least 3 images; 'left' has too few"),
        (["--data", "broken"], "broken cannot be read as a folder of images: "),
        (["--data", "digits", "--output", "pair"], "pair already exists"),
        (
            ["--data", "pair", "--output", "pair", "--overwrite"],
            "is not a classifier's folder",
        ),
        (["--data", "model/a", "--output", "model", "--overwrite"], "model holds the images of"),
        (["--data", "digits", "--config", "none.yaml"], "Cannot read none.yaml"),
        (["--data", "digits", "--set", "width=3"], "Unknown setting 'width'; known are batch_size"),
        (["--data", "digits", "--set", "epochs"], "--set takes key=value; got 'epochs'"),
        (["--data", "digits", "--set", "epochs=many"], "epochs must be of type int; got 'many'"),
        (["--data", "digits", "--set", "channels=2"], "channels must be 1 or 3; got channels=2"),
        (["--data", "digits", "--seeds", "-1"], "--seeds must be from 0 to 268435455; got [-1]"),
        (["--data", "digits", "--set", "patch_size=5"], "image_size must be a multiple of patch_"),
        (["--data", "digits", "--set", "num_heads=5"], "d_model must be a multiple of num_heads"),
    ],
    ids=" ".join,
)
def test_a_bad_argument_is_one_sentence_and_writes_nothing(
    arguments, reason, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    folders = {"empty": (), "single": ("only",), "pair": ("left", "right"), "broken": ("a", "b")}
    for name, classes in folders.items():
        Path(name).mkdir()
        for label in classes:
            Path(name, label).mkdir()
            content = (photos / "dark" / "0.png").read_bytes()
            Path(name, label, "0.png").write_bytes(b"no" if name == "broken" else content)
    Path("model", "a").mkdir(parents=True)
    Path("model", "classes.json").touch()
    before = sorted(tmp_path.rglob("*"))
    assert run(monkeypatch, "--output", "run", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (sentence,) = [line for line in captured.err.splitlines() if line.startswith("train: ")]
    assert reason in sentence
    assert sorted(tmp_path.rglob("*")) == before


def test_a_download_that_fails_is_one_sentence(tmp_path, monkeypatch, capsys):
    def load_data():
        raise Exception("URL fetch failure on https://example.org: None -- no network")

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", load_data)
    assert run(monkeypatch, "--data", "cifar10", "--output", tmp_path / "run") == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("train: cifar10 cannot be downloaded (URL fetch failure on ")
    assert not (tmp_path / "run").exists()
