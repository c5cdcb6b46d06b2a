// The same as server.py for node, without words: it ends with its standard input.
import http from 'node:http';

const server = http.createServer((request, response) => response.end('hello\n'));
server.on('error', (error) => {
  console.log(`failed ${error.errno}`);
  process.exit(1);
});
server.listen(Number(process.argv[2]), () => console.log(`port ${server.address().port}`));
process.stdin.on('end', () => process.exit(0)).resume();
