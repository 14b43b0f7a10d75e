// Write numbered points with the official JavaScript client of InfluxDB until standard input ends, and repeat what was
// not answered. Each request is a line of output: its status, 0 without an answer, and the points answered so far.
import { setTimeout } from "node:timers/promises";
import { InfluxDB, Point } from "@influxdata/influxdb-client";

const START_MS = 1_700_000_000_000;
const PAUSE_MS = 10;
const [url, token, device, batch] = process.argv.slice(2);

const influx = new InfluxDB({ url, token, timeout: 5_000 });
const options = { batchSize: 5_001, flushInterval: 0, maxRetries: 0 };
const writeApi = influx.getWriteApi("any", "plant", "ms", options);

async function write(points) {
  while (true) {
    writeApi.writePoints(points);
    try {
      return await writeApi.flush();
    } catch (error) {
      if (error.statusCode < 429) throw error;
      await pause(error);
    }
  }
}

let answered = 0;

async function pause(error) {
  console.log(`${error.statusCode ?? 0} ${answered}`);
  await setTimeout(100);
}

function point(number) {
  const point = new Point("js").tag("device", device).timestamp(START_MS + number);
  return point.intField("number", number).floatField("half", number / 2);
}

let stopped = false;
process.stdin.on("end", () => (stopped = true)).resume();
while (!stopped) {
  await write(Array.from({ length: Number(batch) }, (_, index) => point(answered + index)));
  answered += Number(batch);
  console.log(`204 ${answered}`);
  await setTimeout(PAUSE_MS);
}
