import t from 'tap';
import { DROP, Folder, ofPods, check, run, saved } from './program.ts';

const folder = new Folder();
t.teardown(() => folder.remove());
const good = folder.file('good.txt', saved(DROP));
const config = (name: string, text: string): string => folder.file(name, text);

interface Mistake {
  readonly args: readonly string[];
  readonly says: RegExp;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
}
const mistakes: readonly Mistake[] = [
  { args: [], says: /a command is needed: apply, check/ },
  { args: ['chek'], says: /unknown command chek; did you mean check\?/ },
  { args: ['check', '--outptu', 'json'], says: /outptu/ },
  { args: ['check', '--output', 'xml'], says: /output.*"xml".*"text", "json", "npd"/ },
  { args: ['check', '--output'], says: /output/ },
  { args: ['check', '--output', 'json', '--output', 'text'], says: /--output is given twice/ },
  { args: ['check', '--from', '/no/such/file'], says: /--from \/no\/such\/file cannot be read: ENOENT/ },
  { args: ['check', '--from', '/tmp'], says: /--from \/tmp cannot be read: EISDIR/ },
  { args: ['check', '--from', ''], says: /--from takes a value/ },
  ...['backend', 'family', 'table', 'mark'].map((name): Mistake => ({ args: ['check', `--from-${name}`, { backend: 'nft', family: 'ipv4', table: 'nat', mark: '1' }[name]!], says: new RegExp(`--from-${name} .*needs --from`) })),
  ...['zz', '0x', '0x1ffffffff', '4294967296', '-1', '1/2'].map((mark): Mistake => ({ args: ['check', '--from', good, `--from-mark=${mark}`], says: /--from-mark.*number of 32 bits/ })),
  { args: ['check', '--from', good, '--from-backend', 'xtables'], says: /from-backend.*"nft", "legacy"/ },
  { args: ['check', '--from', good, 'extra'], says: /extra/ },
  { args: ['check', '--from', good, 'more', 'extra'], says: /extra/ },
  { args: ['check', '--', '--from', good], says: /--from/ },
  { args: ['check', 'check'], says: /check/ },
  { args: ['check', '--from', good, '--format', 'svg'], says: /format/ },
  { args: ['check', '--dry-run'], says: /dry-run$/m },
  // Begins with an option that there is.
  { args: ['check', '--from', good, '--probe-interval', '60'], says: /Unknown argument: probe-interval/ },
  { args: ['check', '--from', good, '--output-format', 'json'], says: /Unknown argument: output-format/ },
  { args: ['check', '--timeout', 'soon'], says: /--timeout takes a number/ },
  { args: ['check', '--from', good, '--timeout', '0'], says: /timeout.*less than a second/i },
  { args: ['check', '--from', good, '--interface', 'abcdefghijklmnop'], says: /`abcdefghijklmnop` is longer than the 15 bytes/ },
  { args: ['check', '--from', good, '--interface', 'éééééééé'], says: /longer than the 15 bytes/ },
  { args: ['check', '--from', good, '--interface', 'a/b'], says: /`a\/b` is no interface name/ },
  { args: ['check', '--from', good, '--interface', 'e+i'], says: /`\+` that is not at its end/ },
  { args: ['check', '--from', good, '--interface', ''], says: /--interface takes a value/ },
  { args: ['explain', '--from', good, '--target', 'zzz'], says: /--target zzz.*eni\+ ipv4, vlan\+ ipv4/ },
  { args: ['explain', '--from', good, '--output', 'npd'], says: /npd is for check and apply/ },
  { args: ['check', '--from', good, '--config', config('typo.yaml', 'interfacs: [eni+]')], says: /typo\.yaml: unknown key interfacs; did you mean interfaces\?/ },
  { args: ['check', '--from', good, '--config', config('proto.yaml', 'constructor: 1')], says: /unknown key constructor/ },
  { args: ['check', '--from', good, '--config', config('broken.yaml', ': : [')], says: /broken\.yaml: not YAML or JSON/ },
  { args: ['check', '--from', good, '--config', config('list.yaml', '- eni+')], says: /list\.yaml: a list of `key: value` was expected/ },
  { args: ['check', '--from', good, '--config', config('text.yaml', 'interfaces: eni+')], says: /interfaces `eni\+`: expected Array/ },
  { args: ['check', '--from', good, '--config', config('choice.yaml', 'layout: chains')], says: /layout `chains` is none of documented, chain/ },
  { args: ['check', '--from', good, '--config', '/no/such/config'], says: /config file \/no\/such\/config cannot be read/ },
  ...([
    ['interfacs: [eni+]', /standard input: unknown key interfacs; did you mean interfaces\?/],
    ['{"interfaces": ["eni+"', /standard input: not YAML or JSON/],
    [': : [', /standard input: not YAML or JSON/],
    ['- eni+', /standard input: a list of `key: value` was expected/],
    ['"eni+"', /standard input: a list of `key: value` was expected/],
    ['{"guard": "owned"}', /standard input: guard `owned` is none of auto, plain, none, watched/],
    ['\0\xff', /standard input: /],
  ] as const).map(([input, says]): Mistake => ({ args: ['check', '--from', good, '--config', '-'], input, says })),
  { args: ['check', '--from', '-', '--config', '-'], input: '', says: /standard input holds either the settings \(--config -\) or a ruleset/ },
  { args: ['check', '--from', '-', '--from', good], env: { IMDS_GUARD_CONFIG: '-' }, says: /standard input holds either/ },
  { args: ['apply', '--guard', 'owned'], says: /guard.*"owned".*"auto", "plain", "none", "watched"/ },
  { args: ['apply', '--guard'], says: /--guard takes a value|guard/ },
  { args: ['check', '--from', good, '--guard', 'none'], says: /guard/ },
  { args: ['remove', '--guard', 'none'], says: /guard/ },
  ...['apply', 'rules', 'watch'].map((command): Mistake => ({ args: [command, '--action', 'reject', '--guard', 'none'], says: /action reject and guard none do not go together: .*REJECT in mangle$/m })),
  { args: ['apply', '--action', 'reject', '--config', config('none.yaml', 'guard: none')], says: /action reject and guard none do not go together/ },
  { args: ['apply', '--guard', 'none'], env: { IMDS_GUARD_ACTION: 'reject' }, says: /action reject and guard none do not go together/ },
  { args: ['rules'], env: { IMDS_GUARD_GUARD: 'all' }, says: /the environment: guard `all` is none of auto, plain, none, watched/ },
  { args: ['check', '--from', good, '--port', '17000'], says: /port/ },
  { args: ['watch', '--from', good], says: /from/ },
  { args: ['watch', '--port', '10250'], says: /port `10250` is the port of kubelet on EKS nodes/ },
  { args: ['watch', '--port', 'http'], says: /--port takes a number/ },
  { args: ['watch', '--address', 'localhost'], says: /address `localhost` is no IP address/ },
  { args: ['watch', '--metrics-address', 'eth0'], says: /metricsAddress `eth0` is no IP address/ },
  { args: ['watch', '--resync', '1'], says: /resyncSeconds `1` is less than 30/ },
  { args: ['watch', '--log-level', 'trace'], says: /log-level.*"trace".*"error", "warn", "info", "debug"/ },
  { args: ['watch'], env: { IMDS_GUARD_PORT: '61678' }, says: /port `61678` is the port of the VPC CNI's metrics/ },
  { args: ['watch', '--config', config('port.yaml', 'port: 8003')], says: /port\.yaml: port `8003` is the port of the EKS node monitoring agent's metrics/ },
  { args: ['check', '--from', good], env: { IMDS_GUARD_CONFIG: '/no/such/config' }, says: /\/no\/such\/config cannot be read/ },
  { args: ['check', '--from', good], env: { IMDS_GUARD_INTERFACS: 'eni+' }, says: /unknown variable IMDS_GUARD_INTERFACS; did you mean IMDS_GUARD_INTERFACES\?/ },
  { args: ['check', '--from', good], env: { IMDS_GUARD_LOCK_WAIT_SECONDS: 'long' }, says: /lockWaitSeconds `long`/ },
];

t.test('a mistake is one line on stderr, exit 64, and nothing on stdout', async (t) => {
  for (const { args, says, env, input } of mistakes) {
    const { status, stdout, stderr } = run(args, { ...(env ? { env } : {}), ...(input === undefined ? {} : { input }) });
    const asked = `${args.join(' ')}${input === undefined ? '' : ` < ${JSON.stringify(input)}`}`;
    t.match({ status, stdout, lines: stderr.split('\n').length, stderr }, { status: 64, stdout: '', lines: 2, stderr: /^imds-guard: / }, asked);
    t.match(stderr, says, asked);
  }
});

t.test('help, version and completion', async (t) => {
  for (const args of [['--help'], ['-h'], ['check', '--help'], ['--version'], ['completion']]) {
    const { status, stdout, stderr } = run(args);
    t.match({ status, stderr }, { status: 0, stderr: '' }, args.join(' '));
    t.ok(stdout.endsWith('\n') && stdout.length > 4, args.join(' '));
  }
  t.match(run(['--version']).stdout, /^\d+\.\d+\.\d+\n$/);
  t.match(run(['--help']).stdout, /apply[\s\S]*check[\s\S]*explain[\s\S]*rules[\s\S]*remove[\s\S]*watch[\s\S]*64/);
  for (const option of ['--from', '--from-mark', '--interface', '--output', '--config']) t.ok(run(['check', '--help']).stdout.includes(option), option);
  for (const option of ['--port', '--address', '--metrics', '--metrics-address', '--resync', '--log-level', '--backend', '--lock-wait']) t.ok(run(['watch', '--help']).stdout.includes(option), option);
});

t.test('a file is weaker than the environment, and that than the command line', async (t) => {
  const yaml = config('good.yaml', 'interfaces: [fromfile+]\nbranchInterfaces: [branch+]\n');
  const names = (args: readonly string[], env: Readonly<Record<string, string>> = {}, input = ''): string[] =>
    (JSON.parse(run(['check', '--from', good, '--output', 'json', ...args], { env, input }).stdout) as { targets: { name: string }[] }).targets.map(({ name }) => name);
  t.same(names([]), ['eni+ ipv4', 'vlan+ ipv4'], 'defaults');
  t.same(names(['--config', yaml]), ['fromfile+ ipv4', 'branch+ ipv4']);
  t.same(names([], { IMDS_GUARD_CONFIG: yaml }), ['fromfile+ ipv4', 'branch+ ipv4']);
  t.same(names(['--config', yaml], { IMDS_GUARD_INTERFACES: 'fromenv+, other+' }), ['fromenv+ ipv4', 'other+ ipv4', 'branch+ ipv4']);
  t.same(names(['--config', yaml, '--interface', 'fromflag+', '--interface=second+'], { IMDS_GUARD_INTERFACES: 'fromenv+' }), ['fromflag+ ipv4', 'second+ ipv4', 'branch+ ipv4']);
  t.same(names(['--config', config('json.json', '{"interfaces": ["json+"]}')]), ['json+ ipv4', 'vlan+ ipv4'], 'JSON is YAML');
  t.same(names(['--config', config('empty.yaml', '')]), ['eni+ ipv4', 'vlan+ ipv4'], 'an empty file decides nothing');
  t.same(names(['--config', '-'], {}, 'interfaces: [piped+] # YAML\n'), ['piped+ ipv4', 'vlan+ ipv4'], 'from standard input');
  t.same(names(['--config', '-'], {}, '{"interfaces":["piped+"],"branchInterfaces":["b+"]}'), ['piped+ ipv4', 'b+ ipv4'], 'as JSON');
  t.same(names(['--config', '-', '--interface', 'fromflag+'], { IMDS_GUARD_BRANCH_INTERFACES: 'fromenv+' }, '{"interfaces":["piped+"],"branchInterfaces":["b+"]}'), ['fromflag+ ipv4', 'fromenv+ ipv4'], 'and weaker all the same');
  for (const input of ['', '\n', '# only a comment\n', '---\n', '{}', 'null']) t.same(names(['--config', '-'], {}, input), ['eni+ ipv4', 'vlan+ ipv4'], `${JSON.stringify(input)} decides nothing`);
  t.same(names([], { IMDS_GUARD_CONFIG: '-' }, 'interfaces: [piped+]'), ['piped+ ipv4', 'vlan+ ipv4'], 'where the variable says so');
  t.same(names([], { IMDS_GUARD_SERVICE_HOST: '10.0.0.1', IMDS_GUARD_PORT: 'tcp://10.0.0.1:80' }), ['eni+ ipv4', 'vlan+ ipv4'], 'variables that Kubernetes makes are none of ours');
});

t.test('the file may come through standard input', async (t) => {
  const { status, stdout } = run(['check', '--from', '-', '--branch-interface', 'eni+', '--output', 'npd'], { input: saved(DROP) });
  t.match({ status, stdout }, { status: 0, stdout: 'blocked EveryPacketDropped\n' });
});

t.test('hints where the file cannot tell', async (t) => {
  const bare = folder.file('bare.txt', '-P FORWARD ACCEPT\n-A FORWARD -i eni+ -j DROP\n');
  t.equal(ofPods(check([bare])).answer, 'blocked');
  t.equal(ofPods(check([bare], '--from-table', 'mangle')).answer, 'blocked');
  t.equal(ofPods(check([bare], '--from-table', 'nat')).answer, 'open', 'nat has no FORWARD that the kernel would call');
  t.equal(ofPods(check([bare], '--from-family', 'ipv6'), 'ipv6').answer, 'blocked');
  t.match(check([bare]).assumed.join('\n'), /--from-family[\s\S]*--from-backend[\s\S]*--from-table/);
});
