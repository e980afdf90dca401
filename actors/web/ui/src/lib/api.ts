// The API of /api/v1, as openapi.json describes it.

export type Cell = string | number | boolean | null;

export interface Sums {
  octets: number;
  packets: number;
  flows: number;
}

export interface Question {
  from_ms: number;
  to_ms: number;
  by: string[];
  filter: string;
  limit: number;
  resolution_ms?: number;
  order?: 'octets' | 'packets' | 'flows';
}

export interface Answer {
  columns: string[];
  rows: Cell[][];
  totals: Sums;
  other: Sums;
  other_series?: [number, Sums][];
  labels: Record<string, Record<string, string>>;
  source: string;
  from_ms: number;
  to_ms: number;
  resolution_ms: number;
  rows_read: number;
  files_read: number;
  elapsed_ms: number;
  newest_ms: number | null;
  quality: string[];
  notes: string[];
}

export interface Dimension {
  name: string;
  title: string;
  kind: 'number' | 'asn' | 'address' | 'prefix' | 'text' | 'enum' | 'time';
  rollup: boolean;
  values?: string[];
}

export interface Me {
  user: string;
  role: 'viewer' | 'analyst' | 'operator' | 'administrator';
  one_time_password: boolean;
  csrf: string;
  version: string;
  routes: boolean;
}

export interface Candidate {
  value: string;
  label?: string;
}

export interface Completion {
  at: number;
  word: string;
  kind: 'word' | 'value' | 'nothing';
  candidates: Candidate[];
}

export class ApiError extends Error {
  readonly status: number;
  readonly at?: number;

  constructor(message: string, status: number, at?: number) {
    super(message);
    this.status = status;
    this.at = at;
  }
}

let csrf = '';
let onUnauthorized: () => void = () => {};

export function whenUnauthorized(action: () => void) {
  onUnauthorized = action;
}

async function call<T>(method: string, path: string, body?: unknown, init: RequestInit = {}): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method,
      credentials: 'same-origin',
      body: body === undefined ? undefined : JSON.stringify(body),
      ...init,
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(method === 'GET' ? {} : { 'x-csrf-token': csrf }),
        ...(init.headers as Record<string, string> | undefined),
      },
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError('the server cannot be reached', 0);
  }
  if (response.status === 401 && path !== '/login') onUnauthorized();
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new ApiError(problem.message ?? `the server answered ${response.status}`, response.status, problem.at);
  }
  return (response.status === 204 || response.status === 201 ? response.json().catch(() => undefined) : response.json()) as Promise<T>;
}

function remember(me: Me): Me {
  csrf = me.csrf ?? '';
  return me;
}

export const me = () => call<Me>('GET', '/me').then(remember);
export const login = (user: string, password: string) => call<Me>('POST', '/login', { user, password }).then(remember);
export const logout = () => call<void>('POST', '/logout', {});
export const changePassword = (old: string, next: string) => call<void>('POST', '/password', { old, new: next });
export const dimensions = () => call<Dimension[]>('GET', '/dimensions');
export const status = (signal?: AbortSignal) => call<unknown>('GET', '/status', undefined, { signal });

export const completeFilter = (filter: string, signal: AbortSignal) =>
  call<Completion>('GET', `/complete?limit=60&filter=${encodeURIComponent(filter)}`, undefined, { signal });

export const lookup = (address: string, router: string, signal?: AbortSignal) =>
  call<unknown>(
    'GET',
    `/routes/lookup?address=${encodeURIComponent(address)}${router ? `&router=${encodeURIComponent(router)}` : ''}`,
    undefined,
    { signal },
  );

/** One change of a prefix, or of the whole session of a router. */
export interface Happened {
  ms: number;
  event: 'announce' | 'withdraw' | 'up' | 'down' | 'stale' | 'gap';
  prefix: string;
  peer: string;
  vrf: string;
  path?: { as_path: string; next_hop: string; communities: string; local_pref?: number | null; med?: number | null } | null;
}

export interface RouteHistory {
  events: Happened[];
  is_cut: boolean;
  oldest_ms: number | null;
  as_names: Record<string, string>;
}

export const routeHistory = (prefix: string, router: string, from_ms: number, to_ms: number, signal?: AbortSignal) =>
  call<RouteHistory>(
    'GET',
    `/routes/history?prefix=${encodeURIComponent(prefix)}&from_ms=${from_ms}&to_ms=${to_ms}&limit=500${router ? `&router=${encodeURIComponent(router)}` : ''}`,
    undefined,
    { signal },
  );

/** The network as BGP-LS or a file tells it; links are of one direction, by places in `nodes`. */
export interface Graph {
  generation: number;
  prefixes: number;
  nodes: { name: string; id: string; igp: string; asn: number; broadcast: boolean; overload: boolean; areas: string[]; router_ids: string[] }[];
  links: { from: number; to: number; metric: number | null; used: boolean; local: string[]; remote: string[] }[];
}

export interface GraphPath {
  from: string;
  to: string;
  cost: number;
  hops: number;
  equal_cost_paths: number;
  path: { router: string; id: string; broadcast: boolean; cost: number; metric: number | null; local: string[]; remote: string[] }[];
}

export const graph = (signal?: AbortSignal) => call<Graph>('GET', '/graph', undefined, { signal });

export const graphPath = (from: string, to: string, signal?: AbortSignal) =>
  call<GraphPath>('GET', `/graph/path?from=${encodeURIComponent(from)}&to=${encodeURIComponent(to)}`, undefined, { signal });

/** Asks; when `signal` fires, the server is told to stop too. */
export async function query(question: Question, signal: AbortSignal): Promise<Answer> {
  const id = crypto.randomUUID();
  const stop = () => {
    call('DELETE', `/query/${id}`, undefined, { keepalive: true }).catch(() => undefined);
  };
  signal.addEventListener('abort', stop, { once: true });
  try {
    return await call<Answer>('POST', '/query', question, { signal, headers: { 'x-query-id': id } });
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
