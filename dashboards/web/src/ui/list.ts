/** Search and windowing of long lists. */

/**
 * Score how well a text matches: every word must be contained, or its letters in order. Higher is better; null
 * means no match.
 */
export function matchScore(text: string, words: string): number | null {
  const lower = text.toLowerCase();
  let score = 0;
  for (const word of words.toLowerCase().split(/\s+/)) {
    if (word === "") continue;
    const at = lower.indexOf(word);
    if (at === 0) score += 100;
    else if (at > 0) score += /[a-z0-9]/.test(lower[at - 1]) ? 40 : 70;
    else {
      const spread = lettersInOrder(lower, word);
      if (spread === null) return null;
      score += Math.max(1, 20 - spread);
    }
  }
  return score - text.length / 100;
}

/** Return the number of other letters between the letters of a word; null if they are not contained in order. */
function lettersInOrder(text: string, word: string): number | null {
  let at = -1;
  let first = -1;
  for (const letter of word) {
    at = text.indexOf(letter, at + 1);
    if (at < 0) return null;
    if (first < 0) first = at;
  }
  return at - first + 1 - word.length;
}

/** Return the matching items, best first. Without words, return all items in their order. */
export function searchItems<T>(items: readonly T[], words: string, textOf: (item: T) => string): T[] {
  if (words.trim() === "") return [...items];
  return items
    .flatMap((item) => {
      const score = matchScore(textOf(item), words);
      return score === null ? [] : [{ item, score }];
    })
    .sort((a, b) => b.score - a.score)
    .map(({ item }) => item);
}

/** Extra rows beyond each edge, so that scrolling shows no empty space. */
const OVERSCAN = 6;

/** Return the rows of a long list that exist in the page, from `first` to before `end`, and the height of the list. */
export function virtualWindow(
  count: number,
  rowHeight: number,
  scrollTop: number,
  viewHeight: number,
  overscan = OVERSCAN,
) {
  const first = Math.min(count, Math.max(0, Math.floor(scrollTop / rowHeight) - overscan));
  const end = Math.max(first, Math.min(count, Math.ceil((scrollTop + viewHeight) / rowHeight) + overscan));
  return { first, end, height: count * rowHeight };
}
