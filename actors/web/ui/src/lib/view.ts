// What the Explore page shows. Its address says all of it, so that a link shows the same to a colleague.

import type { Measure } from './format';
import type { Range } from './time';

export type Chart = 'sankey' | 'stacked' | 'percent' | 'lines';

export interface View {
  range: Range;
  by: string[];
  filter: string;
  measure: Measure;
  top: number;
  chart: Chart;
  /** Of a Sankey: the dimension that the table lists. */
  focus: string;
}

export const CHARTS: { name: Chart; title: string }[] = [
  { name: 'sankey', title: 'Sankey' },
  { name: 'stacked', title: 'Stacked' },
  { name: 'percent', title: '100 %' },
  { name: 'lines', title: 'Lines' },
];
export const MEASURES: { name: Measure; title: string }[] = [
  { name: 'bps', title: 'bit/s' },
  { name: 'pps', title: 'pps' },
  { name: 'fps', title: 'flows/s' },
];
export const TOPS = [5, 8, 10, 15, 20];
export const DIMENSIONS_MAX = 6;
const DEFAULT: View = {
  range: { from: '-6h', to: 'now' },
  by: ['service', 'src_as', 'handover_as', 'ingress_router', 'egress_router'],
  filter: '',
  measure: 'bps',
  top: 8,
  chart: 'sankey',
  focus: '',
};

export function read(search: string): View {
  const params = new URLSearchParams(search);
  const by = (params.get('by') ?? DEFAULT.by.join(','))
    .split(',')
    .filter((name, index, all) => /^[a-z0-9_]+$/.test(name) && name !== 'time' && all.indexOf(name) === index)
    .slice(0, DIMENSIONS_MAX);
  const chart = params.get('chart');
  const measure = params.get('measure');
  const top = Number(params.get('top') ?? DEFAULT.top);
  const focus = params.get('focus') ?? '';
  return {
    range: { from: params.get('from') ?? DEFAULT.range.from, to: params.get('to') ?? DEFAULT.range.to },
    by,
    filter: params.get('filter') ?? '',
    measure: MEASURES.find((known) => known.name === measure)?.name ?? DEFAULT.measure,
    top: Number.isInteger(top) && top >= 1 && top <= 20 ? top : DEFAULT.top,
    chart: CHARTS.find((known) => known.name === chart)?.name ?? DEFAULT.chart,
    focus: by.includes(focus) ? focus : (by[0] ?? ''),
  };
}

export function write(view: View): string {
  const params = new URLSearchParams();
  params.set('from', view.range.from);
  params.set('to', view.range.to);
  params.set('by', view.by.join(','));
  if (view.filter) params.set('filter', view.filter);
  if (view.measure !== DEFAULT.measure) params.set('measure', view.measure);
  if (view.top !== DEFAULT.top) params.set('top', String(view.top));
  params.set('chart', view.chart);
  if (view.chart === 'sankey' && view.focus && view.focus !== view.by[0]) params.set('focus', view.focus);
  return params.toString().replaceAll('%2C', ',');
}

/** Times of a link are fixed: a colleague who opens it tomorrow sees the same. */
export function fixed(view: View, from: number, to: number): View {
  return { ...view, range: { from: String(from), to: String(to) } };
}
