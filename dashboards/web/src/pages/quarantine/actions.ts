import type { Filter } from "../../data/quarantine";

/** What an operator can have done; others get none of it. */
export interface Actions {
  retryOne: (offset: number) => void;
  deleteOne: (offset: number) => void;
  retryAll: (filter: Filter, count: number) => void;
  deleteAll: (filter: Filter, count: number) => void;
}
