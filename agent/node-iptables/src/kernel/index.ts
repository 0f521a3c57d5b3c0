export { ERRNO, KernelError, type Libc, libc } from './libc.ts';
export { type Answered, type EventListener, type EventSource, NetlinkRequests, openEvents } from './netlink-socket.ts';
export { LegacyTables } from './legacy-info.ts';
export { NetworkNamespaces } from './network-namespaces.ts';
export { type Tapped, PacketTap } from './packet-tap.ts';
export { openTcpSocket } from './tcp-socket.ts';
