/** Asks before something is done to many, or for good. */

import { useEffect, useRef } from "preact/hooks";

export interface Question {
  text: string;
  hint: string;
  action: string;
  yes: () => void;
}

export function Confirmation({ question, close }: { question: Question; close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog class="confirmation" ref={dialog} aria-labelledby="confirmation-text" onClose={close}>
      <form method="dialog">
        <h2 id="confirmation-text">{question.text}</h2>
        <p>{question.hint}</p>
        <div class="confirmation-actions">
          <button type="submit" class="button">
            Cancel
          </button>
          <button type="submit" class="button primary" data-testid="confirm" onClick={question.yes}>
            {question.action}
          </button>
        </div>
      </form>
    </dialog>
  );
}
