# Execute the commands that operators send to this device through a Telemetry Hub. First: pip install websocket-client
import json, os, random, sys, time
from websocket import WebSocketException, create_connection

COMMANDS = [{"name": "set_speed", "parameters": [{"name": "speed", "unit": "m/s", "min": 0, "max": 30}]}]
results = {}  # by the id of the command; a result is sent again until the hub has recorded it
answered_s = time.monotonic()


def execute(name, parameters):
    print(name, parameters["speed"], flush=True)  # your code is here; the hub has checked the parameters
    return {"speed": parameters["speed"]}


def result_of(command):
    try:
        return {"result": command["id"], "ok": True, "value": execute(command["command"], command["parameters"])}
    except Exception as error:
        return {"result": command["id"], "error": str(error)}


while True:
    try:
        header = ["Authorization: Bearer " + os.environ["HUB_TOKEN"]]
        hub = create_connection(os.environ["HUB_URL"], header=header, timeout=60)  # the hub pings every 20 s
        for frame in [{"commands": COMMANDS}, *results.values()]:
            hub.send(json.dumps(frame))
        while True:
            frame = json.loads(hub.recv())
            answered_s = time.monotonic()
            if "command" in frame:
                results[frame["id"]] = result_of(frame)
                hub.send(json.dumps(results[frame["id"]]))
            elif "recorded" in frame:
                results.pop(frame["recorded"], None)
            elif "error" in frame:
                print(frame, file=sys.stderr, flush=True)
    except (OSError, ValueError, WebSocketException) as error:
        print(f"no connection: {error}", file=sys.stderr, flush=True)
    time.sleep(random.uniform(0, min(30, 0.5 + time.monotonic() - answered_s)))
