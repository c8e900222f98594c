"""The REST endpoints of TensorFlow Serving, which its clients speak."""

import base64
import binascii
from collections.abc import Iterable
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from ktransformer.serving.http_requests import (
    HttpError,
    check_count,
    check_key,
    parse_json_object,
    read_body,
    to_text,
)
from ktransformer.serving.libretranslate import Server
from ktransformer.serving.model import OpenModel, deadline_in
from ktransformer.serving.server import ModelServer

_MAX_DEPTH = 8  # Of lists; inputs have four axes at most.

router = APIRouter(prefix="/v1/models", tags=["TensorFlow Serving"])


@router.get("/{name}")
@router.get("/{name}/versions/{version}")
async def status(
    name: str, request: Request, server: Server, version: int | None = None
) -> dict[str, Any]:
    """Tells which version of a model is served."""
    check_key(request, server.options.api_keys)
    model = _find(server, name, version)
    state = {
        "version": str(model.version),
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    return {"model_version_status": [state]}


@router.get("/{name}/metadata")
@router.get("/{name}/versions/{version}/metadata")
async def metadata(
    name: str, request: Request, server: Server, version: int | None = None
) -> dict[str, Any]:
    """Tells a model's signatures and their inputs."""
    check_key(request, server.options.api_keys)
    model = _find(server, name, version)
    signatures = {
        signature: {
            "inputs": {each: {"name": f"{signature}_{each}"} for each in model.inputs(signature)},
            "method_name": "tensorflow/serving/predict",
        }
        for signature in model.signatures
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


@router.post("/{name}:predict")
@router.post("/{name}/versions/{version}:predict")
async def predict(
    name: str, request: Request, server: Server, version: int | None = None
) -> JSONResponse:
    """Runs a signature on `instances`, rows, or `inputs`, columns.

    The body is `{"signature_name": NAME, "instances": [...]}` or `{"inputs": ...}`; without a name
    `serving_default` is run. Text is a string, bytes are `{"b64": ...}`. The answer has
    `predictions`, a row for each instance, or `outputs`, columns.
    """
    check_key(request, server.options.api_keys)
    fields = parse_json_object(await read_body(request, server.options.request_bytes))
    model = _find(server, name, version)
    signature = to_text("signature_name", fields.get("signature_name", "serving_default"))
    if signature not in model.signatures:
        raise HttpError(
            404, f"{name} has no signature {signature}, only {', '.join(model.signatures)}."
        )
    inputs, by_row = _read_inputs(fields, model.inputs(signature))
    check_count(_count_rows(inputs), server.options.request_texts)
    model.check_room([*inputs.values()])
    outputs = await model.run(signature, inputs, deadline=deadline_in(server.options.deadline))
    columns = {key: _to_json(values) for key, values in outputs.items()}
    if by_row:
        return JSONResponse({"predictions": _to_rows(columns, len(next(iter(inputs.values()))))})
    single = len(columns) == 1
    return JSONResponse({"outputs": next(iter(columns.values())) if single else columns})


def _find(server: ModelServer, name: str, version: int | None) -> OpenModel:
    """Returns a model by its name.

    Raises:
        HttpError: There is none, or another version of it is served.
    """
    if name not in server.models:
        raise HttpError(404, f"There is no model {name}, only {', '.join(server.models)}.")
    model = server.models[name].current
    if version not in (None, model.version):
        raise HttpError(404, f"{name} is at version {model.version}; there is no {version}.")
    return model


def _read_inputs(fields: dict[str, Any], names: list[str]) -> tuple[dict[str, Any], bool]:
    """Returns the inputs of a signature, as columns, and whether they came as rows.

    Raises:
        HttpError: They came neither as `instances` nor as `inputs`, or as both, or rows differ.
    """
    if ("instances" in fields) == ("inputs" in fields):
        raise HttpError(400, "The request needs either instances or inputs.")
    if "inputs" in fields:
        columns = fields["inputs"]
        if not isinstance(columns, dict) or "b64" in columns:
            columns = {names[0]: columns}
        _check_names(columns.keys(), names)
        return {key: _to_bytes(value) for key, value in columns.items()}, False
    rows = fields["instances"]
    if not isinstance(rows, list) or not rows:
        raise HttpError(400, "instances must be a list with at least one row.")
    named = [row if isinstance(row, dict) and "b64" not in row else {names[0]: row} for row in rows]
    keys = named[0].keys()
    if any(row.keys() != keys for row in named):
        raise HttpError(400, "All instances must have the same inputs.")
    _check_names(keys, names)
    return {key: [_to_bytes(row[key], 1) for row in named] for key in keys}, True


def _count_rows(inputs: dict[str, Any]) -> int:
    """Returns how many texts, rows of ids and the like all inputs have."""
    return sum(len(value) for value in inputs.values() if isinstance(value, list))


def _check_names(given: Iterable[str], names: list[str]) -> None:
    """Checks the names of inputs.

    Raises:
        HttpError: They are not those of the signature.
    """
    if set(given) != set(names):
        raise HttpError(400, f"The signature takes {', '.join(names)}; got {', '.join(given)}.")


def _to_bytes(value: Any, depth: int = 0) -> Any:
    """Turns the texts of nested lists into bytes.

    Raises:
        HttpError: Base64 is damaged, or the lists are deeper than any input, at which TensorFlow
            would end the process.
    """
    if depth > _MAX_DEPTH:
        raise HttpError(400, "The inputs are nested too deeply.")
    if isinstance(value, list):
        return [_to_bytes(each, depth + 1) for each in value]
    if isinstance(value, dict) and value.keys() == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise HttpError(400, "b64 must be Base64.") from error
    return to_text("A text", value).encode() if isinstance(value, str) else value


def _to_json(values: np.ndarray) -> Any:
    """Turns an output into nested lists; bytes that are not UTF-8 are `{"b64": ...}`."""
    if values.dtype.kind not in "OS":
        return values.tolist()
    return _texts_to_json(values.tolist())


def _texts_to_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_texts_to_json(each) for each in value]
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _to_rows(columns: dict[str, Any], count: int) -> list[Any]:
    """Turns columns of so many rows into rows; one column alone gives its values.

    Raises:
        HttpError: An output has another number of rows.
    """
    if any(not isinstance(column, list) or len(column) != count for column in columns.values()):
        raise HttpError(400, "The outputs of this signature are no rows: take inputs.")
    if len(columns) == 1:
        return list(next(iter(columns.values())))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
