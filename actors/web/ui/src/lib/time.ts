// A time range: its ends are UTC milliseconds, or relative to now ("-6h", "now").

export interface Range {
  from: string;
  to: string;
}

export const PRESETS: { from: string; title: string }[] = [
  { from: '-15m', title: 'Last 15 minutes' },
  { from: '-1h', title: 'Last hour' },
  { from: '-3h', title: 'Last 3 hours' },
  { from: '-6h', title: 'Last 6 hours' },
  { from: '-12h', title: 'Last 12 hours' },
  { from: '-24h', title: 'Last 24 hours' },
  { from: '-2d', title: 'Last 2 days' },
  { from: '-7d', title: 'Last 7 days' },
  { from: '-14d', title: 'Last 14 days' },
  { from: '-30d', title: 'Last 30 days' },
];

const UNITS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** UTC milliseconds, or null where the text is no time. */
export function resolve(text: string, now: number): number | null {
  if (text === 'now') return now;
  const back = /^-(\d{1,6})([smhd])$/.exec(text);
  if (back) return now - Number(back[1]) * (UNITS[back[2] ?? ''] ?? 0);
  if (/^\d{1,15}$/.test(text)) return Number(text);
  const parsed = Date.parse(text);
  return Number.isNaN(parsed) ? null : parsed;
}

export function bounds(range: Range, now: number): { from: number; to: number } {
  const to = resolve(range.to, now) ?? now;
  const from = resolve(range.from, now) ?? to - 6 * 3_600_000;
  return from < to ? { from, to } : { from: to - 60_000, to };
}

/** To whole windows of what answers: minutes, or five of them for longer ranges. */
export function aligned({ from, to }: { from: number; to: number }): { from: number; to: number } {
  const unit = to - from > 3 * 3_600_000 ? 300_000 : 60_000;
  return { from: Math.floor(from / unit) * unit, to: Math.ceil(to / unit) * unit };
}

export const isRelative = (range: Range) => range.to === 'now';

export function title(range: Range): string {
  if (!isRelative(range)) return 'Custom range';
  const preset = PRESETS.find((candidate) => candidate.from === range.from);
  if (preset) return preset.title;
  const back = /^-(\d+)([smhd])$/.exec(range.from);
  return back ? `Last ${back[1]} ${back[2] === 'm' ? 'min' : back[2]}` : 'Until now';
}

/** Moved by its own width, not beyond now. */
export function shifted(range: Range, direction: -1 | 1, now: number): Range {
  const { from, to } = bounds(range, now);
  const width = to - from;
  const end = Math.min(to + direction * width, now);
  return { from: String(Math.round(end - width)), to: String(Math.round(end)) };
}

/** Twice as wide about its middle, not beyond now. */
export function zoomedOut(range: Range, now: number): Range {
  const { from, to } = bounds(range, now);
  const half = (to - from) / 2;
  if (isRelative(range)) return { from: `-${Math.round((4 * half) / 60_000)}m`, to: 'now' };
  const end = Math.min(to + half, now);
  return { from: String(Math.round(end - 4 * half)), to: String(Math.round(end)) };
}
