import t from 'tap';
import { MOST_ANSWER_BYTES, readHttpAnswer } from '../../agent/core/probe/http-answer.ts';
import { isToken, metadataRequest, tokenRequest } from '../../agent/core/probe/request.ts';

const ok = (headers: string, body: string): string => `HTTP/1.1 200 OK\r\n${headers}\r\n\r\n${body}`;
const whole = ok('Server: EC2ws\r\nContent-Length: 5', 'token');

t.test('an answer is read however it comes in pieces', async (t) => {
  for (let at = 0; at < whole.length; at += 1) t.same(readHttpAnswer(whole.slice(0, at), false), { is: 'unfinished' }, `${at} bytes`);
  t.same(readHttpAnswer(whole, false), { is: 'answered', status: 200, body: 'token' });
  t.same(readHttpAnswer(`${whole}more`, false), { is: 'answered', status: 200, body: 'token' });
});

t.test('the end is told by a length, by chunks, or by the end', async (t) => {
  t.same(readHttpAnswer(ok('Transfer-Encoding: chunked', '5\r\ntoken\r\n0\r\n\r\n'), false), { is: 'answered', status: 200, body: 'token' });
  t.same(readHttpAnswer(ok('Transfer-Encoding: chunked', '5\r\ntok'), false), { is: 'unfinished' });
  t.same(readHttpAnswer(ok('A: b', 'tok'), false), { is: 'unfinished' });
  t.same(readHttpAnswer(ok('A: b', 'token'), true), { is: 'answered', status: 200, body: 'token' });
  t.same(readHttpAnswer('HTTP/1.0 401 Unauthorized\r\nContent-Length: 0\r\n\r\n', false), { is: 'answered', status: 401, body: '' });
  t.same(readHttpAnswer('HTTP/1.1 403\r\nContent-Length: 0\r\n\r\n', false), { is: 'answered', status: 403, body: '' }, 'a reason need not be given');
});

t.test('what is no answer is told at once, and never read for ever', async (t) => {
  t.match(readHttpAnswer('SSH-2.0-OpenSSH', false), { is: 'garbage' });
  t.match(readHttpAnswer('\0\0\0', false), { is: 'garbage' });
  t.match(readHttpAnswer('', true), { is: 'garbage', because: /without an answer/ });
  t.match(readHttpAnswer(whole.slice(0, -1), true), { is: 'garbage', because: /breaks off/ });
  t.match(readHttpAnswer('HTTP/1.1 999 No\r\n\r\n', false), { is: 'garbage' });
  t.match(readHttpAnswer(`HTTP/1.1 200 OK\r\n${'A: b\r\n'.repeat(MOST_ANSWER_BYTES)}`, false), { is: 'garbage', because: /headers without end/ });
  t.match(readHttpAnswer(ok('Transfer-Encoding: chunked', 'zz\r\n'), false), { is: 'garbage' });
  t.match(readHttpAnswer(ok('Transfer-Encoding: chunked', 'f'.repeat(1000)), false), { is: 'garbage' });
  t.match(readHttpAnswer(ok('Content-Length: 999999999', 'x'.repeat(MOST_ANSWER_BYTES)), false), { is: 'answered' }, 'a huge body: the status is enough');
  t.match(readHttpAnswer(ok('A: b', 'x'.repeat(MOST_ANSWER_BYTES + 1)), false), { is: 'answered' }, 'and one without end');
});

t.test('nothing but a token goes into a header, and two paths are asked for', async (t) => {
  t.ok(isToken('AQAEAHx_3w-0=='));
  for (const text of ['', 'a b', 'a\r\nX: y', 'é', 'x'.repeat(257)]) t.notOk(isToken(text), JSON.stringify(text));
  t.match(tokenRequest('ipv4', 'imds-guard/1'), /^PUT \/latest\/api\/token HTTP\/1\.1\r\nHost: 169\.254\.169\.254\r\nUser-Agent: imds-guard\/1\r\n[^]*ttl-seconds: 1\r\n[^]*\r\n\r\n$/);
  t.match(metadataRequest('ipv6', 'imds-guard/1', 'T'), /^GET \/latest\/meta-data\/ HTTP\/1\.1\r\nHost: \[fd00:ec2::254\]\r\n[^]*X-aws-ec2-metadata-token: T\r\n/);
  t.notMatch(metadataRequest('ipv4', 'imds-guard/1'), /token/);
});
