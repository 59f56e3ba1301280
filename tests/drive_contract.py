"""The discovery document of Drive v3 as a contract: is this request, this answer, one that the API knows?

The document is the one that ships with Google's client. Nothing here is lenient: an unknown parameter, field or type is
a violation, also where the real server would shrug.
"""

from __future__ import annotations

import json
import re
from typing import Any

from googleapiclient import discovery_cache

_LIST_METHODS = {"get": "GET", "post": "POST", "put": "PUT", "patch": "PATCH", "delete": "DELETE"}
# Of the upload protocol, which the document does not describe.
_UPLOAD_PARAMETERS = {"uploadType", "upload_id"}


class Contract:
    """Methods and schemas of one version of Drive's API."""

    def __init__(self, version: str = "v3") -> None:
        self.document: dict[str, Any] = json.loads(discovery_cache.get_static_doc("drive", version) or "{}")
        self.schemas: dict[str, Any] = self.document["schemas"]
        self.methods = list(self._methods(self.document["resources"]))
        self.service_path = "/" + self.document["servicePath"]

    def _methods(self, resources: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for resource in resources.values():
            found += resource.get("methods", {}).values()
            found += self._methods(resource.get("resources", {}))
        return found

    def method_for(self, verb: str, path: str) -> tuple[dict[str, Any] | None, dict[str, str]]:
        """The method that a verb and a path (without `/drive/v3/`) call, and its path parameters."""
        # `files/generateIds` also fits `files/{fileId}`: the one with fewer holes is meant.
        for method in sorted(self.methods, key=lambda each: each["path"].count("{")):
            pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(method["path"]))
            found = re.fullmatch(pattern, path)
            if found and method["httpMethod"] == verb:
                return method, found.groupdict()
        return None, {}

    def wrong_parameters(self, method: dict[str, Any], query: dict[str, str], *, is_upload: bool) -> list[str]:
        """What is wrong with a request's query parameters."""
        known = {**self.document["parameters"], **method.get("parameters", {})}
        wrong: list[str] = []
        for name, value in query.items():
            if is_upload and name in _UPLOAD_PARAMETERS:
                continue
            rule = known.get(name)
            if rule is None or rule.get("location") == "path":
                wrong.append(f"{method['id']} knows no parameter {name}")
            else:
                wrong += _wrong_text(f"{method['id']} {name}", rule, value)
        required = [name for name, rule in known.items() if rule.get("required") and rule["location"] == "query"]
        return wrong + [f"{method['id']} needs {name}" for name in required if name not in query]

    def wrong_value(self, schema: dict[str, Any], value: Any, where: str) -> list[str]:
        """What is wrong with a JSON value by a schema of the document."""
        if "$ref" in schema:
            return self.wrong_value(self.schemas[schema["$ref"]], value, where)
        kind = schema.get("type", "any")
        if kind == "object":
            return self._wrong_object(schema, value, where)
        if kind == "array":
            if not isinstance(value, list):
                return [f"{where} is no array"]
            return [fault for each in value for fault in self.wrong_value(schema["items"], each, where + "[]")]
        if kind == "string":
            return _wrong_text(where, schema, value) if isinstance(value, str) else [f"{where} is no string"]
        types: dict[str, Any] = {"boolean": bool, "integer": int, "number": (int, float), "any": object}
        is_odd = kind != "boolean" and isinstance(value, bool) and kind != "any"
        return [] if isinstance(value, types[kind]) and not is_odd else [f"{where} is no {kind}"]

    def _wrong_object(self, schema: dict[str, Any], value: Any, where: str) -> list[str]:
        if not isinstance(value, dict):
            return [f"{where} is no object"]
        known, more = schema.get("properties", {}), schema.get("additionalProperties")
        wrong: list[str] = []
        for name, each in value.items():
            rule = known.get(name) or more
            wrong += self.wrong_value(rule, each, f"{where}.{name}") if rule else [f"{where} has no field {name}"]
        return wrong


def _wrong_text(where: str, rule: dict[str, Any], value: str) -> list[str]:
    kind, shape = rule.get("type"), rule.get("format", "")
    if kind == "boolean" and value not in ("true", "false"):
        return [f"{where} is no boolean: {value}"]
    if (kind == "integer" or shape in ("int64", "int32")) and not re.fullmatch(r"-?\d+", value):
        return [f"{where} is no integer: {value}"]
    if kind == "integer":
        low, high = int(rule.get("minimum", value)), int(rule.get("maximum", value))
        return [] if low <= int(value) <= high else [f"{where} is out of {low}..{high}: {value}"]
    if shape == "date-time" and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value):
        return [f"{where} is no time: {value}"]
    if "enum" in rule and value not in rule["enum"]:
        return [f"{where} is none of {rule['enum']}: {value}"]
    return [] if re.fullmatch(rule.get("pattern", ".*"), value, re.DOTALL) else [f"{where} breaks its pattern: {value}"]


# --- the `fields` parameter --------------------------------------------------------------------------------------------

Mask = dict[str, Any]


def mask_of(fields: str) -> Mask:
    """A `fields` parameter as nested names; {} below a name takes all of it. ValueError when it cannot be read."""
    mask, rest = _mask(fields)
    if rest:
        raise ValueError(f"unreadable fields: {rest}")
    return mask


def _mask(text: str) -> tuple[Mask, str]:
    mask: Mask = {}
    while True:
        found = re.match(r"\s*([\w*]+(?:/[\w*]+)*)", text)
        if not found:
            raise ValueError(f"unreadable fields: {text}")
        text = text[found.end() :]
        names = found[1].split("/")
        below: Mask = {}
        if text.startswith("("):
            below, text = _mask(text[1:])
            if not text.startswith(")"):
                raise ValueError(f"unreadable fields: {text}")
            text = text[1:]
        at = mask
        for name in names[:-1]:
            at = at.setdefault(name, {})
        at[names[-1]] = below
        if not text.startswith(","):
            return mask, text
        text = text[1:]


def masked(value: Any, mask: Mask) -> Any:
    """`value` with only the fields of `mask`."""
    if not mask or "*" in mask:
        return value
    if isinstance(value, list):
        return [masked(each, mask) for each in value]
    return {name: masked(value[name], below) for name, below in mask.items() if name in value}


def unknown_fields(contract: Contract, schema: dict[str, Any], mask: Mask, where: str) -> list[str]:
    """Names in `mask` that the schema does not have."""
    while "$ref" in schema or schema.get("type") == "array":
        schema = contract.schemas[schema["$ref"]] if "$ref" in schema else schema["items"]
    known, wrong = schema.get("properties", {}), list[str]()
    for name, below in mask.items():
        if name != "*" and name not in known:
            wrong.append(f"{where} has no field {name}")
        elif name != "*" and below:
            wrong += unknown_fields(contract, known[name], below, f"{where}.{name}")
    return wrong
