// An answer with time, as series: gaps are gaps, zeros are zeros, and a bucket
// that is not over yet is divided by the time that it covers.

import type { Answer, Cell, Sums } from './api';
import type { Measure } from './format';
import { keyOf } from './names.ts';

export interface Series {
  key: string;
  values: Cell[];
  other: boolean;
  /** Rate by bucket; null is no data. */
  points: (number | null)[];
  min: number;
  average: number;
  max: number;
  p95: number;
  last: number | null;
  /** Octets, packets or flows. */
  total: number;
  share: number;
}

export interface Table {
  /** Starts of the buckets, UTC ms. */
  times: number[];
  width: number;
  series: Series[];
  /** Everything, by bucket. */
  sum: Series;
  /** Where data ends: later buckets are not in yet. */
  end: number;
  gaps: { from: number; to: number }[];
  /** Milliseconds of the range that have data. */
  covered: number;
}

const FIELD: Record<Measure, keyof Sums> = { bps: 'octets', pps: 'packets', fps: 'flows' };
const FACTOR: Record<Measure, number> = { bps: 8, pps: 1, fps: 1 };

export const fieldOf = (measure: Measure) => FIELD[measure];

/** Rate of a sum over milliseconds. */
export function rateOf(sum: number, ms: number, measure: Measure): number {
  return ms > 0 ? (sum * FACTOR[measure] * 1000) / ms : 0;
}

export function table(answer: Answer, measure: Measure, presence: Answer | null): Table {
  const field = FIELD[measure];
  const width = answer.resolution_ms || 300_000;
  const timeAt = answer.columns.indexOf('time');
  const sumAt = answer.columns.indexOf(field);
  const keysAt = answer.columns.map((_, index) => index).filter((index) => index !== timeAt && index < answer.columns.length - 3);
  const firstTime = answer.rows.length ? Date.parse(String(answer.rows[0]?.[timeAt])) : (answer.other_series?.[0]?.[0] ?? 0);
  const phase = ((firstTime % width) + width) % width;
  // What was answered may be wider than what was asked: whole windows of a rollup.
  const { from_ms: from, to_ms: to } = answer;
  const start = Math.floor((from - phase) / width) * width + phase;
  const end = Math.min(to, answer.newest_ms ?? to);
  const times: number[] = [];
  for (let time = start; time < end; time += width) times.push(time);
  const index = new Map(times.map((time, at) => [time, at]));
  const seconds = times.map((time) => Math.max(0, Math.min(time + width, end) - Math.max(time, from)) / 1000);

  const found = new Map<string, { values: Cell[]; sums: Map<number, number> }>();
  const live = new Set<number>();
  const add = (key: string, values: Cell[], time: number, sum: number) => {
    const at = index.get(time);
    if (at === undefined) return;
    live.add(at);
    let one = found.get(key);
    if (!one) {
      one = { values, sums: new Map() };
      found.set(key, one);
    }
    one.sums.set(at, (one.sums.get(at) ?? 0) + sum);
  };
  for (const row of answer.rows) {
    const values = keysAt.map((at) => row[at] ?? null);
    add(keyOf(values), values, Date.parse(String(row[timeAt])), Number(row[sumAt]));
  }
  const OTHER = '\u0000other';
  for (const [time, sums] of answer.other_series ?? []) if (sums[field] > 0) add(OTHER, [], time, sums[field]);

  const presenceAt = presence?.columns.indexOf('time') ?? -1;
  for (const row of presence?.rows ?? []) {
    const moment = Date.parse(String(row[presenceAt]));
    const at = index.get(Math.floor((moment - phase) / width) * width + phase);
    if (at !== undefined) live.add(at);
  }

  // A sliver of a bucket at either end says little: it is left out of the chart.
  const usable = seconds.map((length) => length * 1000 >= width * 0.3);
  const shown = times.map((_, at) => at).filter((at) => usable[at]);
  const all = new Map<number, number>();
  for (const { sums } of found.values()) for (const [at, sum] of sums) all.set(at, (all.get(at) ?? 0) + sum);
  const grand = answer.totals[field];
  const coveredSeconds = [...live].reduce((sum, at) => sum + (seconds[at] ?? 0), 0);

  const series = (key: string, values: Cell[], sums: Map<number, number>): Series => {
    const points = shown.map((at) => {
      if (!live.has(at)) return null;
      const length = seconds[at] ?? 0;
      return length > 0 ? ((sums.get(at) ?? 0) * FACTOR[measure]) / length : null;
    });
    const present = points.filter((point): point is number => point !== null);
    const sorted = [...present].sort((a, b) => a - b);
    const total = [...sums.values()].reduce((sum, one) => sum + one, 0);
    return {
      key,
      values,
      other: key === OTHER,
      points,
      min: sorted[0] ?? 0,
      average: coveredSeconds > 0 ? (total * FACTOR[measure]) / coveredSeconds : 0,
      max: sorted.at(-1) ?? 0,
      p95: sorted[Math.max(0, Math.ceil(sorted.length * 0.95) - 1)] ?? 0,
      last: present.at(-1) ?? null,
      total,
      share: grand > 0 ? total / grand : 0,
    };
  };

  const list = [...found].map(([key, { values, sums }]) => series(key, values, sums));
  list.sort((a, b) => Number(a.other) - Number(b.other) || b.total - a.total);
  const gaps: { from: number; to: number }[] = [];
  for (const at of shown) {
    if (live.has(at)) continue;
    const from = times[at] ?? 0;
    const last = gaps.at(-1);
    if (last && last.to === from) last.to = from + width;
    else gaps.push({ from, to: from + width });
  }
  return { times: shown.map((at) => times[at] ?? 0), width, series: list, sum: series('\u0000sum', [], all), end, gaps, covered: coveredSeconds * 1000 };
}
