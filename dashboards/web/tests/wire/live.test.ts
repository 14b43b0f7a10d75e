import { describe, expect, it } from "vitest";
import { decodeLiveMessage, decodeViewerMessage, encodeMessage } from "../../src/wire/live";
import { WireError } from "../../src/wire/protocol";
import { golden } from "./golden";

interface Messages {
  valid: { name: string; json: string; message: never }[];
  accepted: { name: string; json: string; message: object }[];
  invalid: { name: string; frame: string; code: string }[];
}

const directions = [
  { file: "live_hub", decode: decodeLiveMessage },
  { file: "live_viewer", decode: decodeViewerMessage },
] as const;

for (const { file, decode } of directions) {
  const messages = golden<Messages>(file);
  describe(file, () => {
    it.each(messages.valid)("decodes $name to its message", ({ json, message }) => {
      expect(decode(json)).toEqual(message);
    });
    it.each(messages.valid)("encodes $name to an equal frame", ({ json, message }) => {
      expect(JSON.parse(encodeMessage(message))).toEqual(JSON.parse(json));
    });
    it.each(messages.accepted ?? [])("accepts $name", ({ json, message }) => {
      expect(decode(json)).toMatchObject(message);
    });
    it.each(messages.invalid)("rejects $name", ({ frame, code }) => {
      expect(refusal(() => decode(frame))).toBe(code);
    });
  });
}

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof WireError) return error.code;
    throw error;
  }
  return "accepted";
}
