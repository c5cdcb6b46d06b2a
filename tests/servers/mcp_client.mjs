// The official SDK's client: reads steps as JSON on standard input and prints what each gave.
// node mcp_client.mjs DIRECTORY [ROOT]: the server's working directory, and the root that the client offers.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { ListRootsRequestSchema, ResourceUpdatedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { execSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [cwd, root] = process.argv.slice(2);
const steps = JSON.parse(readFileSync(0, 'utf8'));
const transport = new StdioClientTransport({ command: 'portctl', args: ['mcp'], cwd, env: process.env, stderr: 'inherit' });
const client = new Client({ name: 'test', version: '1' }, { capabilities: root ? { roots: {} } : {} });
if (root) {
  client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: [{ uri: pathToFileURL(root).href, name: 'root' }] }));
}
const updates = [];
let wake = () => {};
client.setNotificationHandler(ResourceUpdatedNotificationSchema, (message) => {
  updates.push(message.params.uri);
  wake();
});
// Until an update has come that nobody has taken yet.
async function nextUpdate() {
  while (updates.length === 0) {
    await new Promise((resolve) => { wake = resolve; });
  }
  return updates.shift();
}
await client.connect(transport);

const run = {
  tools: () => client.listTools(),
  ping: () => client.ping(),
  server: () => ({ ...client.getServerVersion(), capabilities: client.getServerCapabilities() }),
  call: (name, args) => client.callTool({ name, arguments: args }),
  together: (name, list) => Promise.all(list.map((args) => client.callTool({ name, arguments: args }))),
  resources: () => client.listResources(),
  read: (uri) => client.readResource({ uri }),
  subscribe: (uri) => client.subscribeResource({ uri }),
  unsubscribe: (uri) => client.unsubscribeResource({ uri }),
  updated: nextUpdate,
  // The stream begins, or what has changed: until nothing is left that is told already.
  'updates so far': () => updates.splice(0).length,
  shell: (command) => execSync(command, { cwd, encoding: 'utf8' }),
  cancel: async (name, args) => {
    const controller = new AbortController();
    const call = client.callTool({ name, arguments: args }, undefined, { signal: controller.signal });
    controller.abort('never mind');
    return call.then(() => 'answered', () => 'cancelled');
  },
};
const results = [];
for (const [step, ...args] of steps) {
  try {
    results.push((await run[step](...args)) ?? null);
  } catch (error) {
    results.push({ thrown: error.code ?? null, message: error.message });
  }
}
console.log(JSON.stringify(results));
await client.close();
