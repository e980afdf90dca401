// The page as somebody uses it: logs in, draws the Sankey, filters it by a
// click, follows a node to its series, and holds every number against the API.
//
//   BENOCS_URL=https://127.0.0.1:8443 BENOCS_USER=admin BENOCS_PASSWORD=... node explore.mjs
//
// BENOCS_BY: dimensions (default service,src_as,ingress_router). BENOCS_FROM: -1h.
// BENOCS_SHOTS: a directory for screenshots in both themes.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const base = process.env.BENOCS_URL ?? 'https://127.0.0.1:8443';
const user = process.env.BENOCS_USER ?? 'admin';
const password = process.env.BENOCS_PASSWORD;
const by = (process.env.BENOCS_BY ?? 'service,src_as,ingress_router').split(',');
const from = process.env.BENOCS_FROM ?? '-1h';
const shots = process.env.BENOCS_SHOTS;
assert.ok(password, 'BENOCS_PASSWORD is not set');

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox',
    '--headless',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});
const complaints = [];
const origins = new Set();

async function open(options = {}) {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    viewport: { width: 1600, height: 1000 },
    colorScheme: 'dark',
    ...options,
  });
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(`page error: ${error.message}`));
  page.on('console', (message) => {
    // A refused login is logged by the browser itself.
    if (message.type() === 'error' && !/status of 40[01]/.test(message.text())) complaints.push(message.text());
  });
  page.on('request', (request) => origins.add(new URL(request.url()).origin));
  return page;
}

async function login(page) {
  await page.goto(base);
  await page.fill('input[name=user]', user);
  await page.fill('input[name=password]', password);
  await page.keyboard.press('Enter');
  await page.waitForSelector('nav');
}

const ready = (page) => page.waitForSelector('.page[data-state="ready"] .panel.answer tbody tr', { timeout: 30_000 });

/** Asks the API as the page would, beside it. */
async function ask(page, question) {
  return page.evaluate(async (question) => {
    const { csrf } = await (await fetch('/api/v1/me')).json();
    const response = await fetch('/api/v1/query', {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-csrf-token': csrf },
      body: JSON.stringify(question),
    });
    if (!response.ok) throw new Error(await response.text());
    return response.json();
  }, question);
}

const nodesOf = (page) =>
  page.$$eval('.sankey .node', (nodes) =>
    nodes.map((node) => ({ dimension: node.dataset.dimension, value: node.dataset.value, amount: Number(node.dataset.amount) })),
  );
const rowsOf = (page) =>
  page.$$eval('.panel.answer tbody tr', (rows) => rows.map((row) => ({ key: row.dataset.key, total: Number(row.dataset.total) })));
const filterOf = (page) => new URL(page.url()).searchParams.get('filter') ?? '';

/** Sums of the API's rows by one column. */
function sums(answer, column) {
  const at = answer.columns.indexOf(column);
  const octets = answer.columns.indexOf('octets');
  const found = new Map();
  for (const row of answer.rows) {
    const key = JSON.stringify(row[at]);
    found.set(key, (found.get(key) ?? 0) + row[octets]);
  }
  return found;
}

/** Page and API give the same number for every node that is not "other". */
async function compare(page, range, filter) {
  const answer = await ask(page, { ...range, by, filter, limit: 2000 });
  const nodes = await nodesOf(page);
  let compared = 0;
  for (const dimension of by) {
    const expected = sums(answer, dimension);
    const own = nodes.filter((node) => node.dimension === dimension);
    for (const node of own) {
      if (node.value === undefined) continue;
      assert.equal(node.amount, expected.get(node.value), `${dimension} ${node.value}`);
      compared += 1;
    }
    const column = own.reduce((sum, node) => sum + node.amount, 0);
    assert.equal(column, answer.totals.octets, `the column ${dimension} is not the total`);
  }
  assert.ok(compared >= by.length, 'too few nodes to compare');
  const table = await ask(page, { ...range, by: [by[0]], filter, limit: 2000 });
  const expected = sums(table, by[0]);
  for (const row of await rowsOf(page)) {
    if (row.key.startsWith('[')) assert.equal(row.total, expected.get(JSON.stringify(JSON.parse(row.key)[0])), `row ${row.key}`);
  }
  return { compared, nodes, total: answer.totals.octets };
}

try {
  const page = await open();
  await page.goto(base);
  await page.fill('input[name=user]', user);
  await page.fill('input[name=password]', 'certainly not it');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('[role=alert]')?.textContent?.includes('wrong'));
  await login(page);
  await ready(page);

  // A fixed range, so that page and API look at the same hours.
  const now = Date.now();
  const step = 300_000;
  const back = { m: 60_000, h: 3_600_000, d: 86_400_000 }[from.at(-1)] * Number(from.slice(1, -1));
  const range = { from_ms: Math.floor((now - back) / step) * step, to_ms: Math.floor(now / step) * step };
  const at = (extra) => `${base}/explore?from=${range.from_ms}&to=${range.to_ms}&by=${by.join(',')}${extra}`;

  await page.goto(at('&chart=sankey'));
  await ready(page);
  const whole = await compare(page, range, '');
  console.log(`Sankey: ${whole.compared} nodes equal the API's, ${whole.total} octets`);

  // A click on the largest named node of the second column filters by it.
  const target = whole.nodes.filter((node) => node.dimension === by[1] && node.value && node.value !== 'null').sort((a, b) => b.amount - a.amount)[0];
  assert.ok(target, `no node of ${by[1]}`);
  const selector = `.sankey .node[data-dimension="${by[1]}"][data-value=${JSON.stringify(target.value)}]`;
  await page.locator(selector).click();
  await page.waitForFunction(() => location.search.includes('filter='));
  await ready(page);
  await page.waitForFunction(
    (dimension) => document.querySelectorAll(`.sankey .node[data-dimension="${dimension}"]`).length === 1,
    by[1],
  );
  const filter = filterOf(page);
  assert.ok(filter.startsWith(`${by[1]} = `), filter);
  const filtered = await compare(page, range, filter);
  assert.equal(filtered.total, target.amount, 'the filtered total is not the node that was clicked');
  console.log(`filtered by ${filter}: ${filtered.compared} nodes equal the API's`);

  // Back is back.
  await page.goBack();
  await page.waitForFunction(() => !location.search.includes('filter='));
  await ready(page);
  await page.waitForFunction(
    ([dimension, count]) => document.querySelectorAll(`.sankey .node[data-dimension="${dimension}"]`).length === count,
    [by[1], whole.nodes.filter((node) => node.dimension === by[1]).length],
  );

  // Shift-click excludes.
  await page.locator(selector).click({ modifiers: ['Shift'] });
  await page.waitForFunction(() => location.search.includes('filter='));
  await ready(page);
  await page.waitForFunction((selector) => !document.querySelector(selector), selector);
  const excluded = await compare(page, range, filterOf(page));
  assert.equal(excluded.total, whole.total - target.amount, 'what is excluded is not missing');

  // A node followed to its series.
  await page.goto(at(`&chart=stacked&filter=${encodeURIComponent(filter)}`));
  await ready(page);
  await page.waitForSelector('.plot canvas');
  const series = await ask(page, { ...range, by: ['time', ...by], filter, limit: 8 });
  const expected = new Map();
  const octets = series.columns.indexOf('octets');
  for (const row of series.rows) {
    const key = JSON.stringify(row.slice(1, 1 + by.length));
    expected.set(key, (expected.get(key) ?? 0) + row[octets]);
  }
  const rows = (await rowsOf(page)).filter((row) => row.key.startsWith('['));
  assert.equal(rows.length, expected.size);
  for (const row of rows) assert.equal(row.total, expected.get(row.key), `series ${row.key}`);
  const painted = await page.$eval('.plot canvas', (canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const colours = new Set();
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 60) colours.add((data[i] >> 4) * 256 + (data[i + 1] >> 4) * 16 + (data[i + 2] >> 4));
    return colours.size;
  });
  assert.ok(painted > 4, 'the series are not painted');
  console.log(`series: ${rows.length} equal the API's`);

  // Keys, and an error in its place.
  await page.keyboard.press('3');
  await page.waitForFunction(() => location.search.includes('chart=percent'));
  await page.keyboard.press('/');
  await page.keyboard.type('src_as = AND');
  await page.keyboard.press('Enter');
  await page.waitForSelector('[aria-label="Filter"][aria-invalid="true"]');
  assert.match(await page.locator('.message[role=alert]').innerText(), /character \d+/);
  await page.keyboard.press('Backspace');
  await page.keyboard.press('?');
  await page.waitForSelector('[role=dialog]');
  await page.keyboard.press('Escape');
  await page.waitForFunction(() => !document.querySelector('[role=dialog]'));

  await page.keyboard.press('g');
  await page.keyboard.press('h');
  await page.waitForFunction(() => location.pathname === '/health');
  await page.waitForSelector('h1:has-text("Exporters and health")');
  await page.waitForSelector('main table, main .none');

  if (shots) {
    for (const colorScheme of ['dark', 'light']) {
      const view = await open({ colorScheme });
      await login(view);
      for (const [name, path] of [
        ['explore', '/explore'],
        ['stacked', `/explore?from=-24h&to=now&by=${by[0]}&chart=stacked`],
        ['health', '/health'],
      ]) {
        await view.goto(base + path);
        await view.waitForSelector(name === 'health' ? 'main table' : '.page[data-state="ready"] .panel.answer tbody tr');
        await view.screenshot({ path: `${shots}/${name}-${colorScheme}.png` });
      }
      await view.context().close();
    }
  }

  await page.locator('button[aria-label^="Account of"]').click();
  await page.locator('button:has-text("Log out")').click();
  await page.waitForSelector('input[name=user]');
  assert.equal(await page.evaluate(async () => (await fetch('/api/v1/me')).status), 401);

  assert.deepEqual([...origins], [new URL(base).origin], 'the page speaks to nobody else');
  assert.deepEqual(complaints, [], 'the browser complains');
  console.log('ok');
} finally {
  await browser.close();
}
