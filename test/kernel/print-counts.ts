// Prints what the guard table of this network namespace has counted: `readCounts`, run on the lab's node.
import { NetlinkRequests } from 'node-iptables/kernel';
import { NETLINK_NETFILTER } from 'node-iptables/netlink';
import { readCounts } from '../../agent/effects/read-counts.ts';

const requests = await NetlinkRequests.open(NETLINK_NETFILTER);
process.stdout.write(JSON.stringify(readCounts(requests)));
