// Serves one file at 127.0.0.1, whatever is asked for: `node file-server.ts FILE PORT`. Says `listening` when it does.
import { createReadStream } from 'node:fs';
import { createServer } from 'node:http';

const [file = '', port = ''] = process.argv.slice(2);
createServer((_request, response) => void createReadStream(file).pipe(response)).listen(Number(port), '127.0.0.1', () => console.log('listening'));
