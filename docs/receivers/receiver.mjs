// A receiver in Node (18 or later) with nothing but its standard library, behind what ends TLS: node receiver.mjs
// SECRET_FILE holds the secrets that are accepted, one a line; INBOX is the folder where leads are kept; PORT is where to listen.
import { createHash, createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';

// verify: begin
function verify(rawBody, header, secrets) {
  const given = /^sha256=([0-9a-f]{64})$/.exec(header ?? '');
  if (!given) return false;
  const tag = Buffer.from(given[1], 'hex');
  const fits = (secret) => timingSafeEqual(createHmac('sha256', secret).update(rawBody).digest(), tag);
  return secrets.some((secret) => secret.length === 50 && fits(secret));
}
// verify: end

const { SECRET_FILE, INBOX, PORT = '8080' } = process.env;
const MOST = 1024 * 1024;

const secrets = () => readFileSync(SECRET_FILE, 'utf8').split('\n').map((line) => line.trim()).filter(Boolean);

// Of the signed body: headers are not signed by this scheme. null: it does not say which event it is of.
function eventKey(body) {
  try {
    const { tenantId = '', leadId, event, lastConversationAt = '' } = JSON.parse(body);
    if (![leadId, event].every((one) => one && typeof one === 'string')) return null;
    return { leadId, key: JSON.stringify([tenantId, leadId, event, lastConversationAt]) };
  } catch {
    return null;
  }
}

// Writes the lead down, once; false: it is there already. In earnest: a row, and a unique index over the same.
function keep(key, body) {
  const part = `${INBOX}/${randomUUID()}.part`;
  try {
    writeFileSync(part, body);
    linkSync(part, `${INBOX}/${createHash('sha256').update(key).digest('hex')}.json`);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(part, { force: true });
  }
}

async function receive(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > MOST) return 413;
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  if (!verify(body, request.headers['x-wilow-signature'], secrets())) return 401;
  const known = eventKey(body);
  if (!known) return 422;
  // A Test is no lead.
  const told = known.leadId.startsWith('test_') ? 'test' : keep(known.key, body) ? 'new' : 'again';
  console.log(told, JSON.stringify(known.leadId));
  return 204; // It is written down; what takes longer comes afterwards.
}

const server = createServer({ requestTimeout: 10_000, connectionsCheckingInterval: 1_000 }, (request, response) => {
  const answer = (status) => response.writeHead(status, { Connection: 'close' }).end();
  receive(request).then(answer, (error) => {
    console.error(error.message);
    answer(503);
  });
});
server.listen(Number(PORT), '127.0.0.1', () => console.log(`listening on ${server.address().port}`));
