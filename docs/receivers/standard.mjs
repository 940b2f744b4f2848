// Verifies a delivery by Standard Webhooks without a library, in Node (18 or later):
// node standard.mjs SECRET_FILE BODY_FILE WEBHOOK_ID WEBHOOK_TIMESTAMP WEBHOOK_SIGNATURE
import { createHmac, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';

// verify: begin
function verifyStandard(rawBody, headers, secrets, now = Date.now() / 1000) {
  const [id, time, list] = ['webhook-id', 'webhook-timestamp', 'webhook-signature'].map((name) => headers[name] ?? '');
  if (!id || !/^[0-9]{1,12}$/.test(time) || Math.abs(now - Number(time)) > 300) return false;
  const signed = Buffer.concat([Buffer.from(`${id}.${time}.`), rawBody]);
  const given = list.split(' ').filter((one) => one.startsWith('v1,')).map((one) => Buffer.from(one.slice(3), 'base64'));
  return secrets.some((secret) => {
    const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
    const tag = createHmac('sha256', key).update(signed).digest();
    return key.length === 32 && given.some((one) => one.length === tag.length && timingSafeEqual(one, tag));
  });
}
// verify: end

const [secretFile, bodyFile, id, timestamp, signature] = process.argv.slice(2);
const secrets = readFileSync(secretFile, 'utf8').split('\n').map((line) => line.trim()).filter(Boolean);
const headers = { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature };
const isRight = verifyStandard(readFileSync(bodyFile), headers, secrets);
console.log(isRight ? 'verified' : 'refused');
process.exitCode = isRight ? 0 : 1;
