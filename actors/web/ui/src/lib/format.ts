// Numbers and times as people read them: SI prefixes, never a bare value.

export type Measure = 'bps' | 'pps' | 'fps';

export const UNITS: Record<Measure, string> = { bps: 'bit/s', pps: 'packets/s', fps: 'flows/s' };
const PREFIXES = ['', 'k', 'M', 'G', 'T', 'P', 'E'];

/** Three significant digits and an SI prefix: [1.24, "T"]. */
export function scaled(value: number): [string, string] {
  if (!Number.isFinite(value)) return ['–', ''];
  let magnitude = Math.abs(value);
  let index = 0;
  while (magnitude >= 999.5 && index < PREFIXES.length - 1) {
    magnitude /= 1000;
    index += 1;
  }
  const digits = magnitude >= 99.95 || magnitude === 0 ? 0 : magnitude >= 9.995 ? 1 : 2;
  const text = magnitude.toFixed(index === 0 && Number.isInteger(magnitude) ? 0 : digits);
  return [(value < 0 ? '-' : '') + text, PREFIXES[index] ?? ''];
}

export function withUnit(value: number, unit: string): string {
  const [number, prefix] = scaled(value);
  return `${number} ${prefix}${unit}`;
}

export const rate = (value: number, measure: Measure) => withUnit(value, UNITS[measure]);
export const octets = (value: number) => withUnit(value, 'B');

export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US').replaceAll(',', '\u202f');
}

export function percent(fraction: number): string {
  if (!Number.isFinite(fraction)) return '–';
  const value = fraction * 100;
  if (value !== 0 && Math.abs(value) < 0.1) return '< 0.1 %';
  return `${value.toFixed(Math.abs(value) >= 99.95 ? 0 : 1)} %`;
}

/** Against an earlier value: "+7.6 %". */
export function change(now: number, before: number): string {
  const part = now / before - 1;
  if (Math.abs(part) < 0.0005) return 'the same';
  return `${part > 0 ? '+' : '−'}${Math.abs(part) >= 10 ? `${Math.round(Math.abs(part))} times` : percent(Math.abs(part))}`;
}

export function duration(ms: number, coarse = false): string {
  const units: [string, number][] = [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['min', 60_000],
    ['s', 1000],
  ];
  for (const [index, [unit, size]] of units.entries()) {
    if (ms < size && unit !== 's') continue;
    const whole = Math.floor(ms / size);
    const next = units[index + 1];
    const rest = next && whole < 10 && !coarse ? Math.floor((ms - whole * size) / next[1]) : 0;
    return rest && next ? `${whole} ${unit} ${rest} ${next[0]}` : `${whole} ${unit}`;
  }
  return '0 s';
}

/** Short name of the browser's zone at a moment: "CET", "GMT+2", "UTC". */
export function zone(ms: number): string {
  const parts = new Intl.DateTimeFormat('en-GB', { timeZoneName: 'short' }).formatToParts(ms);
  return parts.find((part) => part.type === 'timeZoneName')?.value ?? 'UTC';
}

const pad = (value: number) => String(value).padStart(2, '0');

export function clock(ms: number, seconds = false): string {
  const date = new Date(ms);
  return `${pad(date.getHours())}:${pad(date.getMinutes())}${seconds ? `:${pad(date.getSeconds())}` : ''}`;
}

export function day(ms: number): string {
  const date = new Date(ms);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

export const moment = (ms: number) => `${day(ms)} ${clock(ms)}`;

/** "11:40 – 17:40", with days where they matter. */
export function span(from: number, to: number): string {
  const today = day(Date.now());
  if (day(from) === day(to)) return day(from) === today ? `${clock(from)} – ${clock(to)}` : `${moment(from)} – ${clock(to)}`;
  return `${moment(from).slice(5)} – ${moment(to).slice(5)}`;
}
