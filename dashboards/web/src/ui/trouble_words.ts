/** What is said of the parts of a hub that cannot do their work. */

export interface Trouble {
  part: string;
  title: string;
  /** The hub's own sentence, which says what to do. */
  detail: string;
  /** What it means for the data. */
  meaning: string;
}

const WORDS: Record<string, { title: string; meaning: string }> = {
  journal: {
    title: "No data are taken in.",
    meaning: "Devices keep their readings and send them when it is put right.",
  },
  store: {
    title: "Nothing is stored.",
    meaning: "Readings are taken in all the same: they wait in the journal and are shown live.",
  },
};

/** What is wrong, the worst first; nothing while all is well. */
export function troublesOf(problems: Record<string, string>): Trouble[] {
  return Object.keys(problems)
    .sort()
    .map((part) => ({
      part,
      detail: sentence(problems[part]),
      ...(WORDS[part] ?? { title: "The hub cannot do all of its work.", meaning: "" }),
    }));
}

function sentence(text: string): string {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
