import t from 'tap';
import { UsageError, nearest, parseConfigFile, settingsFrom, settingsOfEnvironment, variableOf } from '../../agent/config.ts';
import { DEFAULT_SETTINGS } from '../../agent/core/settings.ts';
import { TAKEN_PORTS } from '../../agent/core/taken-ports.ts';

t.test('the later source is stronger, key by key', async (t) => {
  t.same(settingsFrom([]), DEFAULT_SETTINGS);
  t.match(settingsFrom([{ name: 'a', values: { interfaces: ['a+'], layout: 'chain' } }, { name: 'b', values: { interfaces: ['b+'] } }]), { interfaces: ['b+'], layout: 'chain', backend: 'auto' });
});

t.test('every setting has a variable, and every variable is read', async (t) => {
  for (const key of Object.keys(DEFAULT_SETTINGS)) {
    t.match(variableOf(key), /^IMDS_GUARD_[A-Z_]+$/);
    t.ok(key in settingsOfEnvironment({ [variableOf(key)]: '1' }).values, variableOf(key));
  }
  t.same(settingsOfEnvironment({ IMDS_GUARD_LOCK_WAIT_SECONDS: '7', IMDS_GUARD_DISCOVER: 'false', IMDS_GUARD_BRANCH_INTERFACES: ' a+ ,b+', PATH: '/bin', IMDS_GUARD_CONFIG: '/x' }).values, { lockWaitSeconds: 7, discover: false, branchInterfaces: ['a+', 'b+'] });
  t.throws(() => settingsOfEnvironment({ IMDS_GUARD_BACKND: 'nft' }), { message: /IMDS_GUARD_BACKND; did you mean IMDS_GUARD_BACKEND\?/ });
});

t.test('what Kubernetes sets beside a Service of our name is no setting, and a port is', async (t) => {
  const ofServices = {
    IMDS_GUARD_SERVICE_HOST: '10.0.0.1', IMDS_GUARD_SERVICE_PORT: '80', IMDS_GUARD_PORT: 'tcp://10.0.0.1:80', IMDS_GUARD_PORT_80_TCP: 'tcp://10.0.0.1:80', IMDS_GUARD_PORT_80_TCP_PROTO: 'tcp', IMDS_GUARD_PORT_80_TCP_PORT: '80', IMDS_GUARD_PORT_80_TCP_ADDR: '10.0.0.1',
    IMDS_GUARD_METRICS_SERVICE_HOST: 'fd00::1', IMDS_GUARD_METRICS_SERVICE_PORT_HTTP: '80', IMDS_GUARD_METRICS_PORT: 'tcp://[fd00::1]:80', IMDS_GUARD_METRICS_PORT_80_TCP_ADDR: 'fd00::1',
  };
  t.same(settingsOfEnvironment(ofServices).values, {});
  t.same(settingsOfEnvironment({ ...ofServices, IMDS_GUARD_PORT: '17000', IMDS_GUARD_METRICS_ENABLED: '1' }).values, { port: 17000, metricsEnabled: true });
  t.throws(() => settingsOfEnvironment({ IMDS_GUARD_METRICS_PORT: '17000' }), { message: /unknown variable IMDS_GUARD_METRICS_PORT/ });
});

t.test('the port is not one that a node already uses', async (t) => {
  const withPort = (port: number): number => settingsFrom([{ name: 'here', values: { port } }]).port;
  for (const [port, whose] of TAKEN_PORTS) t.throws(() => withPort(port), { name: 'UsageError', message: `here: port \`${port}\` is the port of ${whose} on EKS nodes` });
  t.match([...TAKEN_PORTS].filter(([port]) => [10250, 61678, 8003, 9100].includes(port)).length, 4);
  t.notOk(TAKEN_PORTS.has(DEFAULT_SETTINGS.port));
  for (const port of [0, 1, 16926, 65535]) t.equal(withPort(port), port);
});

t.test('a mistake names the source, the key and the value', async (t) => {
  const wrong: readonly (readonly [Record<string, unknown>, RegExp])[] = [
    [{ interfaces: [] }, /^here: interfaces.*names no interface/], [{ interfaces: ['eni +'] }, /`eni \+` is no interface name/], [{ interfaces: [3] }, /interfaces\.0 `3`/],
    [{ interfaces: ['0123456789abcdef'] }, /longer than the 15 bytes/], [{ discover: 'maybe' }, /discover `maybe`/], [{ lockWaitSeconds: 1.5 }, /not a whole number/], [{ timeoutSeconds: 0 }, /less than a second/],
    [{ port: 65536 }, /more than 65535/], [{ port: -1 }, /is negative/], [{ port: 80.5 }, /not a whole number/], [{ address: 'localhost' }, /address `localhost` is no IP address/], [{ metricsAddress: '10.0.0.256' }, /is no IP address/],
    [{ metricsEnabled: 'yes' }, /metricsEnabled `yes`/], [{ resyncSeconds: 29 }, /less than 30/], [{ resyncSeconds: 86_401 }, /more than a day/], [{ logLevel: 'trace' }, /none of error, warn, info, debug/],
    [{ backends: 'nft' }, /unknown key backends; did you mean backend\?/],
  ];
  for (const [values, says] of wrong) {
    t.throws(() => settingsFrom([{ name: 'here', values }]), UsageError);
    t.throws(() => settingsFrom([{ name: 'here', values }]), { message: says });
  }
  t.same(settingsFrom([{ name: 'here', values: { interfaces: ['0123456789abcd+'] } }]).interfaces, ['0123456789abcd+'], '15 bytes with the plus');
  t.equal(nearest('layot', ['layout', 'action']), 'layout');
});

t.test('two settings that contradict each other, from wherever they come', async (t) => {
  const both = (...values: readonly Record<string, unknown>[]) => () => settingsFrom(values.map((one, at) => ({ name: `source ${at}`, values: one })));
  t.throws(both({ action: 'reject', guard: 'none' }), { name: 'UsageError', message: /action reject and guard none/ });
  t.throws(both({ guard: 'none' }, { action: 'reject' }), { name: 'UsageError' });
  t.throws(both({ mode: 'observe', guard: 'none' }), { name: 'UsageError', message: /mode observe and guard none/ });
  t.match(both({ mode: 'observe', action: 'reject' })(), { mode: 'observe' }, 'what becomes of a packet does not matter then');
  t.throws(both({ mode: 'audit' }), { message: /mode `audit` is none of enforce, observe/ });
  t.match(both({ action: 'reject', guard: 'none' }, { guard: 'auto' })(), { action: 'reject', guard: 'auto' }, 'the last word counts');
  for (const guard of ['auto', 'plain', 'watched']) t.equal(both({ action: 'reject', guard })().guard, guard);
});

t.test('a file', async (t) => {
  t.same((await parseConfigFile('f', '# only a comment\n')).values, {});
  t.same((await parseConfigFile('f', 'interfaces:\n  - eni+\nlockWaitSeconds: 3\n')).values, { interfaces: ['eni+'], lockWaitSeconds: 3 });
  for (const text of ['- a', 'text', '3', 'a: [']) await t.rejects(parseConfigFile('f', text), { name: 'UsageError', message: /^f: / });
});
