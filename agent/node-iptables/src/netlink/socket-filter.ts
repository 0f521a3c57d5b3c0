import type { Family } from '../sets/address.ts';

/** One instruction of a classic BPF program (struct sock_filter, linux/filter.h). Jumps count instructions to skip. */
export interface Instruction {
  readonly code: number;
  readonly jumpTrue: number;
  readonly jumpFalse: number;
  readonly k: number;
}

/** BPF_LD and BPF_LDX of the packet's bytes, comparisons, the end. */
const LOAD_BYTE = 0x30;
const LOAD_HALF = 0x28;
const LOAD_WORD = 0x20;
/** Of the packet's byte at X + k. */
const LOAD_HALF_INDEXED = 0x48;
/** X = 4 * (byte at k & 0xf): the length of an IPv4 header. */
const LOAD_HEADER_LENGTH = 0xb1;
const SHIFT_RIGHT = 0x74;
const JUMP_EQUAL = 0x15;
const JUMP_SET = 0x45;
const JUMP = 0x05;
const RETURN = 0x06;

const TCP = 6;
const FRAGMENT_OFFSET = 0x1fff;
const IPV6_HEADER_BYTES = 40;

export interface Endpoint {
  readonly family: Family;
  /** In network order: 4 or 16 bytes. */
  readonly address: readonly number[];
  readonly port: number;
}

/**
 * Lets through TCP packets to and from these endpoints, as far as `keepBytes`, from packets that begin with the IP header.
 * Fragments but the first, and IPv6 extension headers, are not looked into.
 */
export function tcpFilter(endpoints: readonly Endpoint[], keepBytes: number): Instruction[] {
  const program = new Program();
  program.add(LOAD_BYTE, 0).add(SHIFT_RIGHT, 4);
  for (const family of ['ipv4', 'ipv6'] as const) {
    const next = program.label();
    program.unless(JUMP_EQUAL, family === 'ipv4' ? 4 : 6, next);
    const { protocol, source, destination } = OFFSET[family];
    program.add(LOAD_BYTE, protocol).unless(JUMP_EQUAL, TCP, 'drop');
    if (family === 'ipv4') program.add(LOAD_HALF, 6).when(JUMP_SET, FRAGMENT_OFFSET, 'drop').add(LOAD_HEADER_LENGTH, 0);
    for (const endpoint of endpoints.filter((one) => one.family === family)) {
      for (const [at, port] of [[destination, 2], [source, 0]] as const) {
        const other = program.label();
        for (let word = 0; word < endpoint.address.length; word += 4) program.add(LOAD_WORD, at + word).unless(JUMP_EQUAL, wordOf(endpoint.address, word), other);
        if (family === 'ipv4') program.add(LOAD_HALF_INDEXED, port);
        else program.add(LOAD_HALF, IPV6_HEADER_BYTES + port);
        program.when(JUMP_EQUAL, endpoint.port, 'keep').place(other);
      }
    }
    program.jump('drop').place(next);
  }
  return program.end(keepBytes);
}

const OFFSET = { ipv4: { protocol: 9, source: 12, destination: 16 }, ipv6: { protocol: 6, source: 8, destination: 24 } } as const;
const wordOf = (bytes: readonly number[], at: number): number => ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;

type Label = number | 'drop' | 'keep';

/** Instructions with names for places, which become distances at the end. */
class Program {
  private readonly lines: { readonly code: number; readonly k: number; readonly to?: { readonly label: Label; readonly when: boolean } }[] = [];
  private readonly places = new Map<Label, number>();
  private labels = 0;

  label(): Label {
    return (this.labels += 1);
  }

  place(label: Label): this {
    this.places.set(label, this.lines.length);
    return this;
  }

  add(code: number, k: number): this {
    this.lines.push({ code, k });
    return this;
  }

  when(code: number, k: number, label: Label): this {
    this.lines.push({ code, k, to: { label, when: true } });
    return this;
  }

  unless(code: number, k: number, label: Label): this {
    this.lines.push({ code, k, to: { label, when: false } });
    return this;
  }

  jump(label: Label): this {
    this.lines.push({ code: JUMP, k: 0, to: { label, when: true } });
    return this;
  }

  end(keepBytes: number): Instruction[] {
    this.place('drop').add(RETURN, 0).place('keep').add(RETURN, keepBytes);
    return this.lines.map(({ code, k, to }, at) => {
      if (!to) return { code, k, jumpTrue: 0, jumpFalse: 0 };
      const distance = this.places.get(to.label)! - at - 1;
      if (code === JUMP) return { code, k: distance, jumpTrue: 0, jumpFalse: 0 };
      return { code, k, jumpTrue: to.when ? distance : 0, jumpFalse: to.when ? 0 : distance };
    });
  }
}
