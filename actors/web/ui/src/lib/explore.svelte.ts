// The Explore page's questions and their answers.

import * as api from './api';
import type { Answer, Dimension } from './api';
import { app, go } from './app.svelte';
import { term, withTerm } from './filter';
import { fieldOf, rateOf, table } from './series';
import * as time from './time';
import { type View, read, write } from './view';

/** Combinations that a Sankey is made of; the rest is "other". */
const PATHS_MAX = 2000;

export class Explore {
  view: View = $derived(read(app.search));
  dimensions = $derived(new Map<string, Dimension>(app.dimensions.map((dimension) => [dimension.name, dimension])));
  /** What the answers below answer. */
  shown: { view: View; from: number; to: number } | null = $state.raw(null);
  paths: Answer | null = $state.raw(null);
  series: Answer | null = $state.raw(null);
  previous: Answer | null = $state.raw(null);
  /** Everything by time, where a filter may leave times empty that are no gaps. */
  presence: Answer | null = $state.raw(null);
  loading = $state(false);
  error: { message: string; at?: number } | null = $state.raw(null);
  live = $state(true);
  /** Key of what the pointer is on, in chart or table. */
  hovered: string | null = $state(null);
  #abort: AbortController | null = null;

  change(part: Partial<View>, replace = false) {
    go(`/explore?${write({ ...this.view, ...part })}`, replace);
  }

  filterBy(name: string, value: api.Cell, exclude: boolean) {
    const added = term(this.dimensions.get(name), name, value, exclude);
    this.change({ filter: withTerm(this.view.filter, added) });
  }

  filterByAll(names: string[], values: api.Cell[], exclude: boolean) {
    if (names.length === 1) return this.filterBy(names[0] ?? '', values[0] ?? null, exclude);
    const terms = names.map((name, index) => term(this.dimensions.get(name), name, values[index] ?? null, false));
    const filter = exclude
      ? withTerm(this.view.filter, `NOT (${terms.join(' AND ')})`)
      : terms.reduce(withTerm, this.view.filter);
    this.change({ filter });
  }

  stop() {
    this.#abort?.abort();
    this.#abort = null;
    this.loading = false;
  }

  async run() {
    this.stop();
    const abort = new AbortController();
    this.#abort = abort;
    const view = this.view;
    const now = Date.now() + app.skew;
    const { from, to } = time.aligned(time.bounds(view.range, now));
    const order = fieldOf(view.measure);
    const base = { from_ms: from, to_ms: to, filter: view.filter, order };
    this.loading = true;
    this.error = null;
    const sankey = view.chart === 'sankey' && view.by.length >= 2;
    const keys = sankey ? [view.focus] : view.by;
    const wide = to - from;
    try {
      const [paths, series, previous, presence] = await Promise.all([
        sankey ? api.query({ ...base, by: view.by, limit: PATHS_MAX }, abort.signal) : null,
        api.query({ ...base, by: ['time', ...keys], limit: view.top }, abort.signal),
        api
          .query({ ...base, from_ms: base.from_ms - wide, to_ms: base.from_ms, by: ['time'], limit: 1 }, abort.signal)
          .catch(() => null),
        view.filter ? api.query({ ...base, filter: '', by: ['time'], limit: 1 }, abort.signal).catch(() => null) : null,
      ]);
      if (abort.signal.aborted) return;
      this.shown = { view, from: base.from_ms, to: base.to_ms };
      this.paths = paths;
      this.series = series;
      this.previous = previous;
      this.presence = presence;
      if (series.newest_ms !== null) app.newest = Math.max(app.newest ?? 0, series.newest_ms);
    } catch (error) {
      if (abort.signal.aborted) return;
      const at = error instanceof api.ApiError ? error.at : undefined;
      this.error = { message: error instanceof Error ? error.message : String(error), at };
    } finally {
      if (this.#abort === abort) {
        this.#abort = null;
        this.loading = false;
      }
    }
  }

  /** The series behind chart and table. */
  data = $derived(
    this.shown && this.series ? table(this.series, this.shown.view.measure, this.presence) : null,
  );

  /** Mean rates of this period and the one before, each over the time that has data. */
  summary = $derived.by(() => {
    if (!this.shown || !this.series || !this.data) return null;
    const { view } = this.shown;
    const field = fieldOf(view.measure);
    const now = rateOf(this.series.totals[field], this.data.covered, view.measure);
    if (!this.previous) return { now, before: 0 };
    const earlier = table(this.previous, view.measure, null);
    return { now, before: rateOf(this.previous.totals[field], earlier.covered, view.measure) };
  });
}
