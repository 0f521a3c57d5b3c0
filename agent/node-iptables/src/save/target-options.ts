import type { Action } from '../trace/program.ts';
import { readMark } from './values.ts';
import { quoteAsSaved, quoteWhereNeeded } from './words.ts';

/** The options of a target as they were given: `--set-xmark` → ['0x1/0x1']. */
export type Given = ReadonlyMap<string, readonly string[]>;

export interface TargetOption {
  readonly values: number;
  readonly text?: (values: readonly string[]) => readonly string[];
}

/**
 * What is known of a target: its options with the number of their values, and what it does to a packet. A target that
 * is not here and has no options is a chain; with options it is unread.
 */
export interface TargetModule {
  readonly options: Readonly<Record<string, TargetOption>>;
  readonly act: (given: Given) => Action;
  /** Words iptables-save adds where none were given. */
  readonly implied?: (given: Given, family: 'ipv4' | 'ipv6') => readonly string[];
}

const NOTHING: Action = { do: 'nothing' };
const plain: TargetOption = { values: 1 };
const flag: TargetOption = { values: 0 };
const text: TargetOption = { values: 1, text: ([value]) => [quoteAsSaved(value!)] };

const simple = (act: Action): TargetModule => ({ options: {}, act: () => act });
const goesOn = (options: Readonly<Record<string, TargetOption>>): TargetModule => ({ options, act: () => NOTHING });
const unread = (options: Readonly<Record<string, TargetOption>>, why: string): TargetModule => ({ options, act: () => ({ do: 'unread', why }) });
const redirect = (options: Readonly<Record<string, TargetOption>>, to: (given: Given) => string): TargetModule => ({
  options,
  act: (given) => ({ do: 'redirect', to: to(given) }),
});

const mark: TargetOption = {
  values: 1,
  text: ([value]) => {
    const read = readMark(value!);
    return [read ? `0x${read.value.toString(16)}/0x${read.mask.toString(16)}` : quoteWhereNeeded(value!)];
  },
};

const MASKED = { nfmask: '--nfmask', ctmask: '--ctmask', mask: '--mask' } as const;

/** The five ways to write a mark, all of which the kernel holds as `(old & ~mask) ^ value` (libxt_MARK.c). */
function xmarkOf(given: Given, on: 'mark' | 'connmark'): Action | undefined {
  for (const [option, values] of given) {
    const read = readMark(values[0] ?? '');
    switch (option) {
      case '--set-xmark':
        return read && { do: 'xmark', on, ...read };
      case '--set-mark':
        return read && { do: 'xmark', on, value: read.value, mask: (read.mask | read.value) >>> 0 };
      case '--and-mark':
        return read && { do: 'xmark', on, value: 0, mask: ~read.value >>> 0 };
      case '--or-mark':
        return read && { do: 'xmark', on, value: read.value, mask: read.value };
      case '--xor-mark':
        return read && { do: 'xmark', on, value: read.value, mask: 0 };
    }
  }
  return undefined;
}

function connmarkOf(given: Given): Action | undefined {
  const save = given.has('--save-mark');
  if (!save && !given.has('--restore-mark')) return xmarkOf(given, 'connmark');
  const maskOf = (option: string): number | undefined => {
    const written = given.get(option)?.[0] ?? given.get(MASKED.mask)?.[0];
    return written === undefined ? 0xffffffff : readMark(written)?.value;
  };
  const nfmask = maskOf(MASKED.nfmask);
  const ctmask = maskOf(MASKED.ctmask);
  if (nfmask === undefined || ctmask === undefined) return undefined;
  // xt_connmark.c: save: ct = (ct & ~ctmask) ^ (nf & nfmask); restore: nf = (nf & ~nfmask) ^ (ct & ctmask).
  return save
    ? { do: 'copy-mark', to: 'connmark', toMask: ctmask, fromMask: nfmask }
    : { do: 'copy-mark', to: 'mark', toMask: nfmask, fromMask: ctmask };
}

const markOptions = { '--set-xmark': mark, '--set-mark': plain, '--and-mark': plain, '--or-mark': plain, '--xor-mark': plain };
const natOptions = { '--random': flag, '--random-fully': flag, '--persistent': flag };

/** iptables-extensions(8), TARGET EXTENSIONS. */
export const TARGETS: Readonly<Record<string, TargetModule>> = {
  ACCEPT: simple({ do: 'accept' }),
  DROP: simple({ do: 'drop', how: 'DROP' }),
  RETURN: simple({ do: 'return' }),
  REJECT: {
    options: { '--reject-with': plain },
    act: () => ({ do: 'drop', how: 'REJECT' }),
    implied: (given, family) =>
      given.has('--reject-with') ? [] : ['--reject-with', family === 'ipv4' ? 'icmp-port-unreachable' : 'icmp6-port-unreachable'],
  },
  LOG: goesOn({
    '--log-prefix': text,
    '--log-level': plain,
    '--log-tcp-sequence': flag,
    '--log-tcp-options': flag,
    '--log-ip-options': flag,
    '--log-uid': flag,
    '--log-macdecode': flag,
  }),
  NFLOG: goesOn({ '--nflog-group': plain, '--nflog-prefix': text, '--nflog-range': plain, '--nflog-size': plain, '--nflog-threshold': plain }),
  ULOG: goesOn({ '--ulog-nlgroup': plain, '--ulog-prefix': text, '--ulog-cprange': plain, '--ulog-qthreshold': plain }),
  MARK: { options: markOptions, act: (given) => xmarkOf(given, 'mark') ?? { do: 'blur', on: 'mark' } },
  CONNMARK: {
    options: { ...markOptions, '--save-mark': flag, '--restore-mark': flag, '--nfmask': plain, '--ctmask': plain, '--mask': plain, '--left-shift-mark': plain, '--right-shift-mark': plain },
    act: (given) =>
      given.has('--left-shift-mark') || given.has('--right-shift-mark')
        ? { do: 'unread', why: 'shifts a mark' }
        : (connmarkOf(given) ?? { do: 'unread', why: 'a mark that cannot be read' }),
  },
  HMARK: { options: {}, act: () => ({ do: 'blur', on: 'mark' }) },
  DNAT: redirect({ '--to-destination': plain, ...natOptions }, (given) => given.get('--to-destination')?.[0] ?? 'elsewhere'),
  REDIRECT: redirect({ '--to-ports': plain, ...natOptions }, (given) => `this node, port ${given.get('--to-ports')?.[0] ?? 'unchanged'}`),
  TPROXY: redirect({ '--on-port': plain, '--on-ip': plain, '--tproxy-mark': plain }, (given) => `a local socket, port ${given.get('--on-port')?.[0] ?? '?'}`),
  // A source that is translated does not change whether the packet goes on.
  SNAT: { options: { '--to-source': plain, ...natOptions }, act: () => ({ do: 'accept', translates: 'source' }) },
  MASQUERADE: { options: { '--to-ports': plain, ...natOptions }, act: () => ({ do: 'accept', translates: 'source' }) },
  NETMAP: unread({ '--to': plain }, 'translates whole networks'),
  NOTRACK: simple({ do: 'notrack' }),
  CT: {
    options: { '--notrack': flag, '--helper': plain, '--ctevents': plain, '--expevents': plain, '--zone': plain, '--zone-orig': plain, '--zone-reply': plain, '--timeout': plain },
    // Without --notrack the packet gets a template for a connection: rules in raw see NEW from there on, and a later
    // NOTRACK does nothing (xt_CT.c: `if (skb->_nfct != 0) return`). Measured.
    act: (given) => (given.has('--notrack') ? { do: 'notrack' } : { do: 'unread', why: 'gives the packet a connection before conntrack does' }),
  },
  TRACE: goesOn({}),
  AUDIT: goesOn({ '--type': plain }),
  CLASSIFY: goesOn({ '--set-class': plain }),
  CHECKSUM: goesOn({ '--checksum-fill': flag }),
  DSCP: goesOn({ '--set-dscp': plain, '--set-dscp-class': plain }),
  TOS: goesOn({ '--set-tos': plain, '--and-tos': plain, '--or-tos': plain, '--xor-tos': plain }),
  ECN: goesOn({ '--ecn-tcp-remove': flag }),
  TCPMSS: goesOn({ '--set-mss': plain, '--clamp-mss-to-pmtu': flag }),
  TCPOPTSTRIP: goesOn({ '--strip-options': plain }),
  IDLETIMER: goesOn({ '--timeout': plain, '--label': plain, '--alarm': flag }),
  LED: goesOn({ '--led-trigger-id': plain, '--led-delay': plain, '--led-always-blink': flag }),
  RATEEST: goesOn({ '--rateest-name': plain, '--rateest-interval': plain, '--rateest-ewmalog': plain }),
  SECMARK: goesOn({ '--selctx': plain }),
  CONNSECMARK: goesOn({ '--save': flag, '--restore': flag }),
  SET: {
    options: { '--add-set': { values: 2 }, '--del-set': { values: 2 }, '--map-set': { values: 2 }, '--exist': flag, '--timeout': plain, '--map-mark': flag, '--map-prio': flag, '--map-queue': flag },
    act: (given) => (given.has('--map-mark') ? { do: 'blur', on: 'mark' } : NOTHING),
  },
  TTL: unread({ '--ttl-set': plain, '--ttl-dec': plain, '--ttl-inc': plain }, 'changes how far the packet goes'),
  HL: unread({ '--hl-set': plain, '--hl-dec': plain, '--hl-inc': plain }, 'changes how far the packet goes'),
  TEE: unread({ '--gateway': plain, '--oif': plain }, 'sends a copy of the packet elsewhere'),
  NFQUEUE: unread({ '--queue-num': plain, '--queue-balance': plain, '--queue-bypass': flag, '--queue-cpu-fanout': flag }, 'a program decides about the packet'),
  QUEUE: unread({}, 'a program decides about the packet'),
  SYNPROXY: unread({ '--mss': plain, '--wscale': plain, '--sack-perm': flag, '--timestamp': flag, '--ecn': flag }, 'the kernel answers in place of the destination'),
};
