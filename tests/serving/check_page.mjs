// Uses the server's page as a person would, with the keyboard and on two screens:
//
//     node check_page.mjs URL TEXT FOLDER
//
// prints what it found as JSON, and writes wide.png and narrow.png into the folder.

import { join } from "node:path";
import { createRequire } from "node:module";

const [address, text, folder] = process.argv.slice(2);
const require = createRequire(new URL("../../export/web/", import.meta.url));
const { chromium } = require("playwright-core");
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu"],
});
try {
  const page = await browser.newPage({ viewport: { width: 1200, height: 800 } });
  const elsewhere = [];
  page.on("request", (request) => {
    if (!request.url().startsWith(address)) elsewhere.push(request.url());
  });
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  await page.goto(address);
  await page.waitForSelector("#source option", { state: "attached" });
  await page.selectOption("#count", "2");
  await page.focus("#text"); // From here on the keyboard alone.
  await page.keyboard.type(text);
  await page.keyboard.press("Control+Enter");
  await page.waitForSelector(".sentence .word[tabindex]");
  const words = page.locator(".sentence .word[tabindex]");
  await words.first().focus();
  const lit = await page.locator(".lit").allTextContents();
  await page.screenshot({ path: join(folder, "wide.png"), fullPage: true });
  await page.setViewportSize({ width: 360, height: 640 });
  const tooWide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  await page.screenshot({ path: join(folder, "narrow.png"), fullPage: true });
  const found = {
    translation: await page.textContent("#translation"),
    alternatives: await page.locator(".more li").count(),
    unnamed: await page.evaluate(() =>
      [...document.querySelectorAll("select, input, textarea, output, button")]
        .filter((each) => !each.labels?.length && !each.ariaLabel && !each.textContent.trim())
        .map((each) => each.id)),
    lit, tooWide, elsewhere, errors,
  };
  console.log(JSON.stringify(found));
} finally {
  await browser.close();
}
