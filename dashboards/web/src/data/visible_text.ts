/** Texts from devices, without the power to hide or reorder the text around them. */

/** Control characters except tab and line feed, line separators, and marks that change the direction of text. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to find
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Return the text with each hidden character as an escape, such as \u202e. */
export function visible(text: string): string {
  // Most texts have none: the search costs less than a replacement.
  return text.search(HIDDEN) < 0 ? text : text.replace(HIDDEN, escapeOf);
}

function escapeOf(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
