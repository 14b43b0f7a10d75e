/** Try it: paste lines or drop a file, and see how every input of the hub reads them. Nothing is stored. */

import { useEffect, useRef, useState } from "preact/hooks";
import { errorText } from "../data/api";
import { count, plural } from "../data/number_format";
import { fetchMessage } from "../data/quarantine";
import {
  beginningOf,
  type Content,
  contentOfBytes,
  DECIMAL_MARKS,
  EXAMPLES,
  FORMATS,
  firstReadings,
  inputsFor,
  MAX_CONTENT_BYTES,
  NO_SETTINGS,
  type Settings,
  THOUSANDS_MARKS,
  textOf,
  trialBody,
  tryContent,
} from "../data/trial";
import { CopyableCommand, Field, SelectField, WithCode } from "../ui/controls";
import { Icon } from "../ui/icon";
import { asSentence } from "../ui/status_text";
import type { TrialResult, TriedRefusal } from "../wire/api";

/** Pause in typing before the content is read. */
const PAUSE_MS = 350;

const MAX_READINGS = 200;
const MAX_REFUSALS = 50;

export function TryPage() {
  const [content, setContent] = useState<Content>({ text: "" });
  const [settings, setSettings] = useState(NO_SETTINGS);
  const [hint, setHint] = useState<string | null>(null);
  useEffect(() => {
    const entry = new URLSearchParams(window.location.search).get("entry");
    if (entry === null || !/^\d+$/.test(entry)) return;
    fetchMessage(Number(entry)).then(
      (message) => setContent({ text: beginningOf(textOf(message)).text }),
      (error: unknown) => setHint(asSentence(errorText(error))),
    );
  }, []);
  const show = (text: string) => {
    const begin = beginningOf(text);
    setContent({ text: begin.text });
    setHint(
      begin.leftOut > 0
        ? `Only the beginning is tried: ${plural(begin.leftOut, "line")} are left out. \`hub try FILE\` reads a whole file.`
        : null,
    );
  };
  const open = async (file: File) => {
    const bytes = new Uint8Array(await file.slice(0, MAX_CONTENT_BYTES).arrayBuffer());
    const found = contentOfBytes(file.name, bytes, file.size <= MAX_CONTENT_BYTES);
    if (found === null) {
      setHint(`${file.name} is too large to be tried here. Use \`hub try ${file.name}\` on the machine of the hub.`);
    } else if ("text" in found && file.size > MAX_CONTENT_BYTES) {
      setContent({ text: found.text.slice(0, found.text.lastIndexOf("\n") + 1) });
      setHint(`Only the first ${count(MAX_CONTENT_BYTES)} bytes of ${file.name} are tried.`);
    } else {
      setContent(found);
      setHint(null);
    }
  };
  const { result, problem, running } = useTrial(content, settings);
  return (
    <div class="side-by-side" data-testid="try">
      <section class="try-input" aria-label="Content">
        <h1 class="hidden-text">Try it</h1>
        <p class="note">
          Paste what a device, a logger or a program sends. The hub reads it as every input would, and stores nothing.
        </p>
        <div class="try-examples row">
          <span class="muted">Examples</span>
          {EXAMPLES.map(([name, text]) => (
            <button type="button" class="button plain" key={name} onClick={() => show(text)}>
              {name}
            </button>
          ))}
        </div>
        <ContentField content={content} show={show} open={open} />
        {hint !== null && (
          <p class="note" role="status">
            <WithCode text={hint} />
          </p>
        )}
        <SettingsFields settings={settings} change={(part) => setSettings({ ...settings, ...part })} />
      </section>
      <section class="try-result box" aria-label="Result" aria-live="polite" aria-busy={running}>
        {problem !== null ? (
          <p class="problem try-message">{asSentence(problem)}</p>
        ) : result === null ? (
          <p class="muted try-message">The readings appear here.</p>
        ) : (
          <Result result={result} />
        )}
      </section>
    </div>
  );
}

/** Read the content after each pause in typing. The last result stays until the next one is there. */
function useTrial(content: Content, settings: Settings) {
  const [result, setResult] = useState<TrialResult | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [running, setRunning] = useState(false);
  useEffect(() => {
    if ("text" in content && content.text.trim() === "") {
      setResult(null);
      setProblem(null);
      setRunning(false);
      return;
    }
    const abort = new AbortController();
    setRunning(true);
    const timer = setTimeout(() => {
      tryContent(trialBody(content, settings), abort.signal)
        .then(
          (found) => {
            setResult(found);
            setProblem(null);
          },
          (error: unknown) => {
            if (!abort.signal.aborted) setProblem(errorText(error));
          },
        )
        .finally(() => {
          if (!abort.signal.aborted) setRunning(false);
        });
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [content, settings]);
  return { result, problem, running };
}

interface ContentProps {
  content: Content;
  show: (text: string) => void;
  open: (file: File) => Promise<void>;
}

function ContentField({ content, show, open }: ContentProps) {
  const chooser = useRef<HTMLInputElement>(null);
  const { area, over } = useDrop(open);
  return (
    <div class={`try-content ${over ? "over" : ""}`} ref={area}>
      {"text" in content ? (
        <textarea
          class="field mono"
          aria-label="Lines"
          placeholder={'{"temperature": 21.5}'}
          spellcheck={false}
          autocomplete="off"
          value={content.text}
          onInput={(event) => show(event.currentTarget.value)}
        />
      ) : (
        <p class="try-file box">
          <span class="mono ellipsis">{content.name}</span>, {plural(content.size, "byte")}
        </p>
      )}
      <div class="row">
        <input
          ref={chooser}
          type="file"
          hidden
          aria-label="File"
          onChange={(event) => {
            const file = event.currentTarget.files?.[0];
            if (file !== undefined) void open(file);
            event.currentTarget.value = "";
          }}
        />
        <button type="button" class="button" onClick={() => chooser.current?.click()}>
          Choose a file
        </button>
        <span class="note">or drop it here</span>
        <button type="button" class="button plain try-clear" onClick={() => show("")}>
          Clear
        </button>
      </div>
    </div>
  );
}

/** Accept a file that is dropped on an area. */
function useDrop(open: (file: File) => Promise<void>) {
  const area = useRef<HTMLDivElement>(null);
  const latest = useRef(open);
  latest.current = open;
  const [over, setOver] = useState(false);
  useEffect(() => {
    const listen = new AbortController();
    const on = (type: "dragover" | "dragleave" | "drop", handle: (event: DragEvent) => void) =>
      area.current?.addEventListener(type, handle, { signal: listen.signal });
    on("dragover", (event) => {
      event.preventDefault();
      setOver(true);
    });
    on("dragleave", () => setOver(false));
    on("drop", (event) => {
      event.preventDefault();
      setOver(false);
      const file = event.dataTransfer?.files[0];
      if (file !== undefined) void latest.current(file);
    });
    return () => listen.abort();
  }, []);
  return { area, over };
}

interface SettingsProps {
  settings: Settings;
  change: (part: Partial<Settings>) => void;
}

function SettingsFields({ settings, change }: SettingsProps) {
  return (
    <fieldset class="try-settings">
      <legend class="muted">Settings; what is empty is decided by the content</legend>
      <SelectField name="Format" value={settings.format} options={FORMATS} change={(format) => change({ format })} />
      <TextField
        name="Device"
        value={settings.device}
        placeholder="boiler-1 or {model}-{id}"
        onChange={(device) => change({ device })}
      />
      <TextField name="Zone" value={settings.zone} placeholder="UTC" onChange={(zone) => change({ zone })} />
      <TextField
        name="Time format"
        value={settings.timeFormat}
        placeholder="auto, ms, %d.%m.%Y"
        onChange={(timeFormat) => change({ timeFormat })}
      />
      <SelectField
        name="Decimal mark"
        value={settings.decimal}
        options={DECIMAL_MARKS}
        change={(decimal) => change({ decimal })}
      />
      <SelectField
        name="Thousands"
        value={settings.thousands}
        options={THOUSANDS_MARKS}
        change={(thousands) => change({ thousands })}
      />
      <TextField
        name="Types"
        value={settings.types}
        placeholder="level=string, n=integer"
        onChange={(types) => change({ types })}
      />
      <TextField
        name="No value"
        value={settings.noValue}
        placeholder="n/a, ERR"
        onChange={(noValue) => change({ noValue })}
      />
      {settings.format === "regex" && (
        <TextField
          name="Pattern"
          value={settings.pattern}
          placeholder="T=(?P<t>[0-9.]+)"
          onChange={(pattern) => change({ pattern })}
        />
      )}
    </fieldset>
  );
}

function TextField(props: { name: string; value: string; placeholder: string; onChange: (value: string) => void }) {
  const { name, value, placeholder, onChange } = props;
  return (
    <Field name={name}>
      <input
        class="field mono"
        spellcheck={false}
        autocomplete="off"
        value={value}
        placeholder={placeholder}
        onInput={(event) => onChange(event.currentTarget.value)}
      />
    </Field>
  );
}

function Result({ result }: { result: TrialResult }) {
  const refused = Object.values(result.refused).reduce((sum, number) => sum + number, 0);
  return (
    <>
      <header class="try-head">
        <h2>
          {result.format === null
            ? "No known format"
            : (FORMATS.find(([value]) => value === result.format)?.[1] ?? result.format)}
          {result.container !== "" && ` in ${result.container}`}
        </h2>
        <p class="note">{asSentence(result.reason ?? "no line has a format that is known")}</p>
        <p class="try-counts row">
          <span>
            <b>{count(result.readings)}</b> {result.readings === 1 ? "reading" : "readings"} in{" "}
            {plural(result.lines, "line")}
          </span>
          {result.no_values > 0 && (
            <span>
              <b>{count(result.no_values)}</b> without a value
            </span>
          )}
          {result.odd_times > 0 && (
            <span>
              <b>{count(result.odd_times)}</b> with an odd time
            </span>
          )}
          <span class={refused > 0 ? "try-refused" : ""}>
            {refused > 0 && <Icon name="warning" />}
            <b>{refused > 0 ? count(refused) : "Nothing"}</b> refused
          </span>
        </p>
      </header>
      {result.refusals.length > 0 && <Refusals refusals={result.refusals} total={refused} />}
      {result.readings > 0 && <Readings result={result} />}
      {result.notes.length > 0 && (
        <section class="try-part">
          <h3>Decided by</h3>
          <ul class="try-notes">
            {result.notes.map((note) => (
              <li key={note.code + note.sentence}>
                <span class="tag mono">{note.code}</span>
                <span>{note.sentence}</span>
              </li>
            ))}
          </ul>
        </section>
      )}
      <section class="try-part">
        <h3>Settings to copy</h3>
        <p class="note">Save them as rules.toml; every input has the same settings.</p>
        <CopyableCommand text={result.settings.trim() || "# the defaults"} name="the settings" />
        {inputsFor(result.settings).map(({ input, text }) => (
          <div key={input}>
            <p class="note">{input}</p>
            <CopyableCommand text={text} />
          </div>
        ))}
      </section>
    </>
  );
}

function Refusals({ refusals, total }: { refusals: TriedRefusal[]; total: number }) {
  const shown = refusals.slice(0, MAX_REFUSALS);
  return (
    <section class="try-part">
      <h3>Refused</h3>
      <ul class="try-refusals">
        {shown.map((refusal) => (
          <li key={`${refusal.line} ${refusal.metric} ${refusal.code}`} data-testid="refusal">
            <p>
              <span class="number">Line {refusal.line}</span>
              {refusal.metric !== "" && <span class="mono">, {refusal.metric}</span>}: {refusal.reason}{" "}
              <span class="tag mono">{refusal.code}</span>
            </p>
            {refusal.setting !== "" && (
              <p class="note">
                Setting: <code>{refusal.setting}</code>
              </p>
            )}
            <pre class="mono ellipsis muted">{refusal.raw}</pre>
          </li>
        ))}
      </ul>
      {total > shown.length && <p class="note">… and {count(total - shown.length)} more</p>}
    </section>
  );
}

function Readings({ result }: { result: TrialResult }) {
  const readings = firstReadings(result, MAX_READINGS);
  return (
    <section class="try-part">
      <h3>Readings</h3>
      <section class="try-table" tabIndex={0} aria-label="Table of readings">
        <table>
          <thead>
            <tr>
              <th class="number">Line</th>
              <th>Time (UTC)</th>
              <th>Device</th>
              <th>Metric</th>
              <th class="number">Value</th>
              <th>Type</th>
            </tr>
          </thead>
          <tbody>
            {readings.map((reading) => (
              <tr key={`${reading.line} ${reading.device} ${reading.metric} ${reading.timeNs}`} data-testid="reading">
                <td class="number">{reading.line}</td>
                <td class={reading.isTimeOdd ? "try-odd" : ""}>
                  {reading.timeNs === null
                    ? "arrival"
                    : new Date(reading.timeNs / 1e6)
                        .toISOString()
                        .replace("T", " ")
                        .replace(/(\.000)?Z$/, "")}
                  {reading.isTimeOdd && " (odd)"}
                </td>
                <td class="mono">{reading.device || "(none)"}</td>
                <td class="mono">{reading.metric}</td>
                <td class="number">
                  {String(reading.value)} <span class="muted">{reading.unit}</span>
                </td>
                <td class="muted">{reading.type}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      {result.readings > readings.length && <p class="note">… and {count(result.readings - readings.length)} more</p>}
    </section>
  );
}
