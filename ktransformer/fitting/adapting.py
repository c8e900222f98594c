"""Freezes parts of a model, and trains a LoRA adapter in place of its weights."""

import keras

from ktransformer.config import TrainingConfig
from ktransformer.errors import InputError
from ktransformer.models.lora import LoraOptions, add_lora, lora_matrices, merge_lora
from ktransformer.models.parts import freeze
from ktransformer.saving.adapter import Adapter


def lora_options(options: TrainingConfig) -> LoraOptions | None:
    """Returns the options of the adapter; None without one."""
    if not options.lora_rank:
        return None
    alpha = options.lora_rank if options.lora_alpha is None else options.lora_alpha
    return LoraOptions(options.lora_rank, float(alpha), options.lora_layers, options.freeze)


def adapt(model: keras.Model, options: TrainingConfig) -> None:
    """Freezes what `freeze` names and adds the adapter of `lora_rank`, in place.

    Raises:
        InputError: The model has no such part, or no weight is left to train.
    """
    lora = lora_options(options)
    try:
        if options.freeze and lora is None:
            freeze(model, options.freeze)
        if lora is not None:
            add_lora(model, lora)
    except ValueError as error:
        raise InputError(str(error)) from error


def copy_model(model: keras.Model, options: TrainingConfig) -> keras.Model:
    """Creates a model like one that `adapt` changed, with the adapter's weights, nothing frozen.

    Its weights are drawn anew; it is not compiled.
    """
    copy = type(model).from_config(model.get_config())
    copy.build()
    lora = lora_options(options)
    if lora is not None:
        add_lora(copy, lora)
    return copy


def split_adapter(
    model: keras.Model, options: TrainingConfig, base: str | None
) -> tuple[keras.Model, Adapter | None]:
    """Returns a plain model with the adapter merged into its kernels, and the adapter.

    Args:
        model: A model of `copy_model`; returned as it is where there is no adapter.
        options: How it was trained.
        base: The digest of the weights that the training began with.
    """
    lora = lora_options(options)
    if lora is None or base is None:
        return model, None
    matrices = [keras.ops.convert_to_numpy(matrix) for matrix in lora_matrices(model, lora)]
    plain = type(model).from_config(model.get_config())
    plain.build()
    own = [weight for weight in model.weights if not weight.name.startswith("lora_kernel_")]
    plain.set_weights([keras.ops.convert_to_numpy(weight) for weight in own])
    merge_lora(plain, lora, matrices)
    return plain, Adapter(base, lora, matrices)
