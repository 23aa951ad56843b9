"""The wire format: stock arq reads ours and back; failures keep type, message and traceback, and import nothing."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import arq.jobs
import pytest

from arqestra import DeserializationError, JobExecutionFailed, RemoteError, SerializationError
from arqestra.protocol.serializers import SERIALIZERS
from arqestra.protocol.wire import JobEnd, Payload, decode_payload, decode_result, encode_payload, encode_result
from tests.unit.typed_values import PlainError, QuietError

NOT_SERIALIZED = "unable to serialize result"
ALL = ("pickle", "msgpack", "json")
PAYLOAD = Payload("greet", ("Kim", 3), {"loud": True}, None, 1_700_000_000_123, {"x": 5, "n": "nonce"})


def _end(value: Any, *, success: bool = False) -> JobEnd:
    return JobEnd(PAYLOAD, "id1", "q1", 2, success, value, 1_700_000_001_000, 1_700_000_002_000)


def _failed(error: BaseException) -> BaseException:
    """The error with a traceback."""
    try:
        raise error
    except BaseException as raised:
        return raised


# -- payloads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_payload_comes_back(name: str) -> None:
    assert decode_payload(SERIALIZERS[name], encode_payload(SERIALIZERS[name], PAYLOAD)) == PAYLOAD


def test_stock_arq_reads_our_payload() -> None:
    data = encode_payload(SERIALIZERS["pickle"], PAYLOAD)

    read: Any = arq.jobs.deserialize_job_raw(data)
    assert read == ("greet", ("Kim", 3), {"loud": True}, None, 1_700_000_000_123)


def test_we_read_a_stock_payload() -> None:
    data = arq.jobs.serialize_job("greet", ("Kim",), {"loud": True}, 4, 1_700_000_000_123)

    assert decode_payload(SERIALIZERS["pickle"], data) == Payload(
        "greet", ("Kim",), {"loud": True}, 4, 1_700_000_000_123, {}
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("data", [b"", b"garbage", b"\x80", b"{}", b"\x90"])
def test_bytes_that_are_no_payload_are_a_deserialization_error(name: str, data: bytes) -> None:
    with pytest.raises(DeserializationError, match="unable to deserialize job"):
        decode_payload(SERIALIZERS[name], data)


@pytest.mark.parametrize(("written", "read"), [("pickle", "msgpack"), ("msgpack", "pickle"), ("json", "msgpack")])
def test_another_serializers_payload_is_a_deserialization_error(written: str, read: str) -> None:
    with pytest.raises(DeserializationError):
        decode_payload(SERIALIZERS[read], encode_payload(SERIALIZERS[written], PAYLOAD))


# -- results ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_result_comes_back(name: str) -> None:
    data = encode_result(SERIALIZERS[name], _end({"answer": 42}, success=True))
    assert data is not None
    result, traceback = decode_result(SERIALIZERS[name], data)

    assert (result.success, result.result, traceback) == (True, {"answer": 42}, None)
    assert (result.function, result.args, result.kwargs) == ("greet", ("Kim", 3), {"loud": True})
    assert (result.job_try, result.job_id, result.queue_name) == (2, "id1", "q1")
    assert (result.finish_time - result.start_time).total_seconds() == 1


def test_stock_arq_reads_our_result() -> None:
    data = encode_result(SERIALIZERS["pickle"], _end("fine", success=True))
    assert data is not None
    result = arq.jobs.deserialize_result(data)

    assert (result.success, result.result, result.function, result.job_id) == (True, "fine", "greet", "id1")


def test_stock_arq_reads_our_failure() -> None:
    data = encode_result(SERIALIZERS["pickle"], _end(_failed(ValueError("no use"))))
    assert data is not None
    result = arq.jobs.deserialize_result(data)

    assert not result.success
    assert isinstance(result.result, ValueError)


def test_we_read_a_stock_result() -> None:
    data = arq.jobs.serialize_result(
        "greet", ("Kim",), {}, 1, 1_700_000_000_000, False, ValueError("no use"), 1, 2, "ref", "q1", "id1"
    )
    assert data is not None
    result, traceback = decode_result(SERIALIZERS["pickle"], data)

    assert isinstance(result.result, ValueError)
    assert traceback is None


@pytest.mark.parametrize("name", ALL)
def test_bytes_that_are_no_result_are_a_deserialization_error(name: str) -> None:
    with pytest.raises(DeserializationError, match="unable to deserialize job result"):
        decode_result(SERIALIZERS[name], b"garbage")


@pytest.mark.parametrize("name", ALL)
def test_a_value_that_does_not_serialize_is_refused(name: str) -> None:
    with pytest.raises(SerializationError, match=NOT_SERIALIZED):
        encode_result(SERIALIZERS[name], _end(lambda: None, success=True))


@pytest.mark.parametrize("success", [True, False])
def test_arguments_that_do_not_serialize_any_more_are_left_out_of_the_result(success: bool) -> None:
    end = _end("fine" if success else ValueError("no"), success=success)
    end = end._replace(payload=PAYLOAD._replace(args=(lambda: None,)))
    data = encode_result(SERIALIZERS["pickle"], end)
    assert data is not None
    result, _ = decode_result(SERIALIZERS["pickle"], data)

    assert (result.success, str(result.result), result.args) == (success, "fine" if success else "no", ())


# -- exceptions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("error", [ValueError("no use"), KeyError("a"), PlainError("x", 2), TimeoutError()])
def test_an_exception_comes_back_as_itself_with_its_traceback(name: str, error: Exception) -> None:
    data = encode_result(SERIALIZERS[name], _end(_failed(error)))
    assert data is not None
    result, traceback = decode_result(SERIALIZERS[name], data)

    assert type(result.result) is type(error)
    assert result.result.args == error.args
    assert traceback is not None
    assert "in _failed" in traceback
    assert type(error).__name__ in traceback


def test_an_exception_that_does_not_unpickle_keeps_its_type_and_message_for_stock_arq() -> None:
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(QuietError(code=7)))
    data = encode_result(SERIALIZERS["pickle"], _end(_failed(QuietError(code=7))))
    assert data is not None
    result = arq.jobs.deserialize_result(data)

    assert isinstance(result.result, JobExecutionFailed)
    assert str(result.result) == "tests.unit.typed_values.QuietError: code 7"
    assert "QuietError" in (decode_result(SERIALIZERS["pickle"], data)[1] or "")


@pytest.mark.parametrize("name", ALL)
def test_an_exception_that_cannot_be_rebuilt_is_a_remote_error(name: str) -> None:
    data = encode_result(SERIALIZERS[name], _end(_failed(QuietError(code=7))))
    assert data is not None
    result, _ = decode_result(SERIALIZERS[name], data)

    assert isinstance(result.result, RemoteError)
    assert (result.result.type_name, result.result.message) == ("tests.unit.typed_values.QuietError", "code 7")


@pytest.mark.parametrize("name", ALL)
def test_an_exception_of_a_local_class_is_a_remote_error(name: str) -> None:
    class LocalError(Exception):
        pass

    data = encode_result(SERIALIZERS[name], _end(_failed(LocalError("here"))))
    assert data is not None
    error = decode_result(SERIALIZERS[name], data)[0].result

    assert isinstance(error, RemoteError)
    assert "LocalError" in error.type_name
    assert error.message == "here"


@pytest.mark.parametrize("name", ["msgpack", "json"])
def test_exception_arguments_without_a_plain_form_become_the_message(name: str) -> None:
    data = encode_result(SERIALIZERS[name], _end(_failed(PlainError(object))))
    assert data is not None
    error = decode_result(SERIALIZERS[name], data)[0].result

    assert isinstance(error, PlainError)
    assert error.args == ("<class 'object'>",)


@pytest.mark.parametrize(
    "type_name",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "builtins.int",
        "antigravity.Error",
        "arqestra.protocol.wire.encode_result",
        "..",
        "",
        "tests.unit.typed_values.PlainError.__init__",
    ],
)
def test_a_malicious_type_name_calls_and_imports_nothing(type_name: str) -> None:
    end = _end(None)
    data = encode_result(SERIALIZERS["json"], end)
    assert data is not None
    forged = SERIALIZERS["json"].loads(data)
    forged["r"] = {"__exception__": {"type": type_name, "args": ["echo"], "message": "echo"}}
    modules = set(sys.modules)

    result, _ = decode_result(SERIALIZERS["json"], SERIALIZERS["json"].dumps(forged))

    assert isinstance(result.result, RemoteError)
    assert result.result.message == "echo"
    assert set(sys.modules) == modules


def test_a_result_that_looks_like_an_exception_stays_data() -> None:
    value = {"__exception__": {"type": "builtins.ValueError", "args": [], "message": ""}}
    data = encode_result(SERIALIZERS["json"], _end(value, success=True))
    assert data is not None

    assert decode_result(SERIALIZERS["json"], data)[0].result == value


def test_a_very_long_traceback_is_cut_in_the_middle() -> None:
    data = encode_result(SERIALIZERS["json"], _end(_failed(ValueError("begin" + "x" * 100_000 + "end"))))
    assert data is not None
    _, traceback = decode_result(SERIALIZERS["json"], data)

    assert traceback is not None
    assert len(traceback) < 25_000
    assert traceback.startswith("Traceback")
    assert "characters left out" in traceback
    assert traceback.rstrip().endswith("end")
