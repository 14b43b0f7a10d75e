// Execute the commands that operators send to this device through a Telemetry Hub. First: npm install ws
import WebSocket from "ws";
const commands = [{ name: "set_speed", parameters: [{ name: "speed", unit: "m/s", min: 0, max: 30 }] }];
const results = new Map(); // by the id of the command; a result is sent again until the hub has recorded it
let answered = Date.now();

async function execute(name, parameters) {
  console.log(name, parameters.speed); // your code is here; the hub has checked the parameters
  return { speed: parameters.speed };
}
async function resultOf({ command, id, parameters }) {
  try {
    return { result: id, ok: true, value: await execute(command, parameters) };
  } catch (error) {
    return { result: id, error: error.message };
  }
}
function connect() {
  const hub = new WebSocket(process.env.HUB_URL, { headers: { Authorization: `Bearer ${process.env.HUB_TOKEN}` } });
  const silent = setTimeout(() => hub.terminate(), 60_000); // the hub pings every 20 s
  hub.on("ping", () => silent.refresh());
  hub.on("open", () => {
    for (const frame of [{ commands }, ...results.values()]) hub.send(JSON.stringify(frame));
  });
  hub.on("message", async (text) => {
    const frame = JSON.parse(text);
    answered = Date.now();
    if (frame.recorded) results.delete(frame.recorded);
    if (frame.error) console.error(frame);
    if (!frame.command) return;
    results.set(frame.id, await resultOf(frame));
    if (hub.readyState === WebSocket.OPEN) hub.send(JSON.stringify(results.get(frame.id)));
  });
  hub.on("error", (error) => console.error(`no connection: ${error.message || error.code}`));
  hub.on("close", () => {
    clearTimeout(silent);
    setTimeout(connect, Math.random() * Math.min(500 + Date.now() - answered, 30_000));
  });
}
connect();
