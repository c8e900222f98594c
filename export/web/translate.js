import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { SentencePieceProcessor } from "@sctg/sentencepiece-js";

const WASM = new URL("./node_modules/@litertjs/core/wasm/", import.meta.url).href;
const END_ID = 3;

/** Translates lines with a .tflite model and the SentencePiece model it was trained with. */
export class Translator {
  /** Downloads both; throws an Error whose message is for the user. */
  static async load(modelUrl, tokenizerUrl) {
    const [model, tokenizer] = await Promise.all([download(modelUrl), download(tokenizerUrl)]);
    const translator = new Translator();
    translator.tokenizer = await loadTokenizer(tokenizer, tokenizerUrl);
    translator.signature = await loadSignature(model, modelUrl);
    translator.sourceLength = translator.signature.getInputDetails()[0].shape[1];
    return translator;
  }

  /** Translates one line, cut to the length that the model takes; an empty one gives an empty one. */
  async translate(line) {
    const encoded = this.tokenizer.encodeIds(line);
    const row = new Int32Array(this.sourceLength);
    row.set([...encoded.slice(0, this.sourceLength - 1), END_ID]);
    const truncated = encoded.length >= this.sourceLength;
    const source = new Tensor(row, [1, this.sourceLength]);
    try {
      const outputs = await this.signature.run({ source });
      const ids = [...outputs.ids.toTypedArray()];
      // Tensors live in WebAssembly memory, which is not garbage-collected.
      Object.values(outputs).forEach((tensor) => tensor.delete());
      return { text: this.tokenizer.decodeIds(ids.slice(0, ids.indexOf(END_ID))), truncated };
    } finally {
      source.delete();
    }
  }
}

async function download(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`Cannot load ${url}: ${response.status} ${response.statusText}.`);
  return new Uint8Array(await response.arrayBuffer());
}

async function loadTokenizer(bytes, url) {
  const tokenizer = new SentencePieceProcessor();
  await tokenizer.load(bytes);
  // It does not tell that it could not read a model: it then finds no tokens in anything.
  if (tokenizer.encodeIds("a").length === 0) throw new Error(`${url} is not a SentencePiece model.`);
  return tokenizer;
}

async function loadSignature(bytes, url) {
  await loadLiteRt(WASM);
  let model;
  try {
    model = await loadAndCompile(bytes, { accelerator: "wasm" });
  } catch (error) {
    throw new Error(`LiteRT.js cannot load ${url}: ${error.message}`);
  }
  const signature = Object.values(model.signatures).find(takesOneSourceOfFixedLength);
  if (!signature) {
    // LiteRT.js refuses every input for a model of unknown shape, [-1, -1].
    throw new Error(`${url} has no signature from source [1, S] to ids, S being a fixed length.`);
  }
  return signature;
}

function takesOneSourceOfFixedLength(signature) {
  const [source, ...others] = signature.getInputDetails();
  return (
    source.name === "source" &&
    others.length === 0 &&
    source.shape[0] === 1 &&
    source.shape[1] > 0 &&
    signature.getOutputDetails().some(({ name }) => name === "ids")
  );
}

async function main() {
  const [form] = document.forms;
  const [source, target, status] = ["source", "target", "status"].map((id) => document.getElementById(id));
  const button = form.querySelector("button");
  let translator;
  const show = (state, text) => {
    status.dataset.state = state;
    status.textContent = text;
    button.disabled = !translator || state === "translating";
  };
  // Runs what the user asked for; whatever goes wrong is shown.
  const attempt = async (task) => {
    try {
      const start = performance.now();
      const done = await task();
      show("ready", `${done} in ${((performance.now() - start) / 1000).toFixed(2)} s.`);
    } catch (error) {
      console.error(error);
      show("failed", error.message);
    }
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    show("translating", "Translating …");
    target.value = "";
    attempt(async () => {
      const lines = source.value.split("\n");
      const translations = [];
      let cut = 0;
      for (const line of lines) {
        // A turn of the event loop, so that the page shows what is done so far.
        await new Promise((resolve) => setTimeout(resolve));
        const { text, truncated } = await translator.translate(line);
        translations.push(text);
        cut += truncated;
        target.value = translations.join("\n");
      }
      const count = `Translated ${lines.length} ${lines.length === 1 ? "line" : "lines"}`;
      return cut ? `${count}, ${cut} cut for being too long,` : count;
    });
  });

  const query = new URLSearchParams(location.search);
  await attempt(async () => {
    translator = await Translator.load(
      query.get("model") ?? "model.tflite",
      query.get("tokenizer") ?? "tokenizer.model",
    );
    return "Loaded";
  });
}

main();
