import t from 'tap';
import { parseAuditRecord } from '../../agent/core/watch/audit-record.ts';

const head = 'audit(1700000000.123:456): ';
const replaced = { table: 'filter', family: 'ipv4', op: 'xt_replace', pid: 123, comm: 'iptables' };

t.test('who replaced a table, in whichever order a kernel says it', async (t) => {
  t.same(parseAuditRecord(`${head}table=filter family=2 entries=5 op=xt_replace pid=123 subj=system_u:system_r:iptables_t:s0 comm="iptables"`), replaced);
  t.same(parseAuditRecord(`${head}op=xt_replace comm="iptables" pid=123 entries=5 family=2 table=filter`), replaced);
  t.same(parseAuditRecord(`${head}table=filter family=2 entries=5 op=xt_replace pid=123 subj=/usr/bin/x (enforce) comm="iptables"\0`), replaced);
  t.same(parseAuditRecord(`${head}table=mangle family=10 entries=5 op=xt_register pid=1 comm="a"`), { table: 'mangle', family: 'ipv6', op: 'xt_register', pid: 1, comm: 'a' });
  t.match(parseAuditRecord(`${head}table=broute family=7 entries=0 op=xt_unregister pid=1 comm="a"`), { family: 'other' });
});

t.test('a kernel before 5.8 tells only that it was', async (t) => {
  t.same(parseAuditRecord(`${head}table=nat family=2 entries=4`), { table: 'nat', family: 'ipv4' });
});

t.test('a table of nft comes with its generation', async (t) => {
  t.same(parseAuditRecord(`${head}table=imds-guard:17 family=1 entries=2 op=nft_register_rule pid=9 subj=kernel comm="nft"`), { table: 'imds-guard', family: 'inet', op: 'nft_register_rule', pid: 9, comm: 'nft' });
});

t.test('a name that does not go between quotes', async (t) => {
  t.match(parseAuditRecord(`${head}table=filter family=2 entries=5 op=xt_replace pid=1 comm=612022C3B6`), { comm: 'a "Ã¶' });
  t.match(parseAuditRecord(`${head}table=filter family=2 entries=5 op=xt_replace pid=1 comm=(null)`), { comm: '(null)' });
});

t.test('a table whose name says that it was somebody else is believed in nothing', async (t) => {
  const after = ':3 family=1 entries=1 op=nft_register_table pid=66 subj=x';
  const claim = 'filter family=2 entries=5 op=xt_replace pid=1';
  for (const name of [`${claim} comm="calico"`, 'x pid=1', `${claim} comm=calico y="`, `${claim} comm="calico`, `${claim} comm="calico" y="`, `${claim} comm="" comm=calico y="`]) {
    for (const comm of ['"evil"', '6576696C20']) t.equal(parseAuditRecord(`${head}table=${name}${after} comm=${comm}`), undefined, `${name} ${comm}`);
  }
});

t.test('what is no such record', async (t) => {
  for (const text of ['', 'nonsense', head, `${head}pid=1 uid=0 auid=4294967295 msg='op=PAM'`, `${head}table=filter family=ip`, `${head}table=filter family=2 pid=-1`, 'table=filter family=2']) t.equal(parseAuditRecord(text), undefined, text);
});
