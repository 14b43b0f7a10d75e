/** A stretch of time: milliseconds since 1970 UTC. */
export interface Stretch {
  from: number;
  to: number;
}
