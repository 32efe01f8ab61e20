"""The mock's side of the messages: properties and vectors out of what is sent, results, and the distances in them."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from exitramp_adapters.services.mock_weaviate.collections import Collection, Object
from exitramp_adapters.services.mock_weaviate.schema import Refused

TIME_UNIX_MS: Final = 1_700_000_000_000
"""When every object of the mock was made and changed, since it keeps no times."""


def distances(metric: str, query: Any, matrix: Any) -> Any:
    one, many = query.astype(np.float64), matrix.astype(np.float64)
    match metric:
        case "cosine":
            norms = np.linalg.norm(many, axis=1) * np.linalg.norm(one)
            return 1 - np.divide(many @ one, norms, out=np.zeros(len(many)), where=norms > 0)
        case "dot":
            return -(many @ one)
        case "l2-squared":
            return ((many - one) ** 2).sum(axis=1)
        case "manhattan":
            return np.abs(many - one).sum(axis=1)
    return (many != one).sum(axis=1).astype(np.float64)


def late_distance(metric: str, query: Any, matrix: Any) -> float:
    """The sum over the query's vectors of the least distance to any of the object's."""
    return float(sum(distances(metric, one, matrix).min() for one in query))


def properties_of(given: Any) -> dict[str, Any]:
    """The message's properties as JSON values."""
    found = _values(given)
    for each in given.single_target_ref_props:
        found[each.prop_name] = [{"beacon": f"weaviate://localhost/{id_}"} for id_ in each.uuids]
    for each in given.multi_target_ref_props:
        found[each.prop_name] = [
            {"beacon": f"weaviate://localhost/{each.target_collection}/{id_}"} for id_ in each.uuids
        ]
    return found


def _values(given: Any) -> dict[str, Any]:
    found = {key: _plain(value) for key, value in given.non_ref_properties.fields.items()}
    for each in given.number_array_properties:
        found[each.prop_name] = np.frombuffer(each.values_bytes, "<f8").tolist() or list(each.values)
    for kind in ("int_array_properties", "text_array_properties", "boolean_array_properties"):
        found |= {each.prop_name: list(each.values) for each in getattr(given, kind)}
    found |= {each.prop_name: _values(each.value) for each in given.object_properties}
    found |= {each.prop_name: [_values(item) for item in each.values] for each in given.object_array_properties}
    return found | {name: [] for name in given.empty_list_props}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: _plain(item) for key, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    if kind == "number_value" and not np.isfinite(value.number_value):
        raise Refused(422, "json: unsupported value: not a finite number")
    return None if kind == "null_value" else getattr(value, kind)


def vectors_of(given: Any) -> dict[str, bytes]:
    found = {"": given.vector_bytes} if given.vector_bytes else {}
    if given.vector and not found:
        found[""] = struct.pack(f"<{len(given.vector)}f", *given.vector)
    return found | {each.name: each.vector_bytes for each in given.vectors}


def write_result(
    result: Any, each: Object, distance: float | None, request: Any, held: Collection, kinds: Mapping[str, Any]
) -> None:
    wanted, metadata = request.properties, request.metadata
    result.properties.target_collection = request.collection
    everything = not request.HasField("properties") or wanted.return_all_nonref_properties
    names = list(kinds) if everything else list(wanted.non_ref_properties)
    fields = result.properties.non_ref_props.fields
    for name in names:
        if name not in kinds:
            raise Refused(422, f"could not find property {name} in class {request.collection}")
        kind = kinds[name]["dataType"][0]
        if kind[:1].isupper() or (everything and kind == "blob"):
            continue  # references are asked for by themselves, and blobs by name
        value = each.properties.get(name)
        if value is None:
            fields[name].null_value = 0
        else:
            _write_value(fields[name], kinds[name], value)
    told = result.metadata
    if metadata.uuid:
        told.id, told.id_as_bytes = each.id, uuid.UUID(each.id).bytes
    if metadata.creation_time_unix:
        told.creation_time_unix, told.creation_time_unix_present = TIME_UNIX_MS, True
    if metadata.last_update_time_unix:
        told.last_update_time_unix, told.last_update_time_unix_present = TIME_UNIX_MS, True
    if metadata.distance and distance is not None:
        told.distance, told.distance_present = distance, True
    if held.definition.get("vectorConfig") is None:
        if metadata.vector and "" in each.vectors:
            told.vector_bytes = each.vectors[""]
        return
    for name in metadata.vectors if metadata.vectors else (held.definition["vectorConfig"] if metadata.vector else ()):
        if name in each.vectors:
            told.vectors.add(name=name, vector_bytes=each.vectors[name], type=2 if held.is_multi(name) else 1)


def _write_value(field: Any, definition: Mapping[str, Any], value: Any) -> None:
    kind = definition["dataType"][0]
    if kind.endswith("[]"):
        field.list_value.SetInParent()
        if value:
            _write_list(field.list_value, kind[:-2], definition, value)
        return
    match kind:
        case "object":
            _write_object(field.object_value, definition, value)
        case "geoCoordinates":
            field.geo_value.latitude, field.geo_value.longitude = value["latitude"], value["longitude"]
        case "phoneNumber":
            field.phone_value.input = value["input"]
            field.phone_value.default_country = value.get("defaultCountry", "")
        case "boolean":
            field.bool_value = value
        case _:
            setattr(field, f"{kind}_value", value)


def _write_object(target: Any, definition: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    target.SetInParent()
    for inner in definition["nestedProperties"]:
        if value.get(inner["name"]) is None:
            target.fields[inner["name"]].null_value = 0
        else:
            _write_value(target.fields[inner["name"]], inner, value[inner["name"]])


def _write_list(target: Any, kind: str, definition: Mapping[str, Any], value: list[Any]) -> None:
    match kind:
        case "int":
            target.int_values.values = np.array(value, "<i8").tobytes()
        case "number":
            target.number_values.values = np.array(value, "<f8").tobytes()
        case "boolean":
            target.bool_values.values.extend(value)
        case "object":
            for item in value:
                _write_object(target.object_values.values.add(), definition, item)
        case _:
            getattr(target, f"{kind}_values").values.extend(value)
