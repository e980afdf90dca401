// Names of values: what a person calls them, before their numbers.

import type { Answer, Cell, Dimension } from './api';

export interface Name {
  name: string;
  /** "AS2906" beside "Netflix". */
  detail: string;
  /** Nobody's: not coloured. */
  absent: boolean;
}

export type Names = (dimension: string, value: Cell) => Name;

const ABSENT: Record<string, string> = {
  service: 'unnamed service',
  service_provider: 'unnamed provider',
  service_category: 'unnamed category',
  ingress_router: 'unknown router',
  egress_router: 'unknown router',
};

export function naming(answer: Answer, dimensions: Map<string, Dimension>): Names {
  return (dimension, value) => {
    const known = dimensions.get(dimension);
    if (value === null || value === '') {
      const name = ABSENT[dimension] ?? (known?.kind === 'asn' ? 'no AS' : 'none');
      return { name, detail: '', absent: true };
    }
    const label = answer.labels?.[dimension]?.[String(value)];
    if (known?.kind === 'asn') {
      return label ? { name: label, detail: `AS${value}`, absent: false } : { name: `AS${value}`, detail: '', absent: false };
    }
    if (label) return { name: label, detail: '', absent: false };
    return { name: String(value), detail: '', absent: false };
  };
}

/** One identity for a combination of values, in tables and charts. */
export const keyOf = (values: Cell[]) => JSON.stringify(values);

/** What quality flags mean, for the eye that hovers. */
export const QUALITY: Record<string, string> = {
  sampling_unknown: 'an exporter does not say its sampling rate: counted as 1:1',
  time_missing: 'records without a usable time: time of receipt taken',
  time_implausible: 'records with an implausible time: time of receipt taken',
  span_clamped: "flows longer than their exporter's time-out were shortened",
  template_late: 'decoded after their template came',
  counters_missing: 'records without octets and packets',
  header_truncated: 'sampled headers that end early',
  interface_unknown: 'interfaces that the inventory does not know',
  boundary_unknown: 'interfaces that are neither external nor internal: counted',
  src_route_missing: 'no route to the source',
  dst_route_missing: 'no route to the destination',
  route_fallback: "another router's table named the route",
  route_changed: 'the route changed while the flow lasted',
  route_stale: 'routes of a session that is down',
  egress_unknown: 'where it left is unknown',
  egress_ambiguous: 'several equal ways out: one of them is shown',
  handover_guessed: 'the neighbour was taken from the reverse path',
  service_ambiguous: 'several names are likely for an address',
  event: 'events, not flows',
  after_gap: 'datagrams were lost just before',
};
