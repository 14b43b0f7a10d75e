"""Tests of the OpenAPI document and of the page's types that are made from it."""

from __future__ import annotations

import json
import subprocess
import sys

from hub.http.openapi import describe
from hub.http.routes import RESOURCES

DOCUMENT = describe(RESOURCES)
OPERATIONS = [operation for operations in DOCUMENT["paths"].values() for operation in operations.values()]


def test_the_command_prints_the_document_without_a_hub() -> None:
    """The generator of the page's types reads it; with --schemas it has no operations."""
    for arguments, paths in ((), DOCUMENT["paths"]), (("--schemas",), {}):
        command = [sys.executable, "-m", "hub.http.openapi", *arguments]
        printed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        assert printed == {**json.loads(json.dumps(DOCUMENT)), "paths": paths}


def test_every_operation_and_every_answer_is_described() -> None:
    """Ids of operations are unique, so that a client can be generated."""
    assert all(operation["description"] for operation in OPERATIONS)
    ids = [operation["operationId"] for operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    assert all(schema["description"] for schema in DOCUMENT["components"]["schemas"].values())


def test_an_answer_always_contains_its_fields_and_a_request_need_not() -> None:
    """Defaults belong to requests only."""
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas["BridgeState"]["required"]) == set(schemas["BridgeState"]["properties"])
    assert schemas["TokenRequest"]["required"] == ["role"]
    assert schemas["TokenRequest"]["properties"]["expires_in_s"]["default"] is None


def test_every_reference_has_its_schema() -> None:
    """No struct is missing among the components."""
    text = json.dumps(DOCUMENT)
    names = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(DOCUMENT["components"]["schemas"])
