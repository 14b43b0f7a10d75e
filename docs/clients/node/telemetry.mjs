// Send JSON objects from standard input, one a line, to a Telemetry Hub. First: npm install ws
import { createInterface } from "node:readline";
import WebSocket from "ws";
const waiting = []; // readings that the hub has not answered, at most 10,000
let [sent, more, answered, hub] = [0, true, Date.now()]; // so many are in the frame that waits for its answer

function send() {
  if (!more && waiting.length === 0) process.exit();
  if (hub.readyState !== WebSocket.OPEN || sent > 0 || waiting.length === 0) return;
  const frame = () => JSON.stringify(waiting.slice(0, sent)); // the hub takes 256 KiB; a character has up to 3 bytes
  for (sent = Math.min(waiting.length, 100); sent > 1 && frame().length > 80_000; ) sent >>= 1;
  hub.send(frame());
}
function connect() {
  sent = 0; // what has no answer is sent again
  hub = new WebSocket(process.env.HUB_URL, { headers: { Authorization: `Bearer ${process.env.HUB_TOKEN}` } });
  hub.on("open", send);
  hub.on("message", (answer) => {
    console.log(String(answer));
    if (!/"ok"|"refused"/.test(answer)) return hub.close(); // the hub cannot store it now
    waiting.splice(0, sent);
    [sent, answered] = [0, Date.now()];
    send();
  });
  hub.on("error", (error) => console.error(error.message || error.code));
  hub.on("close", () => setTimeout(connect, Math.random() * Math.min(500 + Date.now() - answered, 30_000)));
}
connect();
for await (const line of createInterface({ input: process.stdin })) {
  try {
    if (Buffer.byteLength(line) > 250_000) throw new Error("longer than 250,000 bytes");
    if (line.trim()) waiting.push({ time: Date.now(), ...JSON.parse(line) });
  } catch (error) {
    console.error(`not sent: ${line.slice(0, 60)}: ${error.message}`);
  }
  send();
  while (waiting.length >= 10_000) await new Promise((again) => setTimeout(again, 50));
}
more = false;
send();
