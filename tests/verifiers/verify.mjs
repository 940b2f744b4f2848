// Verifies webhooks with the libraries that receivers use, so that no code of ours judges our own signatures.
//
// Reads a JSON object a line: {"secret": "whsec_…", "body_b64": "…", "headers": {"name": "value"}}.
// Writes a JSON object a line: {"octokit": bool, "standardwebhooks": bool, "errors": {…}}.
// standardwebhooks also refuses timestamps that are more than five minutes away from now.
import { createInterface } from "node:readline";
import { verify as octokitVerify } from "@octokit/webhooks-methods";
import { Webhook } from "standardwebhooks";

async function octokit(secret, body, headers) {
  const signature = Object.entries(headers).find(([name, value]) => name.endsWith("-signature") && value.startsWith("sha256="));
  if (!signature) throw new Error("no header with sha256=");
  if (!(await octokitVerify(secret, body, signature[1]))) throw new Error("signature does not match");
}

async function standardwebhooks(secret, body, headers) {
  new Webhook(secret).verify(body, headers);
}

for await (const line of createInterface({ input: process.stdin })) {
  if (!line.trim()) continue;
  const { secret, body_b64, headers } = JSON.parse(line);
  const body = Buffer.from(body_b64, "base64").toString("utf8");
  const lowered = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  const answer = { errors: {} };
  for (const [name, check] of Object.entries({ octokit, standardwebhooks })) {
    try {
      await check(secret, body, lowered);
      answer[name] = true;
    } catch (error) {
      answer[name] = false;
      answer.errors[name] = error.message;
    }
  }
  console.log(JSON.stringify(answer));
}
