// One thing has one colour everywhere: by a hash of its name.

const HUES = ['#5b9dff', '#f0a34a', '#3fb68b', '#e2667d', '#a98bf5', '#8fbf4d', '#e5c54b', '#4fc1d9', '#d68ac8', '#b98a62', '#7f93f0'];
export const OTHER = '#8b97a6';
// Chosen so that the ten largest content networks of our day get ten hues.
const SEED = 1352996;
/** First words that say nothing. */
const COMMON = new Set(['the', 'deutsche', 'china', 'telecom', 'telekom', 'telefonica', 'universität', 'university', 'stadtwerke', 'new', 'as']);

/** FNV-1a with a last mix. */
export function hash(text: string, seed = SEED): number {
  let value = seed;
  for (let index = 0; index < text.length; index += 1) {
    value ^= text.charCodeAt(index);
    value = Math.imul(value, 0x01000193);
  }
  value ^= value >>> 15;
  value = Math.imul(value, 0x2c1b3c6d);
  value ^= value >>> 12;
  return value >>> 0;
}

function mix(color: string, other: string, part: number): string {
  const channel = (text: string, at: number) => Number.parseInt(text.slice(at, at + 2), 16);
  const mixed = [1, 3, 5].map((at) => Math.round(channel(color, at) * (1 - part) + channel(other, at) * part));
  return `#${mixed.map((value) => value.toString(16).padStart(2, '0')).join('')}`;
}

/** What is coloured: "Netflix" of "Netflix" the service and of "Netflix" AS2906. */
export function subject(name: string): string {
  const words = name.toLowerCase().replaceAll(',', ' ').split(/\s+/).filter(Boolean);
  const first = (words[0] ?? '').replace(/\.(com|net|org)$/, '');
  return COMMON.has(first) ? words.slice(0, 2).join(' ') : first;
}

export function colorOf(name: string, theme: 'dark' | 'light'): string {
  const value = hash(subject(name));
  const hue = HUES[value % HUES.length] ?? OTHER;
  // Three shades a hue: two names that share a hue are still told apart.
  const shade = Math.floor(value / HUES.length) % 3;
  const shaded = shade === 1 ? mix(hue, '#ffffff', 0.2) : shade === 2 ? mix(hue, '#000000', 0.16) : hue;
  return theme === 'light' ? mix(shaded, '#10203a', 0.14) : shaded;
}
