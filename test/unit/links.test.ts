import t from 'tap';
import { readLinks } from '../../agent/effects/links.ts';
import type { Print } from '../../agent/effects/observe-node.ts';

const pod = JSON.stringify([{ ifindex: 7, ifname: 'eni1', link_index: 3, link_netnsid: 0, link_type: 'ether', linkinfo: { info_kind: 'veth' } }]);
const clsact = JSON.stringify([{ kind: 'clsact', dev: 'eni1' }]);
/** Programs by the first words of their command line; what is not named is not installed. */
const printing = (answers: Readonly<Record<string, string>>): Print => async (program, args) =>
  Object.entries(answers).find(([line]) => `${program} ${args.join(' ')}`.startsWith(line))?.[1];
const looked = async (answers: Readonly<Record<string, string>>) => {
  const links = await readLinks(printing(answers), '/nowhere');
  const programs = await links.programsOn(['eni+']);
  return { ...programs, assumed: [...links.assumed, ...programs.assumed] };
};

t.test('a pod interface without any program: packets start with no mark', async (t) => {
  t.match(await looked({ 'ip -j -d link': pod, 'tc -j qdisc': '[]' }), { mayMark: false, bypasses: [], assumed: [] });
});

t.test('who could not list the links, or the programs on them, does not say that there are none', async (t) => {
  for (const answers of [{}, { 'ip -j -d link': 'Option "-j" is unknown' }, { 'ip -j -d link': pod }, { 'ip -j -d link': pod, 'tc -j qdisc': 'qdisc clsact ffff: dev eni1' }]) {
    const { mayMark, assumed } = await looked(answers);
    t.equal(mayMark, true, JSON.stringify(answers));
    t.ok(assumed.length > 0, assumed.join());
  }
});

t.test('filters that tc does not show are a way past the rules, not none', async (t) => {
  for (const filters of [{}, { 'tc -j -batch': 'filter protocol all pref 1 bpf' }]) {
    const { bypasses } = await looked({ 'ip -j -d link': pod, 'tc -j qdisc': clsact, ...filters });
    t.match(bypasses, [/filters on eni1 that tc does not show/]);
  }
});

t.test('the VPC CNI policy agent is known, another program is a doubt', async (t) => {
  const filter = (name: string) => ({ 'ip -j -d link': pod, 'tc -j qdisc': clsact, 'tc -j -batch': `${JSON.stringify([{ kind: 'bpf' }, { kind: 'bpf', options: { bpf_name: name } }])}\n` });
  t.match(await looked(filter('handle_egress')), { mayMark: true, bypasses: [] });
  t.match((await looked(filter('cali_tc_preamble'))).bypasses, [/cali_tc_preamble on eni1/]);
});
