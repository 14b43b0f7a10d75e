# Send JSON objects from standard input, one a line, to a Telemetry Hub. First: pip install websocket-client
import contextlib, json, os, queue, random, sys, threading, time
from websocket import WebSocketApp, WebSocketException

readings = queue.Queue(10_000)  # if it is full, standard input waits


def deliver():
    batch, answered_s = [], time.monotonic()  # a batch is sent again until it is answered
    while True:
        hub = WebSocketApp(
            os.environ["HUB_URL"],
            header=["Authorization: Bearer " + os.environ["HUB_TOKEN"]],
            on_open=lambda hub: hub.answers.put("connected"),
            on_message=lambda hub, answer: hub.answers.put(answer),
            on_error=lambda hub, error: print(error, file=sys.stderr, flush=True),
            on_close=lambda hub, *reason: hub.answers.put("closed"),
        )
        hub.answers = queue.Queue()
        threading.Thread(target=hub.run_forever, kwargs={"ping_interval": 20, "ping_timeout": 10}, daemon=True).start()
        for answer in iter(hub.answers.get, "closed"):
            print(answer, flush=True)
            if '"ok"' in answer or '"refused"' in answer:
                answered_s = time.monotonic()
                while batch:
                    batch.pop()
                    readings.task_done()
            elif answer != "connected":  # the hub cannot store it now
                hub.close()
            while not batch or (len(batch) < 100 and not readings.empty()):
                batch.append(readings.get())
            with contextlib.suppress(OSError, WebSocketException):
                hub.send(json.dumps(batch))
        time.sleep(random.uniform(0, min(30, 0.5 + time.monotonic() - answered_s)))


threading.Thread(target=deliver, daemon=True).start()
for line in sys.stdin:
    readings.put({"time": int(time.time() * 1000), **json.loads(line)})
readings.join()
