import { KernelError, type Libc, libc, openEvents } from 'node-iptables/kernel';
import { messageBytes, messagesOf } from 'node-iptables/netlink';
import { type AuditRecord, NETFILTER_CFG, parseAuditRecord } from '../core/watch/audit-record.ts';

export type Audit =
  /** `because`: whether there will be any records could not be asked. */
  | { readonly state: 'read'; readonly because?: string; close(): void }
  | { readonly state: 'absent'; readonly because: string };

/**
 * Who changed a table of iptables-legacy: nothing but the kernel's audit tells. Since Linux 3.16 its records can be read
 * beside auditd (group 1 of NETLINK_AUDIT, CAP_AUDIT_READ). Nothing is asked for, switched on, or made a rule of: where the
 * machine does not audit, this stays absent.
 *
 * A record comes a moment after the change, through a thread of the kernel, and for every network namespace of the
 * machine: who a process is, and whether it is of this node, is to be asked of /proc. Records only come to the network
 * namespace that the machine started in.
 */
export async function readAudit(onRecord: (record: AuditRecord) => void): Promise<Audit> {
  try {
    const enabled = isEnabled(await libc());
    if (enabled === false) return { state: 'absent', because: 'auditing is off in this kernel (audit=1, auditctl -e 1)' };
    const message = (datagram: Buffer): void => {
      for (const text of textsOf(datagram)) {
        const record = parseAuditRecord(text);
        if (record !== undefined) onRecord(record);
      }
    };
    // Records that were lost name nobody: that is all that comes of it.
    const events = await openEvents({ protocol: NETLINK_AUDIT, groups: [AUDIT_NLGRP_READLOG], receiveBytes: RECEIVE_BYTES }, { message, error: () => {} });
    return { state: 'read', ...(enabled === true ? {} : { because: `whether auditing is on may not be asked: ${enabled.message}` }), close: () => events.close() };
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return { state: 'absent', because: BECAUSE[error.code] ?? error.message };
  }
}

const NETLINK_AUDIT = 9;
const AUDIT_NLGRP_READLOG = 1;
const RECEIVE_BYTES = 256 * 1024;

const BECAUSE: Readonly<Record<string, string>> = { EPROTONOSUPPORT: 'this kernel has no audit (CONFIG_AUDIT)', EPERM: 'it may not be read without CAP_AUDIT_READ' };

/** A record is a datagram. Up to Linux 3.16 its header leaves itself out of the length, so the end of the datagram counts. */
function textsOf(datagram: Buffer): readonly string[] {
  if (datagram.length < 16 || datagram.readUInt16LE(4) !== NETFILTER_CFG) return [];
  return [datagram.toString('latin1', 16)];
}

const AUDIT_GET = 1000;
const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const NLM_F_REQUEST = 1;
const NLMSG_ERROR = 2;
const WAIT_MICROSECONDS = 200_000n;

/**
 * `enabled` of struct audit_status. To be asked from the first pid and user namespaces only, with CAP_AUDIT_CONTROL; a container
 * that may read the log mostly may not ask. The answer comes from a thread of the kernel, a moment later.
 *
 * @throws KernelError EPROTONOSUPPORT
 */
function isEnabled(c: Libc): boolean | KernelError {
  const fd = c.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT);
  if (fd < 0) throw new KernelError('audit', c.errno());
  try {
    const timeout = Buffer.alloc(16); // struct timeval
    timeout.writeBigUInt64LE(WAIT_MICROSECONDS, 8);
    c.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length);
    const request = messageBytes({ type: AUDIT_GET, flags: NLM_F_REQUEST, body: Buffer.alloc(0) });
    const room = Buffer.alloc(1024);
    const received = c.send(fd, request, request.length, 0) < 0 ? -1 : c.recv(fd, room, room.length, 0);
    if (received < 0) return new KernelError('AUDIT_GET', c.errno());
    const [answer] = messagesOf(room.subarray(0, received));
    if (answer?.type === NLMSG_ERROR) return new KernelError('AUDIT_GET', -answer.body.readInt32LE(0));
    return answer?.type === AUDIT_GET && answer.body.readUInt32LE(4) !== 0;
  } finally {
    c.close(fd);
  }
}
