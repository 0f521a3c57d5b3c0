// What is checked in is what the program prints. `make userdata` writes it.
import t from 'tap';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { renderings } from './renderings.ts';

const folder = fileURLToPath(new URL('../../userdata/', import.meta.url));
for (const [name, text] of Object.entries(renderings)) {
  t.test(`userdata/${name}`, async (t) => {
    if (process.env['WRITE_USERDATA']) writeFileSync(folder + name, text());
    t.equal(existsSync(folder + name) ? readFileSync(folder + name, 'utf8') : '', text(), 'make userdata');
  });
}

t.test('and nothing else is', async (t) => {
  t.same(readdirSync(`${folder}renderings`).map((name) => `renderings/${name}`).filter((name) => !(name in renderings)), []);
});
