/** The bounds of the live protocol: the counterpart of wire/limits.py, where each has its reason. */

export const MAX_METRIC_NAME = 128;
export const MAX_TOKEN = 256;
export const MAX_SEQ = 2 ** 53 - 1;
export const MAX_TIME_NS = 2 ** 63;
export const MAX_SELECTORS = 1024;
export const MAX_HISTORY_POINTS = 4000;
export const MAX_HISTORY_SPAN_MS = 10 * 366 * 86_400_000;
export const MIN_PERIOD_MS = 20;
export const MAX_PERIOD_MS = 60_000;
