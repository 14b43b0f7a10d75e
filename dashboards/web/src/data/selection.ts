/** Selections of devices by ids and tags: their terms, and suggestions from the fleet. Pure. */

import { compareNames } from "./fleet";

/** A device as a selection sees it. */
export interface Selectable {
  device: string;
  tags: Record<string, string>;
}

/** A term of a selection, and the number of devices that it matches. */
export interface Suggestion {
  term: string;
  devices: number;
}

const MAX_SUGGESTIONS = 8;

/** Return the terms of a text. Spaces and commas separate them: in a value, `*` stands for either. */
export function termsOf(text: string): string[] {
  return [...new Set(text.split(/[\s,]+/).filter((term) => term !== ""))];
}

/** Return every tag of the devices, every beginning that ids share, and the ids, each with its number of devices. */
export function candidatesOf(devices: Iterable<Selectable>): Suggestion[] {
  const groups = new Map<string, number>();
  const ids: string[] = [];
  const add = (term: string) => groups.set(term, (groups.get(term) ?? 0) + 1);
  for (const { device, tags } of devices) {
    ids.push(device);
    for (const [key, value] of Object.entries(tags)) add(`${key}=${value}`);
    const [, beginning] = /^(.+[-_.:/])[^-_.:/]+$/.exec(device) ?? [];
    if (beginning !== undefined) add(`${beginning}*`);
  }
  return [
    ...[...groups]
      .map(([term, amount]) => ({ term, devices: amount }))
      .filter(({ term, devices }) => devices > 1 || term.includes("="))
      .sort((a, b) => b.devices - a.devices || compareNames(a.term, b.term)),
    ...ids.sort(compareNames).map((term) => ({ term, devices: 1 })),
  ];
}

/** Return the candidates that contain a text and are not chosen yet. Without a text, only those of several devices. */
export function suggestionsOf(candidates: Suggestion[], text: string, chosen: string[]): Suggestion[] {
  const words = text.trim().toLowerCase().replace(/\*+$/, "");
  const found: Suggestion[] = [];
  for (const candidate of candidates) {
    const isWanted = words === "" ? candidate.devices > 1 : candidate.term.toLowerCase().includes(words);
    if (isWanted && candidate.term !== text.trim() && !chosen.includes(candidate.term)) found.push(candidate);
    if (found.length === MAX_SUGGESTIONS) break;
  }
  return found;
}

/**
 * Return the selection of exactly the devices that the fleet shows for these words: a tag, or a part of the ids. It is
 * empty if there is none.
 */
export function selectionOf(words: string, shown: Selectable[], all: Selectable[]): string[] {
  const [word, ...others] = termsOf(words);
  if (word === undefined || others.length > 0 || shown.length === 0) return [];
  const wanted = new Set(shown.map(({ device }) => device));
  const isExact = (isSelected: (device: Selectable) => boolean) =>
    all.every((device) => isSelected(device) === wanted.has(device.device));
  const tags = Object.entries(shown[0].tags).filter(([, value]) => value.toLowerCase().includes(word.toLowerCase()));
  const tag = tags.find(([key, value]) => isExact((device) => device.tags[key] === value));
  if (tag !== undefined) return [tag.join("=")];
  return isExact(({ device }) => device.includes(word)) ? [`*${word}*`] : [];
}
