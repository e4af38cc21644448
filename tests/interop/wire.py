"""What the agents sent, byte for byte, before strict readers.

0.3 is read here, by the types and the protobuf of a2a-sdk 0.3.26; 1.0 by the protobuf of a2a-sdk 1.3.0, in its driver.
No reader is told to skip what it does not know, and what was read must be what was written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from a2a.grpc import a2a_pb2
from a2a.types import (
    AgentCard,
    Message,
    Task,
    TaskArtifactUpdateEvent,
    TaskPushNotificationConfig,
    TaskStatusUpdateEvent,
)
from google.protobuf import json_format

# Code to the name in google.rpc.ErrorInfo and the HTTP status of REST (A2A 1.0.1, 5.4).
REASONS = {
    -32001: ("TASK_NOT_FOUND", 404, "NOT_FOUND"),
    -32002: ("TASK_NOT_CANCELABLE", 400, "FAILED_PRECONDITION"),
    -32003: ("PUSH_NOTIFICATION_NOT_SUPPORTED", 400, "FAILED_PRECONDITION"),
    -32004: ("UNSUPPORTED_OPERATION", 400, "FAILED_PRECONDITION"),
    -32005: ("CONTENT_TYPE_NOT_SUPPORTED", 400, "INVALID_ARGUMENT"),
    -32007: ("EXTENDED_AGENT_CARD_NOT_CONFIGURED", 400, "FAILED_PRECONDITION"),
    -32009: ("VERSION_NOT_SUPPORTED", 400, "FAILED_PRECONDITION"),
    -32602: ("INVALID_PARAMS", 400, "INVALID_ARGUMENT"),
}

# The type of a reply: of a JSON-RPC method's result, or of a REST path.
JSONRPC_10 = {
    "SendMessage": "SendMessageResponse",
    "SendStreamingMessage": "StreamResponse",
    "GetTask": "Task",
    "ListTasks": "ListTasksResponse",
    "CancelTask": "Task",
    "SubscribeToTask": "StreamResponse",
    "CreateTaskPushNotificationConfig": "TaskPushNotificationConfig",
    "GetTaskPushNotificationConfig": "TaskPushNotificationConfig",
    "ListTaskPushNotificationConfigs": "ListTaskPushNotificationConfigsResponse",
    "GetExtendedAgentCard": "AgentCard",
}
REST_PATHS = [
    ("POST", r"/message:send", "SendMessageResponse"),
    ("POST", r"/message:stream", "StreamResponse"),
    ("GET|POST", r"/tasks/[^/]+:subscribe", "StreamResponse"),
    ("POST", r"/tasks/[^/]+:cancel", "Task"),
    ("GET", r"/tasks/[^/:]+", "Task"),
    ("GET", r"/tasks", "ListTasksResponse"),
    ("GET", r"/extendedAgentCard|/card", "AgentCard"),
    ("POST", r"/tasks/[^/]+/pushNotificationConfigs", "TaskPushNotificationConfig"),
    ("GET", r"/tasks/[^/]+/pushNotificationConfigs/[^/]+", "TaskPushNotificationConfig"),
]
LISTS = {"0.3": "ListTaskPushNotificationConfigResponse", "1.0": "ListTaskPushNotificationConfigsResponse"}

KINDS_03 = {
    "task": Task,
    "message": Message,
    "status-update": TaskStatusUpdateEvent,
    "artifact-update": TaskArtifactUpdateEvent,
}


def is_stream(raw: dict[str, Any]) -> bool:
    return raw["type"].startswith("text/event-stream")


def is_jsonrpc(raw: dict[str, Any]) -> bool:
    return raw["request"].startswith('{"') and "jsonrpc" in json.loads(raw["request"])


def bodies(raw: dict[str, Any]) -> Iterator[Any]:
    """The JSON values of a reply: one, or one of each event."""
    if not is_stream(raw):
        yield json.loads(raw["body"])
        return
    # At line feeds and nowhere else: to Python's own splitting a separator of paragraphs ends a line as well.
    for line in raw["body"].split("\n"):
        if line.startswith("data:"):
            yield json.loads(line[5:])
        else:
            assert not line or line.startswith(":"), f"a line that is neither data nor a comment: {line!r}"


def error_of(raw: dict[str, Any]) -> tuple[int | None, str]:
    """The code and the text of a refusal, wherever the binding has them."""
    [body] = bodies(raw)
    if is_jsonrpc(raw):
        return body["error"]["code"], body["error"]["message"]
    if raw["version"]:
        [info] = [detail for detail in body["error"]["details"] if detail["@type"].endswith("ErrorInfo")]
        return {name: code for code, (name, *_) in REASONS.items()}.get(info["reason"]), body["error"]["message"]
    return body.get("code"), body["message"]


async def inspect(raw: dict[str, Any], version: str, strict) -> None:
    """Fails when a strict reader would. `strict(type, value)` reads 1.0 and returns a complaint."""
    rest = not is_jsonrpc(raw)
    wanted = "text/event-stream" if is_stream(raw) else "application/json"
    types = [wanted] if is_stream(raw) or not rest or version == "0.3" else [wanted, "application/a2a+json"]
    if raw["body"]:
        assert raw["type"].split(";")[0] in types, raw["type"]
    for body in bodies(raw) if raw["body"] else []:
        if not rest:
            request = json.loads(raw["request"])
            # Whoever is not heard is told so by the status, before the request is read.
            is_heard = raw["status"] != 401
            assert raw["status"] in (200, 401, 403) and (raw["status"] == 200 or "error" in body), raw["status"]
            assert set(body) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"}), set(body)
            assert body["jsonrpc"] == "2.0" and body["id"] == (request["id"] if is_heard else None), body
            if "error" in body:
                await is_error(body["error"], version, strict)
            elif version == "0.3":
                is_03(request["method"], body["result"])
            elif request["method"] == "DeleteTaskPushNotificationConfig":
                assert body["result"] in (None, {}), body
            else:
                await is_10(JSONRPC_10[request["method"]], body["result"], strict)
        elif raw["status"] >= 400 and version == "1.0":
            await is_rest_error(body, raw["status"], strict)
        elif raw["status"] >= 400:
            assert isinstance(body["message"], str) and body["message"], body
        elif raw["method"] == "DELETE":
            assert body == {}, body
        else:
            type = rest_type(raw, version)
            if type == "AgentCard" and version == "0.3":
                # Its protobuf has other names for security, so both 0.3 SDKs read the JSON form.
                is_03("agent/getAuthenticatedExtendedCard", body)
            elif version == "0.3":
                is_03_proto(type, body)
            else:
                await is_10(type, body, strict)


def rest_type(raw: dict[str, Any], version: str) -> str:
    path = urlsplit(raw["url"]).path
    path = path.removeprefix("/v1") if version == "0.3" else path
    if raw["method"] == "GET" and path.endswith("/pushNotificationConfigs"):
        return LISTS[version]
    for method, pattern, type in REST_PATHS:
        # A tenant may stand before it.
        if re.fullmatch(method, raw["method"]) and re.fullmatch(rf"(/acme)?({pattern})", path):
            return type
    raise AssertionError(f"no type for {raw['method']} {path}")


async def is_error(error: dict[str, Any], version: str, strict) -> None:
    assert set(error) <= {"code", "message", "data"} and error["message"], error
    assert isinstance(error["code"], int), error
    if version == "1.0" and "data" in error:
        await are_details(error["data"], error["code"], strict)


async def is_rest_error(body: dict[str, Any], status: int, strict) -> None:
    assert set(body) == {"error"} and set(body["error"]) == {"code", "status", "message", "details"}, body
    error = body["error"]
    assert error["code"] == status and error["message"], error
    assert re.fullmatch(r"[A-Z_]+", error["status"]), error
    await are_details(error["details"], None, strict)


async def are_details(details: list[dict[str, Any]], code: int | None, strict) -> None:
    assert isinstance(details, list) and all(isinstance(detail, dict) for detail in details), details
    for detail in details:
        if detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo":
            await is_10("ErrorInfo", {name: value for name, value in detail.items() if name != "@type"}, strict)
            assert detail["domain"] == "a2a-protocol.org", detail
            assert code not in REASONS or detail["reason"] == REASONS[code][0], (code, detail)


async def is_10(type: str, value: Any, strict) -> None:
    complaint = await strict(type, value)
    assert not complaint, f"{type}: {complaint}"


def is_03(method: str, result: Any) -> None:
    if method == "tasks/pushNotificationConfig/delete":
        assert result is None, result
    elif method == "agent/getAuthenticatedExtendedCard":
        schemes = {
            name: {member: value for member, value in scheme.items() if not member.endswith("SecurityScheme")}
            for name, scheme in result.get("securitySchemes", {}).items()
        }
        # Beside the members of the schema stand those of the protobuf, for the SDK that reads these.
        is_same(AgentCard.model_validate(result), {**result, "securitySchemes": schemes} if schemes else result)
    elif method == "tasks/pushNotificationConfig/list":
        assert isinstance(result, list), result
        for item in result:
            is_same(TaskPushNotificationConfig.model_validate(item), item)
    elif method.startswith("tasks/pushNotificationConfig/"):
        is_same(TaskPushNotificationConfig.model_validate(result), result)
    else:
        is_same(KINDS_03[result["kind"]].model_validate(result), result)


def is_same(read: Any, written: Any) -> None:
    assert read.model_dump(mode="json", by_alias=True, exclude_none=True) == written, (read, written)


def is_03_proto(type: str, value: Any) -> None:
    made = getattr(a2a_pb2, type)()
    json_format.ParseDict(value, made)
    whole = json_format.MessageToDict(made, always_print_fields_with_no_presence=True)
    assert within(json_format.MessageToDict(made), value) and within(value, whole), (whole, value)


def within(small: Any, large: Any) -> bool:
    """Whether all of `small` is in `large`: members with default values may be written or not."""
    if isinstance(small, dict) and isinstance(large, dict):
        return all(name in large and within(value, large[name]) for name, value in small.items())
    if isinstance(small, list) and isinstance(large, list):
        return len(small) == len(large) and all(map(within, small, large))
    if isinstance(small, str) and isinstance(large, str):
        # Protobuf writes whole seconds without a fraction.
        return small.replace(".000Z", "Z") == large.replace(".000Z", "Z")
    return small == large
