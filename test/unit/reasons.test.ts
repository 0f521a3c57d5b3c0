import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { REASONS } from '../../agent/core/reasons.ts';
import { reasonsPage } from '../../agent/core/reasons-page.ts';

const page = new URL('../../agent/commands/reasons.md', import.meta.url);
if (process.env['WRITE_REASONS'] === '1') writeFileSync(page, reasonsPage());

t.test('the page of reasons says what the code says (make reasons writes it anew)', async (t) => {
  t.equal(readFileSync(page, 'utf8'), reasonsPage());
});

t.test('reasons are words that a Kubernetes condition takes', async (t) => {
  for (const code of Object.keys(REASONS)) t.match(code, /^[A-Z][A-Za-z]+$/);
});
