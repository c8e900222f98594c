// Translates stdin to stdout through the page, in headless Chromium:
//
//     node check.mjs MODEL.tflite TOKENIZER.model < in > out
//
// CHROMIUM names the browser; /usr/bin/chromium if it is not set.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

const FOLDER = fileURLToPath(new URL(".", import.meta.url));
const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".wasm": "application/wasm",
};
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const LOAD_MS = 60_000;
const LINE_MS = 10_000;

/** Serves this folder, with `files` in it by name, on a free port of localhost. */
async function serve(files) {
  const server = createServer(async (request, response) => {
    const name = new URL(request.url, "http://localhost").pathname.slice(1) || "index.html";
    const path = files[name] ?? FOLDER + name;
    try {
      const body = await readFile(path);
      response.writeHead(200, { "Content-Type": TYPES[extname(path)] ?? "application/octet-stream" });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject).listen(0, "127.0.0.1", resolve);
  });
  return server;
}

/** Waits until the page is ready; throws what it says where it failed. */
async function ready(page, timeout) {
  const handle = await page.waitForFunction(
    () => {
      const { dataset, textContent } = document.getElementById("status");
      return ["ready", "failed"].includes(dataset.state) && { ...dataset, textContent };
    },
    null,
    { timeout },
  );
  const { state, textContent } = await handle.jsonValue();
  if (state === "failed") throw new Error(textContent);
  console.error(textContent);
}

async function translate(page, address, lines) {
  const elsewhere = [];
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(address) && !/^(data|blob):/.test(url)) elsewhere.push(url);
  });
  // What stops the page before it can say so, such as a module that is not there.
  const broken = new Promise((_, reject) => {
    page.on("pageerror", reject);
    page.on("response", (response) => {
      const { pathname } = new URL(response.url());
      if (response.status() >= 400 && pathname.startsWith("/node_modules/")) {
        reject(new Error(`There is no ${pathname.slice(1)}: run npm install.`));
      }
    });
  });
  const work = async () => {
    await page.goto(`${address}/?model=model.tflite&tokenizer=tokenizer.model`);
    await ready(page, LOAD_MS);
    await page.fill("#source", lines.join("\n"));
    await page.click("button");
    await ready(page, LOAD_MS + LINE_MS * lines.length);
    return page.textContent("#target");
  };
  const output = await Promise.race([work(), broken]);
  if (elsewhere.length) throw new Error(`The page asked for ${elsewhere[0]}.`);
  const translations = output.split("\n");
  if (translations.length !== lines.length) {
    throw new Error(`The page gave ${translations.length} lines for ${lines.length}.`);
  }
  return translations;
}

async function main([model, tokenizer, ...rest]) {
  if (!tokenizer || rest.length) throw new Error("usage: check.mjs MODEL.tflite TOKENIZER.model < in > out");
  const { chromium } = await import("playwright-core");
  const input = (await text(process.stdin)).replace(/\r\n?/g, "\n");
  const lines = input.replace(/\n$/, "").split("\n");
  if (!input) return;
  const server = await serve({ "model.tflite": model, "tokenizer.model": tokenizer });
  let browser;
  try {
    browser = await chromium.launch({
      executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
      args: FLAGS,
    });
    const page = await browser.newPage();
    const address = `http://127.0.0.1:${server.address().port}`;
    const translations = await translate(page, address, lines);
    process.stdout.write(translations.join("\n") + "\n");
  } finally {
    await browser?.close();
    server.close();
    server.closeAllConnections();
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`check: ${error.message.split("\n")[0]}`);
  process.exitCode = 2;
});
