import { CT_DIRECTION, CT_STATE, type Doubt, type PacketClass, TCP_FLAGS, doubting } from '../packet/packet-class.ts';
import { UNKNOWN_BITS } from '../sets/bits.ts';

/** One packet of a conversation, made from what the conversation has come to and from the packet that was asked about. */
export type Turn = (conversation: PacketClass, asked: PacketClass) => PacketClass;

/** What has to pass after the first packet. The answer to a handshake is no answer yet: rules know SYN,ACK from data. */
export const turnsAfter = (asked: PacketClass): readonly Turn[] =>
  (asked.ctstate & CT_STATE.NEW) !== 0 ? [replyTo, dataAfter, answerTo] : [replyTo, dataAfter];

/** What is left of a conversation when this much of a turn has passed. */
export const keeping = (through: PacketClass, conversation: PacketClass, turn: Turn): PacketClass =>
  turn === dataAfter ? { ...conversation, ...narrowed(through) } : requestOf(through, conversation);

/** The answer to a request that passed: the same connection seen the other way, a new packet with no mark yet. */
const replyTo = (request: PacketClass, asked: PacketClass): PacketClass => ({
  ...followed(request),
  iif: request.oif,
  oif: request.iif,
  src: request.dst,
  dst: request.src,
  sport: request.dport,
  dport: request.sport,
  // An answer to an untracked request belongs to no connection that conntrack knows.
  ctstate: request.ctstate === CT_STATE.UNTRACKED ? CT_STATE.INVALID : CT_STATE.ESTABLISHED,
  ctdir: CT_DIRECTION.REPLY,
  ctstatus: UNKNOWN_BITS,
  mark: asked.mark,
  flags: { known: TCP_FLAGS.SYN | TCP_FLAGS.ACK | TCP_FLAGS.FIN | TCP_FLAGS.RST, value: asked.ctstate === CT_STATE.NEW ? TCP_FLAGS.SYN | TCP_FLAGS.ACK : TCP_FLAGS.ACK },
});

/** What the server sends once the handshake is done. */
const answerTo = (request: PacketClass, asked: PacketClass): PacketClass => ({ ...replyTo(request, asked), flags: ESTABLISHED_FLAGS });
const ESTABLISHED_FLAGS = { known: TCP_FLAGS.SYN | TCP_FLAGS.ACK | TCP_FLAGS.FIN | TCP_FLAGS.RST, value: TCP_FLAGS.ACK };

/** The part of a request whose answer came through. */
const requestOf = (reply: PacketClass, request: PacketClass): PacketClass => ({
  ...request,
  iif: reply.oif,
  oif: reply.iif,
  src: reply.dst,
  dst: reply.src,
  sport: reply.dport,
  dport: reply.sport,
  connmark: reply.connmark,
  doubts: followed(reply).doubts,
});

/**
 * Where one side of a conversation is not tracked, conntrack takes the other side's packets for the middle of something
 * it has missed: the handshake's are INVALID, later ones may be NEW, and meet the nat chains again (tcp_new,
 * nf_conntrack_tcp_loose). What becomes of them is not followed.
 */
const followed = (packet: PacketClass): PacketClass =>
  (packet.ctstate & CT_STATE.UNTRACKED) === 0 ? packet : doubting(packet, UNFOLLOWED);
export const UNFOLLOWED: Doubt = { kind: 'state', why: 'depends on what conntrack makes of half a conversation', at: undefined };

/** What the client sends once the handshake is done. */
const dataAfter = (request: PacketClass, asked: PacketClass): PacketClass => ({
  ...request,
  ctstate: request.ctstate === CT_STATE.UNTRACKED ? CT_STATE.NEW : CT_STATE.ESTABLISHED,
  ctdir: CT_DIRECTION.ORIGINAL,
  ctstatus: UNKNOWN_BITS,
  mark: asked.mark,
  flags: ESTABLISHED_FLAGS,
});

/** What the walk of the data says about the conversation: all but what belongs to the single packet. */
const narrowed = ({ iif, oif, src, dst, sport, dport, connmark, doubts }: PacketClass): Partial<PacketClass> => ({ iif, oif, src, dst, sport, dport, connmark, doubts });
