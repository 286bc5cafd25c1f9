"""The client of chat endpoints against a server that misbehaves in every way we know of."""

from __future__ import annotations

import json
import logging
import random
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from babelgate.errors import JudgeError, UserError
from babelgate.judges.api_client import MAX_BODY, ApiClient, ApiItemError, ApiSettings, Usage
from babelgate.judges.api_wire import (
    ApiReply,
    Dialect,
    MalformedReply,
    complaint_of,
    names_no_model,
    printable,
    read_reply,
    retry_after,
)

from .api_server import KEY, Step, chat, chat_server, error, settled

pytestmark = pytest.mark.usefixtures("key")

MESSAGES = [{"role": "user", "content": "{}"}]
SCHEMA = {"type": "object"}


@pytest.fixture
def waits():
    return []


@pytest.fixture
def ask(server, waits):
    """Ask once with the settings given; waiting between tries takes no time."""

    async def sleep(seconds):
        waits.append(seconds)

    def go(usage=None, **settings):
        made = ApiSettings(url=server.url, model="m", **{"timeout_s": 5.0, **settings})
        jitter = random.Random(0)
        with ApiClient(made, usage=usage, sleep=sleep, jitter=jitter) as client:
            return client.complete(MESSAGES, schema=SCHEMA, max_tokens=7)

    return go


def test_a_plain_answer(server, ask):
    assert ask() == ApiReply('{"outcome": "answered", "confidence": 0.9, "reason": "it helps"}', 100, 10, "stop")  # fmt: skip
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.body["model"] == "m"
    assert asked.body["messages"] == MESSAGES
    assert (asked.body["max_tokens"], asked.body["temperature"]) == (7, 0)
    assert asked.body["response_format"]["json_schema"]["schema"] == SCHEMA


def test_without_a_key_none_is_sent(server, ask, monkeypatch):
    monkeypatch.delenv("BABELGATE_API_KEY")
    ask()
    assert "Authorization" not in server.asked[0].headers


def test_another_variable_and_a_query(server, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", " other \n")
    settings = ApiSettings(url=server.url + "/?api-version=1", model="m", key_env="OTHER_KEY")
    with ApiClient(settings) as client:
        client.complete(MESSAGES, schema=None, max_tokens=5)
    assert server.asked[0].headers["Authorization"] == "Bearer other"
    assert server.asked[0].path == "/v1/chat/completions?api-version=1"
    assert "response_format" not in server.asked[0].body


# ---------------------------------------------------------------------------------------------
# what may pass: asked again

TRUNCATED = [
    Step(cut=20),
    Step(body=chat("x")[:30]),
    Step(body=chat("x")[:30], headers={"Content-Length": "30"}),
]
MALFORMED = [
    Step(body=b""),
    Step(body=b"<html>bad gateway</html>"),
    Step(body=b"[1, 2]"),
    Step(body=b"null"),
    Step(body=b'{"choices": []}'),
    Step(body=b'{"choices": [{}]}'),
    Step(body=b'{"choices": "x"}'),
    Step(body=b'{"choices": [{"message": 3}]}'),
    Step(body=b'{"error": {"message": "overloaded"}}'),
    Step(body=b"[" * 100_000),
    Step(body=b"\xff\xfe\x00"),
]


@pytest.mark.parametrize("step", [error(s) for s in (408, 409, 429, 500, 502, 503, 529)] + TRUNCATED + MALFORMED)  # fmt: skip
def test_what_passes_is_tried_again(server, ask, waits, step):
    server.plan = [step, step]
    usage = Usage()
    assert ask(usage).text.startswith('{"outcome"')
    assert len(server.asked) == 3
    # 0.5 s and 1 s, each times 0.5 to 1.5.
    assert 0.25 <= waits[0] <= 0.75
    assert 0.5 <= waits[1] <= 1.5
    assert len(waits) == 2
    totals = usage.totals(ApiSettings(url=server.url, model="m"))
    assert (totals["requests"], totals["tries"], totals["failures"]) == (1, 3, 0)


@pytest.mark.parametrize("step", [error(500, "boom"), TRUNCATED[0], MALFORMED[1], MALFORMED[8]])
def test_after_all_tries_the_item_fails(server, ask, waits, step):
    server.respond = lambda _: step
    usage = Usage()
    with pytest.raises(ApiItemError, match=r"after 3 tries"):
        ask(usage, max_tries=3)
    assert (len(server.asked), len(waits)) == (3, 2)
    assert usage.totals(ApiSettings(url=server.url, model="m"))["failures"] == 1


def test_retry_after_in_seconds_and_as_a_date(server, ask, waits):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    server.plan = [error(429, Retry_After="7"), error(503, Retry_After=date), error(429, Retry_After="86400"), error(429, Retry_After="junk")]  # fmt: skip
    ask(max_tries=5)
    assert 7 <= waits[0] <= 7.7
    assert 17 <= waits[1] <= 22
    assert 60 <= waits[2] <= 66  # capped
    assert 2 <= waits[3] <= 6  # the usual wait after four tries


@pytest.mark.parametrize(
    "slow",
    [
        Step(delay=30),
        Step(drip=0.02),
        Step(drip=0.02, drip_headers=True),
        Step(body=b" " * 1000, drip=0.02),
    ],
    ids=["hangs", "drips", "drips its headers", "drips spaces"],
)
def test_a_slow_reply_ends_in_time(server, ask, slow):
    """Each byte comes within the read timeout, so only a limit for the whole can end this."""
    server.respond = lambda _: slow
    start = time.monotonic()
    with pytest.raises(ApiItemError, match=r"within 0.15 s \(after 2 tries\)"):
        ask(timeout_s=0.15, max_tries=2)
    assert time.monotonic() - start < 10
    assert len(server.asked) <= 2  # a busy machine may give up before the server has read a try


def test_the_deadline_ends_a_try_and_a_wait(server):
    server.respond = lambda _: error(429, Retry_After="50")
    start = time.monotonic()
    settings = ApiSettings(url=server.url, model="m", deadline_s=0.2)
    with ApiClient(settings) as client, pytest.raises(ApiItemError, match=r"429.*gave up after"):
        client.complete(MESSAGES, schema=None, max_tokens=5)
    server.respond = lambda _: Step(delay=30)
    with ApiClient(settings) as client, pytest.raises(ApiItemError, match="gave up after 0.2 s"):
        client.complete(MESSAGES, schema=None, max_tokens=5)
    assert time.monotonic() - start < 10


def test_a_connection_lost_later_is_tried_again():
    async def sleep(_):
        pass

    usage = Usage()
    with chat_server() as server:
        settings = ApiSettings(url=server.url, model="m", max_tries=3)
        client = ApiClient(settings, usage=usage, sleep=sleep)
        client.__enter__()
        client.complete(MESSAGES, schema=None, max_tokens=5)
    try:
        with pytest.raises(ApiItemError, match=r"connection.*after 3 tries"):
            client.complete(MESSAGES, schema=None, max_tokens=5)
        # A server that stays away is given up, not asked a thousand times more.
        for _ in range(8):
            with pytest.raises(ApiItemError):
                client.complete(MESSAGES, schema=None, max_tokens=5)
        with pytest.raises(JudgeError, match=r"failed 10 requests in a row.*kept"):
            client.complete(MESSAGES, schema=None, max_tokens=5)
    finally:
        client.__exit__()
    assert usage.totals(settings)["failures"] == 10


# ---------------------------------------------------------------------------------------------
# what never passes: for this item, or for all


@pytest.mark.parametrize("status", [400, 413, 422, 451])
def test_a_refused_request_is_not_repeated(server, ask, status):
    server.respond = lambda _: error(status, "context too long")
    with pytest.raises(ApiItemError, match=f"HTTP {status}: context too long"):
        ask()
    assert len(server.asked) == 1


def test_a_huge_body_is_not_read_to_its_end(server, ask):
    server.respond = lambda _: Step(body=b" " * (3 * MAX_BODY))
    with pytest.raises(ApiItemError, match="more than 1,048,576 bytes"):
        ask()
    assert len(server.asked) == 1


def test_a_body_that_unpacks_to_a_huge_one(server, ask):
    import gzip

    packed = gzip.compress(b" " * (5 * MAX_BODY))
    server.respond = lambda _: Step(body=packed, headers={"Content-Encoding": "gzip"})
    with pytest.raises(ApiItemError, match="bytes"):
        ask()
    assert server.asked[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (error(401), "refuses the key in BABELGATE_API_KEY"),
        (error(403), "forbids this key"),
        (error(404, "model `m` does not exist"), "no model 'm'"),
        (error(400, "m is not a valid model ID. Model m not found"), "no model 'm'"),
        (error(405), "address"),
        (error(402), "paid"),
        (error(429, 'x","code": "insufficient_quota'), "paid"),
    ],
)
def test_what_no_request_can_pass_stops_at_once(server, ask, step, words):
    server.respond = lambda _: step
    with pytest.raises(JudgeError, match=words) as caught:
        ask()
    assert len(server.asked) == 1
    assert server.url in str(caught.value)


def test_401_without_a_key_says_where_to_put_it(server, ask, monkeypatch):
    monkeypatch.delenv("BABELGATE_API_KEY")
    server.respond = lambda _: error(401)
    with pytest.raises(JudgeError, match=r"asks for a key.*set BABELGATE_API_KEY"):
        ask()


def test_403_and_talk_of_models_after_a_success_concern_the_item(server):
    server.plan = [Step(), error(403, "flagged"), error(400, "the model is not valid for this")]
    with ApiClient(ApiSettings(url=server.url, model="m")) as client:
        client.complete(MESSAGES, schema=None, max_tokens=5)
        for _ in range(2):
            with pytest.raises(ApiItemError):
                client.complete(MESSAGES, schema=None, max_tokens=5)


def test_connection_refused_at_first(ask):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with (
            ApiClient(ApiSettings(url=url, model="m")) as client,
            pytest.raises(JudgeError, match=r"no connection to http://127.*start the server"),
        ):
            client.complete(MESSAGES, schema=None, max_tokens=5)


def test_https_to_a_server_without_it(server):
    url = server.url.replace("http:", "https:")
    with (
        ApiClient(ApiSettings(url=url, model="m")) as client,
        pytest.raises(JudgeError, match="no connection to https"),
    ):
        client.complete(MESSAGES, schema=None, max_tokens=5)
    assert server.asked == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(server, ask, status):
    with chat_server() as other:
        target = other.url.replace("127.0.0.1", "user:secret@localhost") + "/chat/completions?k=v"
        server.respond = lambda _: Step(status, b"", {"Location": target})
        with pytest.raises(JudgeError, match=r"redirects to http://localhost") as caught:
            ask()
        assert other.asked == []
    assert len(server.asked) == 1
    assert "secret" not in str(caught.value)
    assert "k=v" not in str(caught.value)


# ---------------------------------------------------------------------------------------------
# servers of few abilities


def formats(server):
    return [asked.body.get("response_format", {}).get("type", "none") for asked in server.asked]


def test_the_format_steps_down_once_per_client(server):
    def respond(asked):
        form = asked.body.get("response_format")
        return Step() if form is None else error(400, f"response_format {form['type']} is not supported")  # fmt: skip

    server.respond = respond
    with ApiClient(ApiSettings(url=server.url, model="m")) as client:
        for _ in range(3):
            client.complete(MESSAGES, schema=SCHEMA, max_tokens=5)
    assert formats(server) == ["json_schema", "json_object", "none", "none", "none"]


def test_requests_under_way_step_down_together(server):
    """Two refusals of the same format are one step, not two."""

    def respond(asked):
        refused = asked.body["response_format"]["type"] == "json_schema"
        return Step(400, error(400, "json_schema").body, delay=0.1) if refused else Step()

    server.respond = respond
    with ApiClient(ApiSettings(url=server.url, model="m", concurrency=4)) as client:
        asked = [client.submit(MESSAGES, schema=SCHEMA, max_tokens=5) for _ in range(4)]
        assert all(future.result().text for future in asked)
    assert sorted(formats(server)) == ["json_object"] * 4 + ["json_schema"] * 4


def test_a_late_complaint_takes_back_no_step(server):
    def respond(asked):
        form = asked.body.get("response_format", {}).get("type")
        late = 0.3 if len(server.asked) == 1 else 0
        return Step(400, error(400, form).body, delay=late) if form else Step()

    server.respond = respond
    with ApiClient(ApiSettings(url=server.url, model="m")) as client:
        late = client.submit(MESSAGES, schema=SCHEMA, max_tokens=5)
        assert settled(lambda: server.busy == 1)
        client.complete(MESSAGES, schema=SCHEMA, max_tokens=5)
        late.result()
    assert formats(server) == ["json_schema", "json_schema", "json_object", "none", "none"]


def test_newer_models_with_other_names_of_settings(server, ask):
    server.plan = [
        error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        error(400, "Unsupported value: 'temperature' does not support 0 with this model."),
    ]
    assert ask().text
    last = server.asked[-1].body
    assert last["max_completion_tokens"] == 7
    assert not {"max_tokens", "temperature"} & set(last)


def test_a_server_that_always_complains_about_the_format_is_not_asked_for_ever(server, ask):
    server.respond = lambda _: error(400, "response_format, max_completion_tokens, temperature: no support")  # fmt: skip
    with pytest.raises(ApiItemError, match="HTTP 400"):
        ask()
    assert len(server.asked) == 5


def test_dialects_end():
    dialect, steps = Dialect("json_schema"), 0
    everything = "max_completion_tokens temperature unsupported response_format"
    while (simpler := dialect.simpler(everything)) is not None:
        dialect, steps = simpler, steps + 1
    assert steps == 4
    assert Dialect("json_object").simpler("the temperature of a bomb is too high") is None


# ---------------------------------------------------------------------------------------------
# concurrency, cancelling


def test_no_more_at_once_than_allowed(server):
    server.respond = lambda _: Step(delay=0.03)
    with ApiClient(ApiSettings(url=server.url, model="m", concurrency=3)) as client:
        asked = [client.submit(MESSAGES, schema=None, max_tokens=5) for _ in range(12)]
        assert all(future.result().text for future in asked)
    assert server.most_at_once == 3
    assert len(server.asked) == 12


def test_leaving_stops_what_is_under_way(server):
    server.respond = lambda _: Step(delay=30)
    before = threading.active_count()
    start = time.monotonic()
    with ApiClient(ApiSettings(url=server.url, model="m")) as client:
        asked = client.submit(MESSAGES, schema=None, max_tokens=5)
        assert settled(lambda: server.busy == 1)
    assert time.monotonic() - start < 10
    assert asked.cancelled()
    assert settled(lambda: threading.active_count() <= before + 1)  # the server's own


# ---------------------------------------------------------------------------------------------
# the key


@pytest.mark.parametrize(
    "step",
    [
        Step(),
        error(400, f"bad key {KEY}"),
        error(401, f"Incorrect API key provided: {KEY}"),
        error(403, KEY),
        error(404, KEY),
        error(500, KEY),
        Step(body=KEY.encode()),
        Step(body=chat(KEY)),
        Step(302, b"", {"Location": f"http://elsewhere.invalid/{KEY}"}),
        Step(cut=10),
        Step(delay=30),
    ],
)
def test_the_key_is_never_shown(server, ask, step, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    server.respond = lambda _: step
    settings = ApiSettings(url=server.url, model="m")
    said = ""
    try:
        said = ask(max_tries=2, timeout_s=0.3).text
    except (ApiItemError, JudgeError) as failed:
        error: BaseException | None = failed
        while error is not None:
            said += repr(error) + str(error) + repr(vars(error))
            error = error.__cause__ or error.__context__
    captured = capfd.readouterr()
    # httpcore logs for debugging what a server sends; no server should send the key.
    logged = [r.getMessage() for r in caplog.records if "Location" not in r.getMessage()]
    everything = [said, *logged, captured.out, captured.err, repr(settings)]
    assert any(asked.headers["Authorization"].endswith(KEY) for asked in server.asked)
    assert not [text for text in everything if KEY in text]
    assert said


@pytest.mark.parametrize("value", ["sk-secret\nX-Evil: 1", "sk-secretö", "sk-\x00secret"])
def test_a_key_that_no_header_can_carry(server, ask, monkeypatch, value):
    monkeypatch.setattr("os.environ", {"BABELGATE_API_KEY": value})
    with pytest.raises(JudgeError, match="is no key") as caught:
        ask()
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert server.asked == []


def test_settings_show_and_keep_no_secret():
    settings = ApiSettings(url="https://api.example.org/v1?deployment=abc#f", model="m")
    assert settings.public_url == "https://api.example.org/v1"
    assert "abc" not in repr(settings)
    assert KEY not in json.dumps(vars(settings))


@pytest.mark.parametrize("query", ["key=abc", "api-key=abc", "access_token=abc", "sig=abc"])
def test_a_key_in_the_address_is_refused(query):
    """It would stand in shell histories and in the command line that run.json keeps."""
    with pytest.raises(UserError, match="should hold no key") as caught:
        ApiSettings(url=f"https://api.example.org/v1?{query}", model="m")
    assert "abc" not in str(caught.value)


def test_settings_name_everything_that_is_wrong():
    with pytest.raises(UserError) as caught:
        ApiSettings(
            url="ftp://x",
            model=" ",
            key_env=KEY,
            timeout_s=0,
            concurrency=-1,
            prompt_price=-1,
            structured="xml",  # pyright: ignore
        )
    for word in ("url", "model", "key_env", "timeout_s", "concurrency", "prompt_price", "xml"):
        assert word in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "http://", "http://[::", "http://u:topsecret@x/v1"])  # fmt: skip
def test_unusable_addresses(url):
    with pytest.raises(UserError, match="url should") as caught:
        ApiSettings(url=url, model="m")
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/chat/completions"])
def test_the_address_may_end_in_several_ways(path):
    url = ApiSettings(url="http://h:1" + path, model="m").chat_url
    assert str(url) == "http://h:1/v1/chat/completions"


# ---------------------------------------------------------------------------------------------
# what is said


def test_a_missing_text_is_an_empty_one():
    assert read_reply(chat(None, finish="length")) == ApiReply("", 100, 10, "length")
    assert read_reply(chat("x", usage=None)) == ApiReply("x", None, None, "stop")
    assert read_reply(chat("x", usage=("7", True))) == ApiReply("x", None, None, "stop")
    parts = json.dumps({"choices": [{"message": {"content": [{"type": "thinking", "text": "no"}, {"type": "text", "text": "a"}, 3]}}]})  # fmt: skip
    assert read_reply(parts.encode()).text == "a"
    refusal = b'{"choices": [{"message": {"content": null, "refusal": "I cannot"}}]}'
    assert read_reply(refusal).text == "I cannot"


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "usage", "error", "detail", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60) | json_values.map(lambda v: json.dumps(v).encode()))
def test_any_body_is_read_or_malformed(body):
    assert isinstance(complaint_of(body), str)
    said = ""
    try:
        reply = read_reply(body)
    except MalformedReply as problem:
        said = str(problem)
    else:
        assert isinstance(reply.text, str)
        assert b"choices" in body
    assert said.isprintable()


@given(st.text(max_size=40))
def test_retry_after_is_seconds_or_nothing(value):
    seconds = retry_after(value, 0.0)
    assert seconds is None or seconds >= 0


def test_retry_after_examples():
    assert retry_after(None, 0) is None
    assert retry_after("12", 0) == 12
    assert retry_after("-3", 0) == 0
    assert retry_after("nan", 0) is None
    assert retry_after("inf", 0) is None
    assert retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 40) == 60
    assert retry_after("Thu, 01 Jan 1970 00:01:40 -0000", 40) == 60
    assert retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 4000) == 0


@given(st.text(), st.integers(1, 50))
def test_printable_is_one_short_line_that_can_be_written(text, limit):
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    shown.encode()


def test_complaints_about_models():
    assert names_no_model("The model `x` does not exist")
    assert names_no_model("Invalid model name passed in model=x")
    assert not names_no_model("this model's maximum context length is 4096 tokens")


def test_cost():
    settings = ApiSettings(url="http://h/v1", model="m", prompt_price=2.0, completion_price=10.0)
    usage = Usage()
    usage.add_tokens(ApiReply("", 1000, 100))
    usage.add_tokens(ApiReply("", 500, None))
    totals = usage.totals(settings)
    # 1,500 at 2 and 100 at 10 per million.
    assert totals["cost"] == pytest.approx(0.004)
    assert totals["unmetered"] == 1
    assert usage.totals(ApiSettings(url="http://h/v1", model="m"))["cost"] is None
