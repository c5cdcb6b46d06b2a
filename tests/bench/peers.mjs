// What other programs do to find a port: each of the npm packages as its documentation says, a JSON file with a lock, and,
// under portwrap, nothing at all.
//   node peers.mjs time NAME ROUNDS [FILE]     microseconds of one pick, the median
//   node peers.mjs race NAME [FILE]            picks, waits 200 ms, binds, says "bound PORT" or why not, and keeps it until stdin ends
import fs from "node:fs";
import net from "node:net";
import { setTimeout as wait } from "node:timers/promises";

const [what, name, ...rest] = process.argv.slice(2);
const FIRST = 3000;
const LAST = 3999;

const pickers = {
  async "get-port"() {
    const { default: getPort, portNumbers } = await import("get-port");
    return () => getPort({ port: portNumbers(FIRST, LAST) });
  },
  async portfinder() {
    const { default: portfinder } = await import("portfinder");
    return () => portfinder.getPortPromise({ port: FIRST, stopPort: LAST });
  },
  async "detect-port"() {
    const { detect } = await import("detect-port");
    return () => detect(FIRST);
  },
  /// As registries in a JSON file do it: lock, read, choose, write, unlock.
  async "json-file"() {
    const { default: lockfile } = await import("proper-lockfile");
    const file = rest.at(-1);
    return async () => {
      const unlock = await lockfile.lock(file, { retries: { retries: 1000, minTimeout: 1, maxTimeout: 20 }, stale: 60000 });
      try {
        const taken = JSON.parse(fs.readFileSync(file, "utf8"));
        let port = FIRST;
        while (taken[port]) port++;
        taken[port] = { pid: process.pid, at: new Date().toISOString() };
        const fd = fs.openSync(`${file}.tmp`, "w");
        fs.writeSync(fd, JSON.stringify(taken, null, 2));
        fs.fdatasyncSync(fd);
        fs.closeSync(fd);
        fs.renameSync(`${file}.tmp`, file);
        return port;
      } finally {
        await unlock();
      }
    };
  },
  /// The program that does not know: its number is in its code.
  async portwrap() {
    return async () => FIRST;
  },
};

const pick = await pickers[name]();
if (what === "time") {
  const times = [];
  for (let i = 0; i < Number(rest[0]); i++) {
    const begin = process.hrtime.bigint();
    await pick();
    times.push(Number(process.hrtime.bigint() - begin) / 1000);
  }
  times.sort((a, b) => a - b);
  console.log(times[times.length >> 1]);
} else {
  const port = await pick();
  await wait(200);
  const server = net.createServer();
  server.on("error", (error) => {
    console.log(error.code);
    process.exit(0);
  });
  server.listen(port, () => console.log(`bound ${server.address().port}`));
  process.stdin.on("end", () => process.exit(0)).resume();
}
