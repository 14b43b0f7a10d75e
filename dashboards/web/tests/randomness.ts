/** Pseudo-random numbers from a seed, for tests of laws: a failure can be repeated. */

export class Randomness {
  private state: number;

  constructor(seed: number) {
    this.state = seed;
  }

  /** Return a number from 0 to 1, 1 not included (mulberry32). */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** Return a whole number from 0 to `bound`, which is not included. */
  below(bound: number): number {
    return Math.floor(this.next() * bound);
  }

  choice<T>(items: readonly T[]): T {
    return items[this.below(items.length)];
  }
}
