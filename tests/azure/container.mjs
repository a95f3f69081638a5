// Creates a container in Azurite: `node container.mjs ENDPOINT NAME`. The client that the tests use
// cannot do this. The request is signed as
// https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key describes.
import { createHmac } from "node:crypto";

// The published account and key, which are the same in every emulator.
const account = "devstoreaccount1";
const key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

const [endpoint, name] = process.argv.slice(2);
const url = new URL(`${endpoint}/${name}?restype=container`);
const headers = { "x-ms-date": new Date().toUTCString(), "x-ms-version": "2021-12-02" };
const signed = [
  "PUT",
  ...Array(11).fill(""),
  ...Object.entries(headers).map(([header, value]) => `${header}:${value}`),
  `/${account}${url.pathname}`,
  "restype:container",
].join("\n");
const signature = createHmac("sha256", Buffer.from(key, "base64")).update(signed, "utf8").digest("base64");
const answer = await fetch(url, {
  method: "PUT",
  headers: { ...headers, authorization: `SharedKey ${account}:${signature}` },
});
if (answer.status !== 201) {
  console.error(`container ${name} was not made: ${answer.status} ${await answer.text()}`);
  process.exitCode = 1;
}
