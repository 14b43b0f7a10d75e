/** A command to copy, and the button that does it. */

import { useState } from "preact/hooks";
import { Icon } from "./icon";

const SAID_FOR_MS = 1600;

export function Command({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await copyText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), SAID_FOR_MS);
  };
  return (
    <div class="command">
      <code data-testid="command">
        {text.split("\n").map((line) => (
          <div key={line}>{wordsOf(line)}</div>
        ))}
      </code>
      <button
        type="button"
        class="button"
        onClick={() => void copy()}
        aria-label={copied ? "Copied" : "Copy the command"}
      >
        <Icon name={copied ? "done" : "copy"} />
        {copied ? "Copied" : "Copy"}
      </button>
    </div>
  );
}

/** Without TLS browsers keep the clipboard from pages other than those of this machine: then by selection. */
async function copyText(text: string): Promise<void> {
  if (navigator.clipboard !== undefined) {
    try {
      await navigator.clipboard.writeText(text);
      return;
    } catch {
      // Refused: the way below still works.
    }
  }
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** Words that lines are broken between, and nowhere else. A key is where the word begins: words may come twice. */
function wordsOf(line: string) {
  let begin = 0;
  return line.split(" ").map((word) => {
    const key = begin;
    begin += word.length + 1;
    return [key > 0 && " ", <span key={key}>{word}</span>];
  });
}
