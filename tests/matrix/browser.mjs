// Opens each page given as an argument in Chromium, all at the same time as somebody with several tabs has them, and prints
// as JSON what each shows and what became of its websockets.
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => existsSync(path));
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
const pages = [];
for (const url of process.argv.slice(2)) {
    const page = await (await browser.newContext()).newPage();
    const seen = { url, text: "", sockets: [], errors: [] };
    page.on("console", (message) => { if (message.type() === "error") { seen.errors.push(message.text()); } });
    page.on("pageerror", (error) => seen.errors.push(String(error)));
    page.on("websocket", (socket) => {
        const entry = { url: socket.url(), received: 0, closed: false };
        seen.sockets.push(entry);
        socket.on("framereceived", () => { entry.received += 1; });
        socket.on("close", () => { entry.closed = true; });
        socket.on("socketerror", () => { entry.closed = true; });
    });
    await page.goto(url, { waitUntil: "load", timeout: 90000 });
    pages.push({ page, seen });
}
for (const { page, seen } of pages) {
    // Until a websocket has said something: the event, or its absence after some seconds, is the answer.
    for (let waited = 0; waited < 15000 && !seen.sockets.some((entry) => entry.received > 0); waited += 100) { await page.waitForTimeout(100); }
    seen.text = await page.evaluate(() => document.body.innerText);
}
console.log(JSON.stringify(pages.map(({ seen }) => seen)));
await browser.close();
