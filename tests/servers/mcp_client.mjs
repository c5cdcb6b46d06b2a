// The official SDK's client: reads steps as JSON on standard input and prints what each gave.
// node mcp_client.mjs DIRECTORY [ROOT]: the server's working directory, and the root that the client offers.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { ListRootsRequestSchema, ResourceUpdatedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [cwd, root] = process.argv.slice(2);
const steps = JSON.parse(readFileSync(0, 'utf8'));
const transport = new StdioClientTransport({ command: 'portctl', args: ['mcp'], cwd, env: process.env, stderr: 'inherit' });
const client = new Client({ name: 'test', version: '1' }, { capabilities: root ? { roots: {} } : {} });
if (root) {
  client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: [{ uri: pathToFileURL(root).href, name: 'root' }] }));
}
let updated;
const firstUpdate = new Promise((resolve) => { updated = resolve; });
client.setNotificationHandler(ResourceUpdatedNotificationSchema, (message) => updated(message.params.uri));
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
  updated: () => firstUpdate,
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
