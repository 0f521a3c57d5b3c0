// Everybody who rewrites a node's firewall, each as a program that does nothing else.
import { release } from 'node:os';
import type { Backend, Family } from '../kernel/guard.ts';
import type { Lab, Pod } from '../lab/lab.ts';
import { felix } from './felix.ts';
import { loop, stream, together, type Running } from './running.ts';

/** What an adversary needs to know, and to reach. */
export interface Field {
  readonly lab: Lab;
  readonly backend: Backend;
  /** The rules of imds-guard, as they stood before. */
  readonly ours: readonly OurRule[];
  /** SIGKILL, and a new one at once. */
  killDaemon(): Promise<void>;
}

export interface OurRule {
  readonly family: Family;
  readonly table: string;
  /** `-A FORWARD -d … -j DROP` */
  readonly line: string;
}

export type Adversary = (field: Field) => Running;

const families = ['ipv4', 'ipv6'] as const;
const tables = ['filter', 'mangle', 'nat', 'raw', 'security'] as const;
const program = (family: Family, backend: Backend, what = ''): string => `${family === 'ipv4' ? 'iptables' : 'ip6tables'}-${backend}${what}`;
const mark = '# round';

/** A restore that never ends: transactions as they come, each followed by a line that it prints (--verbose prints comments). */
const restoring = ({ lab }: Field, family: Family, backend: Backend, lines: readonly string[], options: { readonly flush?: boolean; readonly first?: string } = {}): Running =>
  stream({
    namespace: lab.node,
    program: [program(family, backend, '-restore'), '--verbose', '--wait', ...(options.flush === true ? [] : ['--noflush'])],
    script: [...lines, mark, ''].join('\n'),
    mark,
    ...(options.first === undefined ? {} : { first: options.first }),
  });

/** nft says nothing of what it did, so it is asked something else now and then. */
const nft = ({ lab }: Field, lines: readonly string[], times: number): Running =>
  stream({
    namespace: lab.node,
    program: ['nft', '-i'],
    script: [...Array<readonly string[]>(times).fill(lines).flat(), 'describe meta mark', ''].join('\n'),
    mark: 'meta expression',
    rounds: times,
  });

/** `iptables -F; iptables -X` in every table, both backends. */
const flushed: Adversary = field =>
  together(families.flatMap(family => (['nft', 'legacy'] as const).map(backend => restoring(field, family, backend, tables.flatMap(table => [`*${table}`, '-F', '-X', 'COMMIT'])))));

/** `nft flush ruleset`, as firewalld and every /etc/nftables.conf begin. */
const ruleset: Adversary = field => nft(field, ['flush ruleset'], 10);

/** iptables-restore of a file that was saved without our rules. */
const restored: Adversary = field =>
  together(
    families.map(family =>
      restoring(
        field, family, field.backend,
        ['*filter', ':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]', '-A FORWARD -i eni+ -j ACCEPT', 'COMMIT',
          '*mangle', ':PREROUTING ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':POSTROUTING ACCEPT [0:0]', '-A PREROUTING -i eni+ -j MARK --set-xmark 0x80/0x80', 'COMMIT'],
        { flush: true },
      ),
    ),
  );

/** `iptables -D` of each of our rules. One that is not there fails, so each is a process. */
const deleted: Adversary = ({ lab, backend, ours }) =>
  together(families.map(family => loop(lab.node, ours.filter(one => one.family === family).map(({ table, line }) => `${program(family, backend)} -w -t ${table} ${line.replace('-A', '-D')} 2>/dev/null`))));

/** ACCEPT above whatever is there. Of two of them one goes when the other comes, so that they do not pile up. */
const accepted: Adversary = field =>
  together(
    families.map(family => {
      const places = [['filter', 'FORWARD'], ['mangle', 'FORWARD'], ['mangle', 'POSTROUTING']] as const;
      const rule = (chain: string, name: string): string => `${chain} -m comment --comment "on top: ${name}" -j ACCEPT`;
      const swap = (comes: string, goes: string): string[] => places.flatMap(([table, chain]) => [`*${table}`, `-I ${rule(chain, comes)}`, `-D ${rule(chain, goes)}`, 'COMMIT']);
      const first = places.flatMap(([table, chain]) => [`*${table}`, `-I ${rule(chain, 'odd')}`, 'COMMIT']);
      return restoring(field, family, field.backend, [...swap('even', 'odd'), mark, ...swap('odd', 'even')], { first: `${first.join('\n')}\n` });
    }),
  );

/** Felix, before v3.27 for its timers: the quicker of the two. */
const calico: Adversary = ({ lab }) => felix(lab, { refreshSeconds: 90, postWriteSeconds: 1 });
/** Felix since v3.27. */
const calicoNow: Adversary = ({ lab }) => felix(lab);

/** The guard table itself: deleted; and emptied, put to sleep, accepted in. A refusal takes nft as long as a success. */
const unguarded: Adversary = field =>
  together([
    nft(field, ['delete table inet imds-guard'], 1),
    nft(
      field,
      ['imds-guard', 'imds-guard-owned'].flatMap(name => [
        `flush table inet ${name}`,
        `delete chain inet ${name} forward`,
        `table inet ${name} { flags dormant; }`,
        `insert rule inet ${name} forward accept`,
        `chain inet ${name} forward { policy accept; }`,
      ]),
      1,
    ),
  ]);

/** Policies of the chains that packets of pods pass, to DROP and back. What it leaves is ACCEPT: a DROP that stays would hide a leak. */
const policies: Adversary = field => {
  const lines = (policy: 'drop' | 'accept'): string[] => ['ip', 'ip6'].flatMap(family => ['filter', 'mangle'].map(table => `chain ${family} ${table} FORWARD { policy ${policy}; }`));
  const legacy = (policy: 'DROP' | 'ACCEPT'): string[] => ['filter', 'mangle'].flatMap(table => [`*${table}`, `:FORWARD ${policy} [0:0]`, 'COMMIT']);
  const both = together([nft(field, [...lines('drop'), ...lines('accept')], 5), ...families.map(family => restoring(field, family, 'legacy', [...legacy('DROP'), ...legacy('ACCEPT')]))]);
  return {
    ...both,
    stop: async () => {
      await both.stop();
      const { lab } = field;
      await lab.exec(lab.node, 'nft', ['-i'], { stdin: `${lines('accept').join('\n')}\n` });
      for (const family of families) await lab.exec(lab.node, program(family, 'legacy', '-restore'), ['--noflush', '--wait'], { stdin: `${legacy('ACCEPT').join('\n')}\n` });
    },
  };
};

/** Interfaces of pods get other names, known and unknown ones, and back; other pods come and go. */
const links: Adversary = ({ lab }) => {
  const names = Object.values<Pod>(lab.pods).flatMap(({ hostInterface, hostInterface4 }) => [hostInterface, hostInterface4]).filter(name => name !== '');
  const turns = names.map((name, at) => [name, `eniother${at}`, `cali${at}`, `pod${at}`, name]);
  const renames = [0, 1, 2, 3].flatMap(turn => turns.map(turn_ => rename(turn_[turn] ?? '', turn_[turn + 1] ?? '')));
  const back = turns.flatMap(([name = '', ...others]) => others.slice(0, -1).map(other => rename(other, name)));
  const ip = (script: readonly string[], first: readonly string[] = []): Running =>
    stream({ namespace: lab.node, program: ['ip', '-oneline', '-force', '-batch', '-'], script: `${[...script, 'link show lo'].join('\n')}\n`, mark: '1: lo', first: first.map(line => `${line}\n`).join('') });
  const renaming = ip(renames, back);
  const others = [0, 1, 2, 3].flatMap(at => [`link add eni0ther${at} type veth peer name peer${at}`, `link set eni0ther${at} up`]);
  const coming = ip([...others, ...[0, 1, 2, 3].map(at => `link del eni0ther${at}`)]);
  const both = together([renaming, coming]);
  return {
    ...both,
    stop: async () => {
      await both.stop();
      await lab.exec(lab.node, 'ip', ['-force', '-batch', '-'], { stdin: back.map(line => `${line}\n`).join('') });
    },
  };
};

/**
 * Since Linux 6.2 an interface that is up can be renamed. Before, it goes down, and the routes to its pod with it: then no
 * answer can come back, and only what arrives at IMDS tells.
 */
const rename = (from: string, to: string): string => (renamesWhileUp ? `link set ${from} name ${to}` : `link set ${from} down\nlink set ${from} name ${to}\nlink set ${to} up`);
const [major = 0, minor = 0] = release().split('.').map(Number);
const renamesWhileUp = major > 6 || (major === 6 && minor >= 2);

/** SIGKILL about three times a second, whatever it is doing, and a new one at once. */
const killed: Adversary = field => {
  let kills = 0;
  let trouble = '';
  let stopped = false;
  const killing = (async () => {
    while (!stopped) {
      // At any point of its life: no two in a row live as long.
      await new Promise(later => setTimeout(later, livesMs[kills % livesMs.length]));
      if (stopped) return;
      await field.killDaemon();
      kills += 1;
    }
  })();
  killing.catch((error: unknown) => (trouble = String(error)));
  return {
    rounds: () => kills,
    trouble: () => trouble,
    stop: async () => {
      stopped = true;
      await killing;
    },
  };
};
const livesMs = [100, 400, 200, 500, 300, 250, 350];

/** Who rewrites, as long as the daemon lives. */
const writers = { flushed, ruleset, restored, deleted, accepted, calico, 'calico-now': calicoNow, unguarded, policies, links } as const;

const allOf = (adversaries: readonly Adversary[]): Adversary => field => together(adversaries.map(adversary => adversary(field)));
const { ruleset: _ruleset, unguarded: _unguarded, ...withoutDeletion } = writers;

export const adversaries = {
  ...writers,
  killed,
  together: allOf(Object.values(writers)),
  /** All but those who can delete a table whose owner is dead. */
  'together-killed': allOf([...Object.values(withoutDeletion), killed]),
  'ruleset-killed': allOf([ruleset, killed]),
  'unguarded-killed': allOf([unguarded, killed]),
  'all-killed': allOf([...Object.values(writers), killed]),
} as const satisfies Record<string, Adversary>;
export type AdversaryName = keyof typeof adversaries;

export const alone = Object.keys(writers) as readonly (keyof typeof writers)[];
