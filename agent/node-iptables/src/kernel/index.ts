export { ERRNO, KernelError, type Libc, libc } from './libc.ts';
export { type Answered, type EventListener, type EventSource, NetlinkRequests, openEvents } from './netlink-socket.ts';
export { LegacyTables } from './legacy-info.ts';
