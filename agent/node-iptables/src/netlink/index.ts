/** What the kernel says over netlink of nf_tables and of links, and what is said to it. Pure: bytes in, values out. */
export * from './message.ts';
export * from './nf-tables.ts';
export * from './expression.ts';
export * from './rule-text.ts';
export * from './rule-concern.ts';
export * from './link.ts';
export * from './route.ts';
export * from './batch.ts';
export * from './set-elements.ts';
export * from './x-tables.ts';
export * from './socket-filter.ts';
export * from './tcp-frame.ts';
