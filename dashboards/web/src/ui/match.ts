/** Finds what people mean by a few letters. */

/**
 * How well a text fits the words: every word must be in it, or its letters in order. Higher is better; null: not at all.
 */
export function fitness(text: string, words: string): number | null {
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

/** How many other letters lie between the word's letters; null when they are not all there in order. */
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

/** Those that fit, best first; all, in their own order, when nothing is asked for. */
export function match<T>(items: readonly T[], words: string, textOf: (item: T) => string): T[] {
  if (words.trim() === "") return [...items];
  return items
    .flatMap((item) => {
      const score = fitness(textOf(item), words);
      return score === null ? [] : [{ item, score }];
    })
    .sort((a, b) => b.score - a.score)
    .map(({ item }) => item);
}
