"""JSON log lines: what is in them, and that their lines stay whole."""

from __future__ import annotations

import json
import logging
import logging.config
import sys
from datetime import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace

from arqestra import JsonFormatter, Pool
from arqestra.observe.json_logs import log_config
from tests.observe import traced_jobs as jobs
from tests.observe.conftest import Spans, Working
from tests.observe.log_lines import Lines, formatted
from tests.support.replies import accepted


def test_a_line_outside_of_jobs() -> None:
    line = formatted("x %s", 1)
    assert datetime.fromisoformat(line.pop("time")).utcoffset().total_seconds() == 0  # type: ignore[union-attr]
    assert line == {"level": "INFO", "logger": "here", "message": "x 1"}


def test_an_exception_and_what_was_given_beside() -> None:
    try:
        raise ValueError("no\ngood")
    except ValueError:
        line = formatted("failed", exc_info=sys.exc_info(), tenant="t", password="p", call={"api_key": "p", "n": 1})
    assert line["error_type"] == "ValueError"
    assert line["exception"].startswith("Traceback")
    assert (line["tenant"], line["password"]) == ("t", "[redacted]")
    assert line["call"] == {"api_key": "[redacted]", "n": 1}


def test_the_span_that_is_active(spans: Spans) -> None:
    with spans.tracer.start_as_current_span("x") as span:
        line = formatted("x")
    context = span.get_span_context()
    assert line["trace_id"] == trace.format_trace_id(context.trace_id)
    assert line["span_id"] == trace.format_span_id(context.span_id)


ANYTHING = st.recursive(
    st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(object) | st.just("\ud800"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.tuples(st.integers()), inner) | st.tuples(inner),
    max_leaves=8,
)


@given(ANYTHING, st.text() | st.just("\ud800"))
def test_whatever_is_logged_is_one_line_of_json(value: Any, message: str) -> None:
    formatted("%s", message, value=value)


async def test_lines_about_a_job_say_which_and_of_which_trace(
    pool: Pool, working: Working, spans: Spans, lines: Lines
) -> None:
    async with working():
        handle = accepted(await pool.enqueue(jobs.flaky, []))
        await handle.result(timeout=10)
        workflow = accepted(await pool.enqueue(jobs.sum_up, 1))
        await workflow.result(timeout=10)
        unknown = accepted(await pool.enqueue_job("nobody"))
        await unknown.result_info()

    of_job = [line for line in lines.all if line.get("job_id") == handle.job_id]
    assert [line["attempt"] for line in of_job] == [1, 1, 2, 2]
    assert {line["function"] for line in of_job} == {"flaky"}
    assert {line["queue"] for line in of_job} == {"arq:queue"}
    trace_id = trace.format_trace_id(spans.of("send", function="flaky")[0].context.trace_id)
    assert {line["trace_id"] for line in of_job} == {trace_id}
    assert all(line["message"].strip() and datetime.fromisoformat(line["time"]) for line in lines.all)
    assert [line for line in lines.all if line.get("job_id") == workflow.job_id]


def test_the_configuration_makes_handlers_of_both_formats() -> None:
    assert log_config(True)["formatters"]["arq.standard"]["format"] == "%(asctime)s: %(message)s"
    config = log_config(False, "json")
    configurator = logging.config.DictConfigurator(json.loads(json.dumps(config)))  # it goes to worker processes so
    formatter = configurator.configure_formatter(dict(configurator.config["formatters"]["arq.standard"]))
    assert isinstance(formatter, JsonFormatter)
