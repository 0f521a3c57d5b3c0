import type { Family } from '../sets/address.ts';

/**
 * How the x_tables code of the kernel describes a table of iptables-legacy (uapi/linux/netfilter_ipv4/ip_tables.h). Nobody is
 * told when such a table changes; but it is always replaced as a whole, and its size and its bytes can be asked for.
 */
export interface LegacyInfo {
  /** The hooks that have a built-in chain, a bit each. */
  readonly hooks: number;
  /** Where the built-in chains begin, and where their policies are. Moves when a chain grows. */
  readonly offsets: readonly number[];
  /** Rules, the policies and heads of chains among them. */
  readonly entries: number;
  /** Bytes. */
  readonly size: number;
}

export const NAME_BYTES = 32;
/** struct ipt_getinfo, and ip6t_getinfo */
export const INFO_BYTES = 84;
/** struct ipt_get_entries before its entries, which are aligned to 8 */
export const ENTRIES_HEAD_BYTES = 40;

/** The name, 32 bytes, then valid_hooks, hook_entry[5], underflow[5], num_entries, size. */
export function decodeInfo(bytes: Buffer): LegacyInfo {
  const offsets = Array.from({ length: 10 }, (_, at) => bytes.readUInt32LE(36 + 4 * at));
  return { hooks: bytes.readUInt32LE(32), offsets, entries: bytes.readUInt32LE(76), size: bytes.readUInt32LE(80) };
}

export const isSameInfo = (one: LegacyInfo, other: LegacyInfo): boolean =>
  one.hooks === other.hooks && one.entries === other.entries && one.size === other.size && one.offsets.every((offset, at) => offset === other.offsets[at]);

/** Whether anything is in it but the policy of each built-in chain and the entry that ends a table. */
export const hasRules = ({ hooks, entries }: LegacyInfo): boolean => entries > bitsOf(hooks) + 1;

const bitsOf = (bits: number): number => (bits === 0 ? 0 : (bits & 1) + bitsOf(bits >>> 1));

/**
 * A number for all that the entries say, 64 bits of it, with the packet and byte counters left out: those alone change by
 * themselves. What matches and targets remember (limit, quota, statistic, hashlimit) the kernel keeps from whoever asks
 * (xt_data_to_user, since 4.11). Undefined when the bytes are no list of entries.
 */
export function shapeOf(entries: Buffer, family: Family): string | undefined {
  const words = wordsOf(entries);
  const { next, counters } = ENTRY[family];
  // Two sums of Murmur 3, each of every other word, so that neither waits for the other.
  let [one, two] = [0, 0x9747b28c | 0];
  for (let at = 0; at < words.length; ) {
    const length = words[at + next]! >>> 18; // next_offset is the upper half, in bytes
    if (length <= counters || at + length > words.length) return undefined;
    for (let word = 0; word < length; word += 2) {
      if (word === counters || word === counters + 2) continue;
      one = mix(one, words[at + word]!);
      two = mix(two, words[at + word + 1]!);
    }
    at += length;
  }
  return `${hex(one)}${hex(two)}`;
}

function mix(sum: number, word: number): number {
  let scrambled = Math.imul(word, 0xcc9e2d51);
  scrambled = Math.imul((scrambled << 15) | (scrambled >>> 17), 0x1b873593);
  const mixed = sum ^ scrambled;
  return (Math.imul((mixed << 13) | (mixed >>> 19), 5) + 0xe6546b64) | 0;
}

/**
 * Where things are in an entry, in words of 4 bytes. struct ipt_entry: ipt_ip 84 bytes, nfcache, target_offset and next_offset
 * (u16 both), comefrom, counters (two u64). In ip6t_entry the addresses take 136 bytes, and the counters are aligned to 8.
 */
const ENTRY: Readonly<Record<Family, { readonly next: number; readonly counters: number }>> = {
  ipv4: { next: 88 / 4, counters: 96 / 4 },
  ipv6: { next: 140 / 4, counters: 152 / 4 },
};

/** Without a copy where the bytes begin at a word, as those that the kernel has filled do. */
function wordsOf(bytes: Buffer): Int32Array {
  const { buffer, byteOffset } = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes);
  return new Int32Array(buffer, byteOffset, bytes.length >> 2);
}

const hex = (word: number): string => (word >>> 0).toString(16).padStart(8, '0');
