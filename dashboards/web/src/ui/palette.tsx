/** Command palette: finds devices and actions by a few letters. */

import { signal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { conditionOf, type DeviceRecord } from "../data/fleet";
import { hub } from "../data/hub";
import { withBase } from "../wire/base_path";
import { Icon, type IconName, Shape } from "./icon";
import { searchItems } from "./list";
import { THEMES, theme } from "./preferences";
import { devicePath, navigate, newJobPath, shownPages } from "./route";

const MAX_RESULTS = 40;

export const paletteOpen = signal(false);

export function openPalette(): void {
  paletteOpen.value = true;
}

function closePalette(): void {
  paletteOpen.value = false;
}

interface PaletteEntry {
  /** Unique: a device id contains no space, and the text of an action does. */
  text: string;
  hint: string;
  /** A device has the shape of its condition instead. */
  icon?: IconName;
  record?: DeviceRecord;
  run(): void;
}

/** Additional actions of the current page. */
export const pageActions = signal<PaletteEntry[]>([]);

function allEntries(): PaletteEntry[] {
  return [
    ...shownPages().map(({ title, icon, path }) => ({
      text: `Go to ${title}`,
      hint: "Page",
      icon,
      run: () => navigate(withBase(path)),
    })),
    ...pageActions.value,
    ...(hub.canOperate
      ? [
          {
            text: "Send a command to many devices",
            hint: "Action",
            icon: "send" as const,
            run: () => navigate(newJobPath([])),
          },
        ]
      : []),
    ...THEMES.map((name) => ({
      text: `Theme: ${name}`,
      hint: "Appearance",
      icon: name,
      run: () => {
        theme.value = name;
      },
    })),
    ...[...hub.fleet.records.values()].map((record) => ({
      text: record.device,
      hint: record.state.value.tags?.type ?? "Device",
      record,
      run: () => navigate(devicePath(record.device)),
    })),
  ];
}

export function Palette() {
  return paletteOpen.value ? <OpenPalette /> : null;
}

function OpenPalette() {
  const [words, setWords] = useState("");
  const [selected, setSelected] = useState(0);
  const list = useRef<HTMLDivElement>(null);
  const version = hub.fleet.version.value;
  const results = useMemo(
    () => searchItems(allEntries(), words, (entry) => entry.text).slice(0, MAX_RESULTS),
    [words, version],
  );
  const choose = (entry: PaletteEntry | undefined) => {
    closePalette();
    entry?.run();
  };
  const select = (index: number) => {
    const next = Math.max(0, Math.min(results.length - 1, index));
    setSelected(next);
    list.current?.children[next]?.scrollIntoView({ block: "nearest" });
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown") select(selected + 1);
    else if (event.key === "ArrowUp") select(selected - 1);
    else if (event.key === "Enter") choose(results[selected]);
    else if (event.key === "Escape") closePalette();
    else if (event.key !== "Tab") return;
    event.preventDefault();
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: a click beside the dialog is a second way to close it
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes it
    <div class="overlay" onClick={(event) => event.target === event.currentTarget && closePalette()}>
      <div class="palette" role="dialog" aria-modal="true" aria-label="Search" data-testid="palette">
        <SearchInput
          words={words}
          selected={results.length > 0 ? selected : null}
          onInput={(value) => {
            setWords(value);
            setSelected(0);
          }}
          onKeyDown={onKeyDown}
        />
        {results.length === 0 && <p class="nothing note">No results for “{words}”.</p>}
        <div class="list" ref={list} id="palette-list" role="listbox" aria-label="Results">
          {results.map((entry, index) => (
            <Option
              key={entry.text}
              entry={entry}
              index={index}
              selected={index === selected}
              select={() => setSelected(index)}
              choose={() => choose(entry)}
            />
          ))}
        </div>
      </div>
    </div>
  );
}

interface InputProps {
  words: string;
  /** Index of the selected result; null without results. */
  selected: number | null;
  onInput: (words: string) => void;
  onKeyDown: (event: KeyboardEvent) => void;
}

/** The input has the focus while the palette is open. Afterwards the focus returns to the previous element. */
function SearchInput({ words, selected, onInput, onKeyDown }: InputProps) {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    input.current?.focus();
    return () => {
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <input
      ref={input}
      role="combobox"
      aria-expanded="true"
      aria-controls="palette-list"
      aria-activedescendant={selected === null ? undefined : `palette-${selected}`}
      aria-label="Search devices and actions"
      placeholder="Search devices and actions"
      value={words}
      onInput={(event) => onInput(event.currentTarget.value)}
      onKeyDown={onKeyDown}
    />
  );
}

interface OptionProps {
  entry: PaletteEntry;
  index: number;
  selected: boolean;
  select: () => void;
  choose: () => void;
}

function Option({ entry, index, selected, select, choose }: OptionProps) {
  const { text, hint, icon, record } = entry;
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the input has the keyboard
    <div
      class="option row"
      id={`palette-${index}`}
      role="option"
      tabIndex={-1}
      aria-selected={selected}
      onMouseMove={() => !selected && select()}
      onClick={choose}
    >
      {record !== undefined && <Shape condition={conditionOf(record)} />}
      {icon !== undefined && <Icon name={icon} />}
      <span class={`ellipsis ${record === undefined ? "" : "mono"}`}>{text}</span>
      <span class="hint">{hint}</span>
    </div>
  );
}
