// Lets a client of Google Cloud Storage's XML API use an S3 server: `node translate.mjs TARGET`.
// The requests of both APIs are the same, except for the precondition of a write: for Google,
// generation 0 means that the object must not exist. Prints the address on which it listens.
import { createServer, request } from "node:http";

const target = new URL(process.argv[2]);
const server = createServer((asked, answer) => {
  const headers = { ...asked.headers };
  // This token does not belong to any account.
  delete headers.authorization;
  const generation = headers["x-goog-if-generation-match"];
  if (generation !== undefined) {
    if (generation !== "0") {
      answer.writeHead(501).end(`generation ${generation} means nothing to S3`);
      return;
    }
    delete headers["x-goog-if-generation-match"];
    headers["if-none-match"] = "*";
  }
  const options = { host: target.hostname, port: target.port, method: asked.method, path: asked.url, headers };
  const passed = request(options, (got) => {
    answer.writeHead(got.statusCode, got.headers);
    got.pipe(answer);
  });
  passed.on("error", () => answer.destroy());
  asked.pipe(passed);
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
