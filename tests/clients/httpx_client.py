# Fanfare as Python's httpx sees it: an event stream and its Last-Event-ID, polls with sends, a channel that is denied.
#
# In: the server's address, a key of the HTTP API, and the version of HTTP, `1.1` or `2` (over TLS). Out: exit status 0,
# or the assertion that fails. Each request waits for an answer; nothing sleeps.

import json
import sys

import httpx

url, key, version = sys.argv[1:]
# The certificate of `fanfare dev --tls` signs itself.
client = httpx.Client(base_url=url, http1=version == "1.1", http2=version == "2", verify=False, timeout=60, trust_env=False)
channel = f"open:httpx-{version}"


def post(path, body, status=200, headers=None):
    answer = client.post(path, json=body, headers=headers)
    assert answer.status_code == status, (path, answer.status_code, answer.text)
    assert answer.http_version == f"HTTP/{version}", answer.http_version
    return answer.json()


def publish(data):
    post("/api/v1/publish", {"channel": channel, "data": data}, headers={"Authorization": f"Bearer {key}"})


def blocks(response):
    """The blocks of an event stream, as dictionaries."""
    block = {}
    for line in response.iter_lines():
        line = line.rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            block[name] = value
        else:
            if "data" in block:
                yield block
            block = {}


def events(last_id=None):
    headers = {"Last-Event-ID": last_id} if last_id else {}
    return client.stream("GET", "/events", params={"channel": channel}, headers=headers)


# Each publication arrives before the next one is made.
with events() as response:
    assert response.status_code == 200 and response.http_version == f"HTTP/{version}", response
    stream = blocks(response)
    assert json.loads(next(stream)["data"])["type"] == "connected"
    for number in range(3):
        publish({"n": number})
        block = next(stream)
        assert json.loads(block["data"]) == {"n": number}, block

# While nobody listens, two more; the id of the last one brings them, once and in order.
for number in (3, 4):
    publish({"n": number})
with events(block["id"]) as response:
    stream = blocks(response)
    assert json.loads(next(stream)["data"])["type"] == "connected"
    for number in (3, 4):
        block = next(stream)
        assert "event" not in block and json.loads(block["data"]) == {"n": number}, block
    publish({"n": 5})
    assert json.loads(next(stream)["data"]) == {"n": 5}

# A channel that the rules deny.
assert client.get("/events", params={"channel": "closed:x"}).status_code == 403

# A conversation by polls and sends.
first = post("/v1/poll", {"type": "connect", "id": 1, "attempt": f"httpx-{version}"})
assert first["n"] == 1 and first["messages"][0]["type"] == "connected", first
ticket = first["messages"][0]["ticket"]
commands = [
    {"type": "subscribe", "id": 2, "channel": channel},
    {"type": "subscribe", "id": 3, "channel": "closed:x"},
]
subscribed, denied = post("/v1/send", {"ticket": ticket, "n": 1, "commands": commands})["replies"]
assert subscribed["type"] == "subscribed" and subscribed["offset"] == 6, subscribed
assert denied["type"] == "error" and denied["code"] == "denied", denied
send = {"ticket": ticket, "n": 2, "commands": {"type": "publish", "id": 4, "channel": channel, "data": "sent"}}
answers = [post("/v1/send", send) for _ in range(2)]
assert answers[0] == answers[1] and answers[0]["replies"][0]["offset"] == 7, answers
polls = [post("/v1/poll", {"ticket": ticket, "ack": 1, "wait": 20_000}) for _ in range(2)]
assert polls[0] == polls[1], polls
assert [message["data"] for message in polls[0]["messages"]] == ["sent"], polls
empty = post("/v1/poll", {"ticket": ticket, "ack": 2, "wait": 0})
assert empty == {"n": 2, "messages": []}, empty
