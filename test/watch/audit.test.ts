// Auditing is a setting of the whole machine, which no test may change: it is on, or it is said why nothing is read.
import { execFileSync } from 'node:child_process';
import t from 'tap';
import { readAudit } from '../../agent/effects/audit.ts';

t.test('the kernel audits, or it is said why nothing is read', async (t) => {
  // Records come to the network namespace that the machine started in, which this is not: none is waited for.
  const audit = await readAudit(() => {});
  if (audit.state === 'absent') t.match(audit.because, /^(auditing is off|this kernel has no audit|it may not be read)/);
  else {
    t.match(audit.because ?? 'it is on', /^(it is on$|whether auditing is on may not be asked: AUDIT_GET: )/);
    audit.close();
  }
});

t.test('without any right to it, it is absent or unasked, and never an error', async (t) => {
  const program = `
    const { readAudit } = await import(${JSON.stringify(new URL('../../agent/effects/audit.ts', import.meta.url).href)});
    const audit = await readAudit(() => {});
    console.log(JSON.stringify(audit));
    audit.close?.();`;
  const said = execFileSync('unshare', ['-Urn', process.execPath, '--input-type=module', '-e', program], { encoding: 'utf8', env: { PATH: process.env['PATH'] } });
  t.match(JSON.parse(said), { state: 'absent', because: /CAP_AUDIT_READ|has no audit|auditing is off/ });
});
