// What every page shares: who is here, the theme, where we are, how fresh the data is.

import type { Dimension, Me } from './api';
import * as api from './api';

export const app = $state({
  me: null as Me | null,
  /** Whether it is known yet who is here. */
  known: false,
  theme: (document.documentElement.dataset.theme === 'light' ? 'light' : 'dark') as 'dark' | 'light',
  path: location.pathname,
  search: location.search,
  dimensions: [] as Dimension[],
  newest: null as number | null,
  now: Date.now(),
  /** Server's clock minus ours. */
  skew: 0,
  connected: true,
  help: false,
  toast: '',
});

export function setTheme(theme: 'dark' | 'light') {
  app.theme = theme;
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem('benocs-theme', theme);
  } catch {
    // Private windows may have no storage: the theme lasts as long as the page.
  }
}

/** Goes to an address of the page; `replace` leaves no step to go back to. */
export function go(to: string, replace = false) {
  const here = location.pathname + location.search;
  if (to === here) return;
  if (replace) history.replaceState(null, '', to);
  else history.pushState(null, '', to);
  app.path = location.pathname;
  app.search = location.search;
}

addEventListener('popstate', () => {
  app.path = location.pathname;
  app.search = location.search;
});

let toastTimer: ReturnType<typeof setTimeout> | undefined;

export function toast(text: string) {
  app.toast = text;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => {
    app.toast = '';
  }, 2500);
}

let source: EventSource | null = null;

function listen() {
  source?.close();
  source = new EventSource('/api/v1/live');
  source.addEventListener('newest', (event) => {
    const data = JSON.parse((event as MessageEvent<string>).data) as { newest_ms: number | null; now_ms: number };
    app.newest = data.newest_ms;
    app.skew = data.now_ms - Date.now();
    app.connected = true;
  });
  source.addEventListener('error', () => {
    app.connected = false;
  });
}

export async function enter(me: Me) {
  app.me = me;
  app.known = true;
  listen();
  app.dimensions = await api.dimensions().catch(() => []);
}

export function leave() {
  source?.close();
  source = null;
  app.me = null;
  app.known = true;
}

api.whenUnauthorized(leave);
setInterval(() => {
  app.now = Date.now();
}, 1000);
