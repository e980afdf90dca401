// Puts name.br and name.gz beside each file of dist that gets smaller, and
// holds the first load to its budget.
import { readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

const BUDGET_OCTETS = 350_000;
const dist = new URL('../dist/', import.meta.url).pathname;
const files = readdirSync(dist, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath ?? entry.path, entry.name));

let first = 0;
for (const file of files) {
  if (/\.(br|gz)$/.test(file)) {
    rmSync(file);
    continue;
  }
  const plain = readFileSync(file);
  let size = statSync(file).size;
  if (/\.(js|css|html|svg|json)$/.test(file) && plain.length > 512) {
    const options = { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: plain.length } };
    const brotli = brotliCompressSync(plain, options);
    const gzip = gzipSync(plain, { level: 9 });
    if (brotli.length < plain.length) {
      writeFileSync(`${file}.br`, brotli);
      writeFileSync(`${file}.gz`, gzip);
      size = gzip.length;
    }
  }
  // Everything is loaded at first but the fonts for other alphabets.
  if (!/-ext-/.test(file)) first += size;
}
console.log(`first load: ${(first / 1000).toFixed(1)} kB compressed (gzip), budget ${BUDGET_OCTETS / 1000} kB`);
if (first > BUDGET_OCTETS) {
  console.error('the first load is over its budget');
  process.exit(1);
}
