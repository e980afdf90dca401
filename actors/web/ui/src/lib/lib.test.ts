// Run by `npm test` (node --test).

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Answer, Dimension } from './api.ts';
import { colorOf } from './color.ts';
import { pieces, term, withTerm, withoutLast } from './filter.ts';
import { change, duration, percent, rate } from './format.ts';
import { DRAWN_MAX, key, pathKeys, picture } from './network.ts';
import { layout, part } from './sankey.ts';
import { table } from './series.ts';
import { aligned, bounds, resolve, shifted, zoomedOut } from './time.ts';
import { read, write } from './view.ts';

const text: Dimension = { name: 'service', title: 'Service', kind: 'text', rollup: true };
const asn: Dimension = { name: 'src_as', title: 'Source AS', kind: 'asn', rollup: true };

test('a value never stands without its unit', () => {
  assert.equal(rate(1_236_000_000_000, 'bps'), '1.24 Tbit/s');
  assert.equal(rate(999_600, 'bps'), '1.00 Mbit/s');
  assert.equal(rate(0, 'pps'), '0 packets/s');
  assert.equal(rate(Number.NaN, 'bps'), '– bit/s');
  assert.equal(percent(0.0004), '< 0.1 %');
  assert.equal(change(107.6, 100), '+7.6 %');
  assert.equal(duration(19_800_000), '5 h 30 min');
});

test('terms are quoted, added once, and taken away again', () => {
  assert.equal(term(text, 'service', 'a "b" \\', false), 'service = "a \\"b\\" \\\\"');
  assert.equal(term(asn, 'src_as', 15169, true), 'src_as != 15169');
  assert.equal(term(text, 'service', null, false), 'service = null');
  const one = withTerm('', 'src_as = 1');
  const two = withTerm(one, 'service = "x AND y"');
  assert.equal(two, 'src_as = 1 AND service = "x AND y"');
  assert.equal(withTerm(two, 'src_as = 1'), two);
  assert.equal(withoutLast(two), one);
  assert.equal(withoutLast(one), '');
  assert.equal(withTerm('a = 1 OR b = 2', 'c = 3'), '(a = 1 OR b = 2) AND c = 3');
  assert.equal(pieces('NOT (a = 1 AND b = 2) AND c IN (1, 2)').length, 2);
});

test('times are absolute or relative, and move by their width', () => {
  const now = 1_700_000_000_000;
  assert.equal(resolve('-90m', now), now - 5_400_000);
  assert.equal(resolve('nonsense', now), null);
  assert.deepEqual(bounds({ from: '-1h', to: 'now' }, now), { from: now - 3_600_000, to: now });
  assert.deepEqual(shifted({ from: '0', to: '1000' }, 1, now), { from: '1000', to: '2000' });
  assert.equal(zoomedOut({ from: '-60m', to: 'now' }, now).from, '-120m');
  assert.deepEqual(aligned({ from: 61_000, to: 119_000 }), { from: 60_000, to: 120_000 });
});

test('an address and a view say the same', () => {
  const view = read('?from=-3h&to=now&by=src_as,service,src_as,time&filter=a%20%3D%201&chart=lines&top=99&measure=pps');
  assert.deepEqual(view.by, ['src_as', 'service']);
  assert.equal(view.top, 8);
  assert.deepEqual(read(`?${write(view)}`), view);
});

test('a thing keeps its colour whatever it is', () => {
  assert.equal(colorOf('Netflix', 'dark'), colorOf('Netflix Streaming Services, Inc.', 'dark'));
  assert.notEqual(colorOf('Netflix', 'dark'), colorOf('YouTube', 'dark'));
  assert.notEqual(colorOf('Deutsche Telekom', 'dark'), colorOf('Deutsche Glasfaser', 'dark'));
});

test('a Sankey keeps every column at the total', () => {
  const rows = [
    { values: ['a', 1], amount: 50 },
    { values: ['a', 2], amount: 10 },
    { values: ['b', 1], amount: 30 },
    { values: ['c', 3], amount: 5 },
    { values: ['d', 1], amount: 4 },
  ];
  const box = { width: 600, height: 400, top: 20, bottom: 5, left: 0, right: 100 };
  const drawn = layout(rows, 1, 2, 2, box);
  for (const column of [0, 1]) {
    const own = drawn.nodes.filter((node) => node.column === column);
    assert.equal(own.reduce((sum, node) => sum + node.amount, 0), 100);
    assert.equal(own.at(-1)?.other, true);
    const named = own.filter((node) => !node.other).map((node) => node.amount);
    assert.deepEqual(named, named.toSorted((a, b) => b - a));
    for (const node of own) assert.ok(node.y >= 0 && node.y + node.height <= box.height);
  }
  assert.equal(drawn.links.reduce((sum, link) => sum + link.amount, 0), 100);
  const a = drawn.nodes[0];
  const into1 = drawn.links.find((link) => link.source === a && link.target.key === '1');
  assert.ok(a && into1);
  assert.equal(part(into1, new Set(a.rows), drawn.amounts), 1);
});

test('gaps are gaps, zeros are zeros, and the last window counts what it covers', () => {
  const start = 1_700_000_100_000;
  const row = (bucket: number, name: string, octets: number) => [new Date(start + bucket * 300_000).toISOString(), name, octets, 1, 1];
  const answer: Answer = {
    columns: ['time', 'service', 'octets', 'packets', 'flows'],
    rows: [row(0, 'a', 300), row(1, 'a', 600), row(3, 'a', 300), row(0, 'b', 300), row(4, 'a', 150)],
    totals: { octets: 1650, packets: 5, flows: 5 },
    other: { octets: 0, packets: 0, flows: 0 },
    labels: {},
    source: 'rollup_5m',
    from_ms: start,
    to_ms: start + 6 * 300_000,
    resolution_ms: 300_000,
    rows_read: 5,
    files_read: 1,
    elapsed_ms: 1,
    newest_ms: start + 4 * 300_000 + 150_000,
    quality: [],
    notes: [],
  };
  const found = table(answer, 'bps', null);
  const [a, b] = found.series;
  assert.deepEqual(a?.points, [8, 16, null, 8, 8]);
  assert.deepEqual(b?.points, [8, 0, null, 0, 0]);
  assert.deepEqual(found.gaps, [{ from: start + 600_000, to: start + 900_000 }]);
  assert.equal(found.covered, 1_050_000);
  assert.equal(a?.total, 1350);
  assert.equal(a?.max, 16);
  assert.equal(b?.last, 0);
});

test('a network is drawn with one edge a pair of routers, the same each time', () => {
  const node = (name: string) => ({ name, id: name, igp: 'isis', asn: 64500, broadcast: false, overload: false, areas: [], router_ids: [] });
  const link = (from: number, to: number, metric: number | null, used = true) => ({ from, to, metric, used, local: [], remote: [] });
  const graph = {
    generation: 1,
    prefixes: 0,
    nodes: ['c', 'a', 'b'].map(node),
    links: [link(0, 1, 10), link(1, 0, 20), link(0, 1, 5), link(1, 2, 7), link(2, 1, null, false), link(0, 9, 1)],
  };
  const drawn = picture(graph, 800, 600);
  assert.deepEqual(drawn.edges.map((edge) => [edge.source.name, edge.target.name, edge.metrics, edge.used]), [
    ['c', 'a', [5, 20], true],
    ['a', 'b', [7, null], true],
  ]);
  assert.deepEqual(picture(graph, 800, 600).places, drawn.places);
  assert.ok(drawn.places.every((place) => place.x > 0 && place.x < 800 && place.y > 0 && place.y < 600));
  const names = Array.from({ length: DRAWN_MAX + 5 }, (_, at) => node(`r${at}`));
  const links = names.slice(1).map((_, at) => link(at + 1, 0, 1));
  assert.equal(picture({ ...graph, nodes: names, links }, 800, 600).hidden, 5);
  assert.deepEqual([...pathKeys(['b', 'a', 'c'])], [key('a', 'b'), key('a', 'c')]);
});
