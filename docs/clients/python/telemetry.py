# Send JSON objects from standard input, one a line, to a Telemetry Hub. First: pip install websocket-client
import contextlib, json, os, queue, random, sys, threading, time
from websocket import WebSocketApp, WebSocketException


def deliver():
    batch, answered_s = [], time.monotonic()  # a batch is sent again until it is answered
    while True:
        hub = WebSocketApp(os.environ["HUB_URL"], header=["Authorization: Bearer " + os.environ["HUB_TOKEN"]])
        hub.on_open = lambda hub: hub.answers.put("connected")
        hub.on_message = lambda hub, answer: hub.answers.put(answer)
        hub.on_error = lambda hub, error: print(error, file=sys.stderr, flush=True)
        hub.on_close = lambda hub, *reason: hub.answers.put("closed")
        hub.answers = queue.Queue()
        threading.Thread(target=hub.run_forever, kwargs={"ping_interval": 20, "ping_timeout": 10}, daemon=True).start()
        for answer in iter(hub.answers.get, "closed"):
            print(answer, flush=True)
            if '"ok"' in answer or '"refused"' in answer:
                [readings.task_done() for reading in batch]
                batch, answered_s = [], time.monotonic()
            elif answer != "connected":  # the hub cannot store it now
                hub.close()
            while not batch or (len(batch) < 100 and sum(map(len, batch)) < 10_000 and not readings.empty()):
                batch.append(readings.get())
            with contextlib.suppress(OSError, WebSocketException):
                hub.send(f"[{','.join(batch)}]")
        time.sleep(random.uniform(0, min(30, 0.5 + time.monotonic() - answered_s)))


readings = queue.Queue(10_000)  # if it is full, standard input waits
threading.Thread(target=deliver, daemon=True).start()
for line in filter(bytes.strip, sys.stdin.buffer):
    try:
        reading = json.dumps({"time": int(time.time() * 1000), **json.loads(line)})
        if len(reading) > 250_000:
            raise ValueError("longer than 250,000 bytes")  # the hub takes messages of 256 KiB
        readings.put(reading)
    except (TypeError, ValueError) as error:
        print(f"not sent: {line[:60]!r}: {error}", file=sys.stderr, flush=True)
readings.join()
