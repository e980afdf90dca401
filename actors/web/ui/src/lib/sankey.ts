// Layout of a Sankey diagram: columns of nodes by volume, "other" last, links
// tinted by their source. Each node and link knows the rows that it is made of,
// so that a hover can show whole paths.

import type { Cell } from './api';

export interface Row {
  values: Cell[];
  amount: number;
}

export interface Node {
  index: number;
  column: number;
  key: string;
  value: Cell;
  other: boolean;
  amount: number;
  rows: number[];
  x: number;
  y: number;
  height: number;
  /** Its label has room. */
  labelled: boolean;
}

export interface Link {
  index: number;
  source: Node;
  target: Node;
  amount: number;
  rows: number[];
  x0: number;
  x1: number;
  /** Middles of its ends. */
  y0: number;
  y1: number;
  width: number;
}

export interface Layout {
  nodes: Node[];
  links: Link[];
  columns: number[];
  total: number;
  amounts: number[];
}

export interface Box {
  width: number;
  height: number;
  top: number;
  bottom: number;
  left: number;
  right: number;
}

export const NODE_WIDTH = 9;
const LABEL_HEIGHT = 14;
const OTHER_KEY = '\u0000other';


export function layout(rows: Row[], rest: number, depth: number, top: number, box: Box): Layout {
  const all: Row[] = rest > 0 ? [...rows, { values: Array.from({ length: depth }, () => null), amount: rest }] : rows;
  const restIndex = rest > 0 ? rows.length : -1;
  const total = all.reduce((sum, row) => sum + row.amount, 0);
  const nodes: Node[] = [];
  const byColumn: Node[][] = [];
  const paths: Node[][] = all.map(() => []);

  for (let column = 0; column < depth; column += 1) {
    const sums = new Map<string, { value: Cell; amount: number }>();
    all.forEach((row, index) => {
      if (index === restIndex) return;
      const value = row.values[column] ?? null;
      const key = JSON.stringify(value);
      const sum = sums.get(key);
      if (sum) sum.amount += row.amount;
      else sums.set(key, { value, amount: row.amount });
    });
    const sorted = [...sums].sort((a, b) => b[1].amount - a[1].amount);
    // One that would be "other" alone stays itself.
    const kept = sorted.slice(0, sorted.length === top + 1 && restIndex < 0 ? top + 1 : top);
    const own: Node[] = kept.map(([key, { value }]) => node(column, key, value, false));
    const known = new Map(own.map((one) => [one.key, one]));
    let other: Node | undefined;
    all.forEach((row, index) => {
      const key = JSON.stringify(row.values[column] ?? null);
      let target = index === restIndex ? undefined : known.get(key);
      if (!target) {
        other ??= node(column, OTHER_KEY, null, true);
        target = other;
      }
      target.amount += row.amount;
      target.rows.push(index);
      paths[index]?.push(target);
    });
    if (other) own.push(other);
    byColumn.push(own);
    for (const one of own) {
      one.index = nodes.length;
      nodes.push(one);
    }
  }

  const deepest = Math.max(1, ...byColumn.map((own) => own.length));
  const room = Math.max(1, box.height - box.top - box.bottom);
  const gap = deepest > 1 ? Math.min(10, (room * 0.25) / (deepest - 1)) : 0;
  const scale = total > 0 ? (room - gap * (deepest - 1)) / total : 0;
  const step = depth > 1 ? (box.width - box.left - box.right - NODE_WIDTH) / (depth - 1) : 0;
  const columns = byColumn.map((_, column) => box.left + column * step);
  byColumn.forEach((own, column) => {
    const height = own.reduce((sum, one) => sum + one.amount * scale, 0) + gap * (own.length - 1);
    let y = box.top + (room - height) / 2;
    let free = Number.NEGATIVE_INFINITY;
    for (const one of own) {
      one.x = columns[column] ?? 0;
      one.y = y;
      one.height = one.amount * scale;
      y += one.height + gap;
      const middle = one.y + one.height / 2;
      one.labelled = middle - LABEL_HEIGHT / 2 >= free;
      if (one.labelled) free = middle + LABEL_HEIGHT / 2;
    }
  });

  const links: Link[] = [];
  for (let column = 0; column + 1 < depth; column += 1) {
    const found = new Map<string, Link>();
    all.forEach((row, index) => {
      const source = paths[index]?.[column];
      const target = paths[index]?.[column + 1];
      if (!source || !target) return;
      const key = `${source.index}-${target.index}`;
      let link = found.get(key);
      if (!link) {
        link = { index: 0, source, target, amount: 0, rows: [], x0: 0, x1: 0, y0: 0, y1: 0, width: 0 };
        found.set(key, link);
      }
      link.amount += row.amount;
      link.rows.push(index);
    });
    const own = [...found.values()];
    const offsets = (ends: 'source' | 'target', far: 'source' | 'target', set: (link: Link, y: number) => void) => {
      const filled = new Map<Node, number>();
      for (const link of [...own].sort((a, b) => a[far].index - b[far].index)) {
        const used = filled.get(link[ends]) ?? 0;
        const width = link.amount * scale;
        set(link, link[ends].y + used + width / 2);
        filled.set(link[ends], used + width);
      }
    };
    offsets('source', 'target', (link, y) => {
      link.y0 = y;
    });
    offsets('target', 'source', (link, y) => {
      link.y1 = y;
    });
    for (const link of own) {
      link.width = link.amount * scale;
      link.x0 = link.source.x + NODE_WIDTH;
      link.x1 = link.target.x;
      link.index = links.length;
      links.push(link);
    }
  }
  // Thin ones above thick ones: they stay visible and can be hit.
  links.sort((a, b) => b.width - a.width);
  return { nodes, links, columns, total, amounts: all.map((row) => row.amount) };
}

function node(column: number, key: string, value: Cell, other: boolean): Node {
  return { index: 0, column, key, value, other, amount: 0, rows: [], x: 0, y: 0, height: 0, labelled: true };
}

/** The part of a link that the marked rows are. */
export function part(link: { rows: number[]; amount: number }, marked: Set<number>, amounts: number[]): number {
  if (link.amount <= 0) return 0;
  const sum = link.rows.reduce((total, row) => (marked.has(row) ? total + (amounts[row] ?? 0) : total), 0);
  return Math.min(1, sum / link.amount);
}

/** A band of even width along a horizontal S. */
export function ribbon(link: Link, share = 1): string {
  const half = (link.width * share) / 2;
  // A part lies at the upper edge of the whole.
  const shift = -link.width / 2 + half;
  const { x0, x1 } = link;
  const [y0, y1] = [link.y0 + shift, link.y1 + shift];
  const middle = (x0 + x1) / 2;
  const n = (value: number) => value.toFixed(1);
  const h = Math.max(half, 0.4);
  return (
    `M${n(x0)},${n(y0 - h)}C${n(middle)},${n(y0 - h)} ${n(middle)},${n(y1 - h)} ${n(x1)},${n(y1 - h)}` +
    `L${n(x1)},${n(y1 + h)}C${n(middle)},${n(y1 + h)} ${n(middle)},${n(y0 + h)} ${n(x0)},${n(y0 + h)}Z`
  );
}
