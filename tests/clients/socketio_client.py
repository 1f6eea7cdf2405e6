# Fanfare's Socket.IO as python-socketio sees it, by its blocking and its asyncio client.
#
# In: the server's address. Out: exit status 0, or the assertion that fails. Each way of connecting is tried with the
# events that are built in: joining a room, messages with binary data, typing, and a namespace that does not exist. Each
# step waits for an event; nothing sleeps.

import asyncio
import sys
import threading

import engineio.payload
import socketio

# By default this client refuses an answer to a poll that holds more packets, of any server.
engineio.payload.Payload.max_decode_packets = 1_000
url = sys.argv[1]
WAYS = [["websocket"], ["polling"], None]
WAIT = 60


class Heard:
    """The events of one client, in order, for a thread that waits."""

    def __init__(self):
        self.events = []
        self.changed = threading.Condition()

    def __call__(self, name, *args):
        with self.changed:
            self.events.append((name, *args))
            self.changed.notify_all()

    def wait(self, judge):
        with self.changed:
            found = lambda: next((event for event in self.events if judge(event)), None)
            assert self.changed.wait_for(lambda: found() is not None, WAIT), self.events
            return found()


def said(number):
    return lambda event: event[0] == "message" and event[1].get("n") == number


def check_message(event, sender):
    message = dict(event[1])
    assert isinstance(message.pop("timestamp"), int), message
    assert message.pop("n") is not None
    assert message == {"userId": sender, "file": b"\x00\x01\xff", "text": "你好"}, message


MESSAGE = {"file": b"\x00\x01\xff", "text": "你好"}


def blocking(transports):
    clients = []
    for _ in range(2):
        client, heard = socketio.Client(reconnection=False), Heard()
        client.on("*", heard)
        client.connect(url, transports=transports, wait_timeout=WAIT)
        assert client.get_sid() is not None and client.get_sid() != client.sid
        clients.append((client, heard))
    (ada, ada_heard), (bob, bob_heard) = clients
    room = f"blocking {transports}"
    ada.emit("join-room", room)
    ada.emit("message", {**MESSAGE, "n": 0})
    check_message(ada_heard.wait(said(0)), ada.get_sid())
    bob.emit("join-room", room)
    joined = ada_heard.wait(lambda event: event[0] == "user-joined")[1]
    assert joined["userId"] == bob.get_sid(), joined
    for number in range(1, 20):
        bob.emit("message", {**MESSAGE, "n": number})
    for heard in (ada_heard, bob_heard):
        check_message(heard.wait(said(19)), bob.get_sid())
        # Each event has a thread of its own, so they may overtake each other here.
        for number in range(1, 19):
            check_message(heard.wait(said(number)), bob.get_sid())
    bob.emit("typing", True)
    typing = ada_heard.wait(lambda event: event[0] == "user-typing")[1]
    assert typing == {"userId": bob.get_sid(), "isTyping": True}, typing
    for client, _ in clients:
        client.disconnect()


def refused():
    client, heard = socketio.Client(reconnection=False), Heard()
    client.on("connect_error", lambda data: heard("refused", data), namespace="/nowhere")
    try:
        client.connect(url, namespaces=["/nowhere"], transports=["websocket"], wait_timeout=WAIT)
        raise AssertionError("a namespace that does not exist was entered")
    except socketio.exceptions.ConnectionError:
        assert heard.wait(lambda event: True)[1] == {"message": "Invalid namespace"}, heard.events
    finally:
        client.disconnect()


async def cooperative(transports):
    clients = []
    for _ in range(2):
        client, heard = socketio.AsyncClient(reconnection=False), asyncio.Queue()
        client.on("*", lambda name, *args, heard=heard: heard.put_nowait((name, *args)))
        await client.connect(url, transports=transports, wait_timeout=WAIT)
        clients.append((client, heard))

    async def until(heard, judge):
        while True:
            event = await asyncio.wait_for(heard.get(), WAIT)
            if judge(event):
                return event

    (ada, ada_heard), (bob, bob_heard) = clients
    room = f"asyncio {transports}"
    await ada.emit("join-room", room)
    await ada.emit("message", {**MESSAGE, "n": 0})
    check_message(await until(ada_heard, said(0)), ada.get_sid())
    await bob.emit("join-room", room)
    joined = await until(ada_heard, lambda event: event[0] == "user-joined")
    assert joined[1]["userId"] == bob.get_sid(), joined
    for number in range(1, 20):
        await bob.emit("message", {**MESSAGE, "n": number})
    for heard in (ada_heard, bob_heard):
        for number in range(1, 20):
            event = await until(heard, lambda event: event[0] == "message")
            assert event[1]["n"] == number, event
            check_message(event, bob.get_sid())
    await bob.emit("typing", False)
    typing = await until(ada_heard, lambda event: event[0] == "user-typing")
    assert typing[1] == {"userId": bob.get_sid(), "isTyping": False}, typing
    for client, _ in clients:
        await client.disconnect()


for way in WAYS:
    blocking(way)
    asyncio.run(cooperative(way))
refused()
