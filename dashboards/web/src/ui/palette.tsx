/** Command palette: finds devices and actions by a few letters. */

import { signal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { conditionOf } from "../data/fleet";
import { hub } from "../data/hub";
import { hubNow } from "../data/time";
import { Icon, type IconName, Shape } from "./icon";
import { searchItems } from "./list";
import { theme } from "./preferences";
import { devicePath, navigate } from "./route";

export const paletteOpen = signal(false);
const SHOWN = 40;

interface Entry {
  key: string;
  text: string;
  hint: string;
  icon: IconName | null;
  device: string | null;
  run(): void;
}

/** Additional actions of the current page. */
export const pageActions = signal<Omit<Entry, "key" | "device">[]>([]);

const MQTT = {
  text: "Go to the MQTT brokers",
  hint: "Page",
  icon: "broker",
  run: () => navigate("/mqtt"),
} as const;

function allEntries(): Entry[] {
  const actions: Omit<Entry, "key" | "device">[] = [
    { text: "Go to the fleet", hint: "Page", icon: "fleet", run: () => navigate("/") },
    { text: "Go to the flow", hint: "Page", icon: "flow", run: () => navigate("/flow") },
    { text: "Go to the quarantine", hint: "Page", icon: "quarantine", run: () => navigate("/quarantine") },
    ...(hub.info.value?.mqtt === true ? [MQTT] : []),
    ...pageActions.value,
    ...(["system", "light", "dark"] as const).map((name) => ({
      text: `Theme: ${name}`,
      hint: "Look",
      icon: name,
      run: () => {
        theme.value = name;
      },
    })),
  ];
  const devices = [...hub.fleet.records.values()].map(
    (record): Entry => ({
      key: `device ${record.device}`,
      text: record.device,
      hint: record.state.value.tags?.type ?? "Device",
      icon: null,
      device: record.device,
      run: () => navigate(devicePath(record.device)),
    }),
  );
  return [...actions.map((action) => ({ ...action, key: action.text, device: null })), ...devices];
}

export function Palette() {
  if (!paletteOpen.value) return null;
  return <OpenPalette />;
}

function OpenPalette() {
  const [words, setWords] = useState("");
  const [selected, setSelected] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const version = hub.fleet.version.value;
  const found = useMemo(
    () => searchItems(allEntries(), words, (entry) => entry.text).slice(0, SHOWN),
    [words, version],
  );
  const close = () => {
    paletteOpen.value = false;
  };
  useEffect(() => {
    const before = document.activeElement;
    input.current?.focus();
    return () => {
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  const select = (index: number) => {
    const next = Math.max(0, Math.min(found.length - 1, index));
    setSelected(next);
    list.current?.children[next]?.scrollIntoView({ block: "nearest" });
  };
  const choose = (entry: Entry | undefined) => {
    close();
    entry?.run();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown") select(selected + 1);
    else if (event.key === "ArrowUp") select(selected - 1);
    else if (event.key === "Enter") choose(found[selected]);
    else if (event.key === "Escape") close();
    else if (event.key !== "Tab") return;
    event.preventDefault();
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: a click beside the dialog is a second way to close it
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes it
    <div class="veil" onClick={(event) => event.target === event.currentTarget && close()}>
      <div class="palette" role="dialog" aria-modal="true" aria-label="Search" data-testid="palette">
        <input
          ref={input}
          role="combobox"
          aria-expanded="true"
          aria-controls="palette-list"
          aria-activedescendant={found.length > 0 ? `palette-${selected}` : undefined}
          aria-label="Search devices and actions"
          placeholder="Search devices and actions"
          value={words}
          onInput={(event) => {
            setWords(event.currentTarget.value);
            setSelected(0);
          }}
          onKeyDown={onKeyDown}
        />
        {found.length === 0 && <p class="nothing">Nothing is called “{words}”.</p>}
        <div class="list" ref={list} id="palette-list" role="listbox" aria-label="Found">
          {found.map((entry, index) => (
            // biome-ignore lint/a11y/useKeyWithClickEvents: the input has the keyboard
            <div
              class="option"
              key={entry.key}
              id={`palette-${index}`}
              role="option"
              tabIndex={-1}
              aria-selected={index === selected}
              onMouseMove={() => index !== selected && setSelected(index)}
              onClick={() => choose(entry)}
            >
              <EntryMark entry={entry} />
              <span class={`ellipsis ${entry.device === null ? "" : "mono"}`}>{entry.text}</span>
              <span class="hint">{entry.hint}</span>
            </div>
          ))}
        </div>
      </div>
    </div>
  );
}

function EntryMark({ entry }: { entry: Entry }) {
  const record = entry.device === null ? undefined : hub.fleet.records.get(entry.device);
  if (record !== undefined) return <Shape condition={conditionOf(record, hubNow())} />;
  return <Icon name={entry.icon ?? "device"} />;
}
