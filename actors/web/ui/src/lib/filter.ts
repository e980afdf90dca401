// Terms of the filter language: made by a click, taken away by a key.

import type { Cell, Dimension } from './api';

/** A value as the filter language writes it. */
export function literal(value: Cell, dimension: Dimension | undefined): string {
  if (value === null) return 'null';
  if (typeof value !== 'string') return String(value);
  if (dimension && dimension.kind !== 'text') return value;
  return `"${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

export function term(dimension: Dimension | undefined, name: string, value: Cell, exclude: boolean): string {
  return `${name} ${exclude ? '!=' : '='} ${literal(value, dimension)}`;
}

interface Piece {
  text: string;
  /** The word that joins it to the one before. */
  joint: string;
}

/** The parts of a filter between its outermost AND and OR. */
export function pieces(filter: string): Piece[] {
  const found: Piece[] = [];
  let depth = 0;
  let start = 0;
  let joint = '';
  for (let index = 0; index < filter.length; ) {
    const char = filter[index] ?? '';
    if (char === '"' || char === "'") {
      index += 1;
      while (index < filter.length && filter[index] !== char) index += filter[index] === '\\' ? 2 : 1;
      index += 1;
      continue;
    }
    if (char === '(') depth += 1;
    if (char === ')') depth -= 1;
    const word = depth === 0 ? /^(AND|OR)\b/i.exec(filter.slice(index)) : null;
    const before = index === 0 ? ' ' : (filter[index - 1] ?? ' ');
    if (word && /[\s)]/.test(before)) {
      found.push({ text: filter.slice(start, index).trim(), joint });
      joint = (word[1] ?? '').toUpperCase();
      index += word[0].length;
      start = index;
      continue;
    }
    index += 1;
  }
  const last = filter.slice(start).trim();
  if (last || found.length) found.push({ text: last, joint });
  return found.filter((piece) => piece.text);
}

export function withTerm(filter: string, added: string): string {
  const parts = pieces(filter);
  if (parts.some((part) => part.text === added && part.joint !== 'OR')) return filter;
  if (!parts.length) return added;
  return parts.some((part) => part.joint === 'OR') ? `(${filter.trim()}) AND ${added}` : `${filter.trim()} AND ${added}`;
}

export function withoutLast(filter: string): string {
  const parts = pieces(filter).slice(0, -1);
  return parts.map((part, index) => (index ? `${part.joint} ${part.text}` : part.text)).join(' ');
}

export type TokenKind = 'keyword' | 'operator' | 'text' | 'number' | 'name' | 'space' | 'comment';

/** For colours only; the server says what is right. */
export function tokens(filter: string, names: Set<string>): { text: string; kind: TokenKind }[] {
  const pattern = /(\s+)|(--.*$|\/\*[\s\S]*?(?:\*\/|$))|("(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?)|([=!<>~(),]+)|([^\s"'=!<>~(),]+)/gm;
  return [...filter.matchAll(pattern)].map((match) => {
    const text = match[0];
    if (match[1]) return { text, kind: 'space' };
    if (match[2]) return { text, kind: 'comment' };
    if (match[3]) return { text, kind: 'text' };
    if (match[4]) return { text, kind: 'operator' };
    if (/^(and|or|not|in|notin|like|unlike|ilike|iunlike|null)$/i.test(text)) return { text, kind: 'keyword' };
    if (names.has(text.toLowerCase())) return { text, kind: 'name' };
    return { text, kind: 'number' };
  });
}
