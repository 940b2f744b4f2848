// graphile-worker as the benchmark runs it: `run.js migrate DATABASE_URL` installs its schema,
// `run.js run DATABASE_URL RECEIVER_URL CA_FILE` sends.
import crypto from 'node:crypto';
import fs from 'node:fs';
import { Logger, run, runMigrations } from 'graphile-worker';
import { Agent, request } from 'undici';

const IN_FLIGHT = 64;
const SECRET = 'whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=';
const [mode, connectionString, url, caFile] = process.argv.slice(2);
const logger = new Logger(() => () => {});

if (mode === 'migrate') {
  await runMigrations({ connectionString, logger });
  console.log('done');
  process.exit(0);
}

const dispatcher = new Agent({ connections: IN_FLIGHT, pipelining: 1, connect: { ca: fs.readFileSync(caFile) } });

async function lead(payload, helpers) {
  const began = Date.now();
  const body = JSON.stringify(payload);
  const headers = {
    'content-type': 'application/json',
    'x-wilow-event': payload.event,
    'x-wilow-delivery-id': crypto.randomUUID(),
    'x-wilow-signature': 'sha256=' + crypto.createHmac('sha256', SECRET).update(body).digest('hex'),
  };
  const answer = await request(url, { method: 'POST', dispatcher, headers, body, headersTimeout: 15000, bodyTimeout: 15000 });
  await answer.body.dump();
  await helpers.query('INSERT INTO webhook_log (lead_id, http_status, total_ms) VALUES ($1, $2, $3)', [
    payload.leadId, answer.statusCode, Date.now() - began,
  ]);
}

const runner = await run({
  preset: {
    worker: {
      connectionString, logger, concurrentJobs: IN_FLIGHT, maxPoolSize: 20, pollInterval: 2000,
      localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0,
    },
  },
  taskList: { lead },
});
console.log('ready');
await runner.promise;
