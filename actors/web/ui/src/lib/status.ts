// The state of the feeds as /status gives it; what a server leaves out is empty.

export type HealthState = 'good' | 'attention' | 'bad' | 'off';

export interface Feed {
  name: string;
  title: string;
  health: HealthState;
  summary: string;
  problem: string;
  last_ms: number | null;
}

export interface Entry {
  health: HealthState;
  problem: string;
  last_ms?: number | null;
  [field: string]: unknown;
}

export interface Status {
  version: string;
  role: string;
  now_ms: number;
  started_ms: number;
  newest_ms: number | null;
  feeds: Feed[];
  exporters: Entry[];
  bgp_peers: Entry[];
  snmp_targets: Entry[];
  resolvers: Entry[];
  store: Entry | null;
  links: Entry[];
  losses: { actor: string; cause: string; count: number }[];
}

export function read(found: unknown): Status {
  const value = (typeof found === 'object' && found !== null ? found : {}) as Record<string, unknown>;
  const list = (name: string) => (Array.isArray(value[name]) ? (value[name] as never[]) : []);
  return {
    version: String(value.version ?? ''),
    role: String(value.role ?? ''),
    now_ms: Number(value.now_ms ?? Date.now()),
    started_ms: Number(value.started_ms ?? 0),
    newest_ms: typeof value.newest_ms === 'number' ? value.newest_ms : null,
    feeds: list('feeds'),
    exporters: list('exporters'),
    bgp_peers: list('bgp_peers'),
    snmp_targets: list('snmp_targets'),
    resolvers: list('resolvers'),
    store: (value.store as Entry | undefined) ?? null,
    links: list('links'),
    losses: list('losses'),
  };
}
