// Prints each hash of a WebAssembly module: node run.mjs golden.wasm NAME …
import { readFileSync } from "node:fs";

const [file, ...names] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(readFileSync(file));
names.forEach((name, index) => {
  const hash = BigInt.asUintN(64, instance.exports.golden(index));
  console.log(`${name} ${hash.toString(16).padStart(16, "0")}`);
});
