// The network graph as it is drawn: links of two directions as one, and where each router lies.

import { forceCenter, forceCollide, forceLink, forceManyBody, forceSimulation, forceX, forceY } from 'd3-force';
import type { Graph } from './api';

/** More than these are no picture: those with the most links are drawn. */
export const DRAWN_MAX = 400;
const ROUNDS = 300;

export interface Place {
  index: number;
  name: string;
  router: boolean;
  overload: boolean;
  links: number;
  x: number;
  y: number;
}

export interface Edge {
  source: Place;
  target: Place;
  /** There and back; null where that direction is not told. */
  metrics: [number | null, number | null];
  used: boolean;
}

export interface Picture {
  places: Place[];
  edges: Edge[];
  /** Routers that are not drawn. */
  hidden: number;
}

/** The same picture for the same graph: places begin on a circle, in the order of their names. */
export function picture(graph: Graph, width: number, height: number): Picture {
  const links = new Map<number, number>();
  for (const link of graph.links) links.set(link.from, (links.get(link.from) ?? 0) + 1);
  const all = graph.nodes.map((node, index) => ({
    index,
    name: node.name || node.id,
    router: !node.broadcast,
    overload: node.overload,
    links: links.get(index) ?? 0,
  }));
  const most = [...all].sort((a, b) => b.links - a.links || a.name.localeCompare(b.name)).slice(0, DRAWN_MAX);
  const named = most.sort((a, b) => a.name.localeCompare(b.name));
  const radius = Math.min(width, height) / 2.5;
  const places: Place[] = named.map((node, at) => ({
    ...node,
    x: width / 2 + radius * Math.cos((2 * Math.PI * at) / named.length),
    y: height / 2 + radius * Math.sin((2 * Math.PI * at) / named.length),
  }));
  const by = new Map(places.map((place) => [place.index, place]));
  const edges = new Map<string, Edge>();
  for (const link of graph.links) {
    const [source, target] = [by.get(link.from), by.get(link.to)];
    if (!source || !target || source === target) continue;
    const forward = link.from < link.to;
    const key = forward ? `${link.from} ${link.to}` : `${link.to} ${link.from}`;
    const edge = edges.get(key) ?? {
      source: forward ? source : target,
      target: forward ? target : source,
      metrics: [null, null] as Edge['metrics'],
      used: false,
    };
    // Of parallel links the cheapest counts.
    const side = forward ? 0 : 1;
    const known = edge.metrics[side];
    if (link.metric !== null && (known === null || link.metric < known)) edge.metrics[side] = link.metric;
    edge.used ||= link.used;
    edges.set(key, edge);
  }
  const list = [...edges.values()];
  const simulation = forceSimulation(places)
    .force('link', forceLink<Place, Edge>(list).distance(70).strength(0.5))
    .force('charge', forceManyBody<Place>().strength(-260).distanceMax(420))
    .force('collide', forceCollide<Place>(22))
    .force('x', forceX<Place>(width / 2).strength(0.05))
    .force('y', forceY<Place>(height / 2).strength(0.09))
    .force('center', forceCenter(width / 2, height / 2))
    .stop();
  simulation.tick(ROUNDS);
  fit(places, width, height);
  return { places, edges: list, hidden: all.length - places.length };
}

/** Into the frame, with room for the names. */
function fit(places: Place[], width: number, height: number) {
  if (!places.length) return;
  const [xs, ys] = [places.map((place) => place.x), places.map((place) => place.y)];
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = Math.min((width - 160) / Math.max(right - left, 1), (height - 70) / Math.max(bottom - top, 1), 2);
  for (const place of places) {
    place.x = width / 2 + (place.x - (left + right) / 2) * scale;
    place.y = height / 2 + (place.y - (top + bottom) / 2) * scale;
  }
}

/** Pairs of nodes on a path, as keys of `onPath`. */
export function pathKeys(names: string[]): Set<string> {
  return new Set(names.slice(1).map((name, at) => key(names[at] ?? '', name)));
}

export const key = (a: string, b: string) => (a < b ? `${a} ${b}` : `${b} ${a}`);
