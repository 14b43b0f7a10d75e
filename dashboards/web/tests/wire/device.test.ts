import { describe, expect, it } from "vitest";
import { type AgentMessage, decodeHubMessage, encodeAgentMessage, encodeBody, numbered } from "../../src/wire/device";
import { AgentSession } from "../../src/wire/device_session";
import { JsonObject, type JsonValue, parseExact } from "../../src/wire/exact_json";
import { WireError } from "../../src/wire/protocol";
import { golden } from "./golden";

interface Messages {
  valid: { name: string; json: string }[];
  invalid: { name: string; frame?: string; code: string }[];
}

/** Return parsed JSON as plain values. */
function plain(value: JsonValue): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (!(value instanceof JsonObject)) return value;
  return Object.fromEntries([...value.members].map(([name, member]) => [name, plain(member)]));
}

describe("device_hub", () => {
  const messages = golden<Messages>("device_hub");
  const isNewer = ({ json }: { json: string }) => /^\{"type":"(command|desired)/.test(json);
  it.each(messages.valid.filter((entry) => !isNewer(entry)))(
    "decodes $name to its message, with exact times",
    ({ json }) => {
      expect(decodeHubMessage(json)).toEqual(plain(parseExact(json)));
    },
  );
  it.each(messages.valid.filter(isNewer))("rejects $name, which no version that the page offers has", ({ json }) => {
    expect(() => decodeHubMessage(json)).toThrow(expect.objectContaining({ code: "bad_message" }));
  });
  it.each(messages.invalid.filter(({ frame }) => frame !== undefined))("rejects $name", ({ frame = "", code }) => {
    expect(() => decodeHubMessage(frame)).toThrow(expect.objectContaining({ code }));
  });
});

describe("device_agent", () => {
  const { valid } = golden<Messages>("device_agent");
  it.each(valid.filter(({ json }) => !/"type":"(data|refused)"/.test(json)))("encodes $name", ({ json }) => {
    expect(encodeAgentMessage(plain(parseExact(json)) as AgentMessage)).toBe(json);
  });
  it.each(valid.filter(({ json }) => /"type":"(data|refused)"/.test(json)))("encodes $name", ({ json }) => {
    const { type, seq, ...fields } = plain(parseExact(json)) as Record<string, never>;
    expect(numbered(type, seq, encodeBody(fields))).toBe(json);
  });
});

describe("agent session", () => {
  const welcome = (acked: number) =>
    ({ type: "welcome", hub: "h", acked, window: 2, max_batch_bytes: 9e9, time: 0, retry_ms: 1e9 }) as const;

  it("sends in order, within the window and the bounds of an agent", () => {
    const session = new AgentSession(6);
    expect(() => session.send(1)).toThrow(WireError);
    session.receive(welcome(3));
    expect([session.acked, session.sent, session.room, session.maxBatchBytes, session.retry_ms]).toEqual([
      3, 3, 2, 262_144, 30_000,
    ]);
    expect(() => session.send(5)).toThrow("expected 4");
    session.send(4);
    session.send(5, 6);
    expect(() => session.send(7)).toThrow("window_exceeded");
    session.receive({ type: "ack", seq: 6 });
    expect([session.acked, session.room]).toEqual([6, 2]);
  });

  it("need not send what becomes durable of an older connection", () => {
    const session = new AgentSession(6);
    session.receive(welcome(1));
    session.receive({ type: "ack", seq: 4 });
    session.send(5);
    expect([session.acked, session.sent, session.room]).toEqual([4, 5, 1]);
  });

  it("refuses what a correct hub does not send", () => {
    const session = new AgentSession(3);
    expect(() => session.receive({ type: "ack", seq: 1 })).toThrow("unexpected_message");
    expect(() => session.receive(welcome(3))).toThrow("rolled_back");
    session.receive(welcome(2));
    expect(() => session.receive(welcome(2))).toThrow("unexpected_message");
    expect(() => session.receive({ type: "ack", seq: 3 })).toThrow("unexpected_seq");
    session.receive({ type: "error", code: "busy", message: "later" });
    expect(session.room).toBe(0);
    expect(() => session.receive({ type: "ack", seq: 1 })).toThrow("unexpected_message");
  });
});
