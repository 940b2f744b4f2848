// A receiver in Node, with nothing but its standard library: node receiver.mjs
// SECRET_FILE holds the secrets that are accepted, one a line; PORT is where to listen.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

// verify: begin
function verify(rawBody, header, secrets) {
  const given = /^sha256=([0-9a-f]{64})$/.exec(header ?? '');
  if (!given) return false;
  const tag = Buffer.from(given[1], 'hex');
  return secrets.some((secret) => timingSafeEqual(createHmac('sha256', secret).update(rawBody).digest(), tag));
}
// verify: end

const secrets = () => readFileSync(process.env.SECRET_FILE, 'utf8').split('\n').map((line) => line.trim()).filter(Boolean);
const MOST = 1024 * 1024;
const seen = new Set(); // In earnest: a unique index in the database that the lead goes into.

// A client that goes away in the middle is no reason to end.
const server = createServer((request, response) => receive(request, response).catch(() => response.destroy()));

async function receive(request, response) {
  const answer = (status) => response.writeHead(status, { Connection: 'close' }).end();
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > MOST) return answer(413);
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  if (!verify(body, request.headers['x-wilow-signature'], secrets())) return answer(401);
  const { leadId, event, lastConversationAt = '' } = JSON.parse(body);
  const key = `${leadId} ${event} ${lastConversationAt}`; // Of the signed body: headers are not signed by this scheme.
  const isNew = !seen.has(key);
  seen.add(key);
  answer(204); // At once; what takes longer comes afterwards.
  console.log(isNew ? event : 'again', leadId);
}

server.listen(Number(process.env.PORT ?? 8080), '127.0.0.1', () => console.log(`listening on ${server.address().port}`));
