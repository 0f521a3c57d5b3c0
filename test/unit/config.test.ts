import t from 'tap';
import { UsageError, nearest, parseConfigFile, settingsFrom, settingsOfEnvironment, variableOf } from '../../agent/config.ts';
import { DEFAULT_SETTINGS } from '../../agent/core/settings.ts';

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

t.test('a mistake names the source, the key and the value', async (t) => {
  const wrong: readonly (readonly [Record<string, unknown>, RegExp])[] = [
    [{ interfaces: [] }, /^here: interfaces.*names no interface/], [{ interfaces: ['eni +'] }, /`eni \+` is no interface name/], [{ interfaces: [3] }, /interfaces\.0 `3`/],
    [{ interfaces: ['0123456789abcdef'] }, /longer than the 15 bytes/], [{ discover: 'maybe' }, /discover `maybe`/], [{ lockWaitSeconds: 1.5 }, /not a whole number/], [{ timeoutSeconds: 0 }, /less than a second/],
    [{ backends: 'nft' }, /unknown key backends; did you mean backend\?/],
  ];
  for (const [values, says] of wrong) {
    t.throws(() => settingsFrom([{ name: 'here', values }]), UsageError);
    t.throws(() => settingsFrom([{ name: 'here', values }]), { message: says });
  }
  t.same(settingsFrom([{ name: 'here', values: { interfaces: ['0123456789abcd+'] } }]).interfaces, ['0123456789abcd+'], '15 bytes with the plus');
  t.equal(nearest('layot', ['layout', 'action']), 'layout');
});

t.test('a file', async (t) => {
  t.same((await parseConfigFile('f', '# only a comment\n')).values, {});
  t.same((await parseConfigFile('f', 'interfaces:\n  - eni+\nlockWaitSeconds: 3\n')).values, { interfaces: ['eni+'], lockWaitSeconds: 3 });
  for (const text of ['- a', 'text', '3', 'a: [']) await t.rejects(parseConfigFile('f', text), { name: 'UsageError', message: /^f: / });
});
