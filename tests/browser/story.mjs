// Walks the admin page as a tenant and as the operator would. What it needs is told as JSON on stdin; whatever is wrong ends it.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const told = JSON.parse((await lines.next()).value);
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const WIDTHS = [360, 768, 1280];

const browser = await chromium.launch({ executablePath: told.chromium, args: ['--no-sandbox'] });
const wrong = [];

// Asks the test for something that only it can do, and waits until it is done.
async function ask(what) {
  console.log(what);
  assert.equal((await lines.next()).value, 'done');
}

function watch(page) {
  page.on('console', (message) => {
    // What the server refused with is the story's own.
    if (message.type() === 'error' && !/status of 4\d\d/.test(message.text())) wrong.push(message.text());
  });
  page.on('pageerror', (error) => wrong.push(String(error)));
  return page;
}

// No violation of axe's, at any width, light and dark.
async function look(page, name) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 900 });
      if (told.screenshots) await page.screenshot({ path: `${told.screenshots}/${name}-${width}-${colorScheme}.png`, fullPage: true });
      const beyond = await page.evaluate(() => {
        const { clientWidth, scrollWidth } = document.documentElement;
        const isBeyond = (element) => element.getBoundingClientRect().right > clientWidth + 1;
        const elements = [...document.querySelectorAll('body *')].filter(isBeyond).map((element) => element.outerHTML.slice(0, 90));
        return scrollWidth > clientWidth ? [scrollWidth, ...elements.slice(0, 5)] : [];
      });
      assert.deepEqual(beyond, [], `${name} at ${width}: beyond the right edge`);
    }
    // By the debugger's own way, which the page's policy does not forbid.
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run());
    const seen = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' | ')}`);
    assert.deepEqual(seen, [], `${name}, ${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: 'light' });
}

async function tenant() {
  const context = await browser.newContext();
  const page = watch(await context.newPage());
  await page.goto(`${told.origin}/admin`);
  assert.match(page.url(), /\/admin\/sign-in$/);
  await look(page, 'sign-in');
  await page.getByLabel('Token').fill('guess');
  await page.keyboard.press('Enter');
  await page.getByRole('alert').getByText('not valid').waitFor();
  // As an application links to it.
  await page.goto(`${told.origin}/admin/sign-in#${told.tenantToken}`);
  await page.getByText('opens the settings of tenant acme').waitFor();
  await look(page, 'linked');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/admin/tenants/acme');
  // Once more the same: who is signed in as that tenant is let in at once.
  await page.goto(`${told.origin}/admin/sign-in#${told.tenantToken}`);
  await page.waitForURL('**/admin/tenants/acme');
  assert.ok(!page.url().includes('#'));
  const [cookie] = await context.cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.path], [true, 'Strict', '/admin']);

  await page.getByLabel('URL').fill('https://192.168.0.7/hook');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Nothing was saved').waitFor();
  await page.locator('#url-fault-1').getByText('192.168.0.7').waitFor();
  assert.equal(await page.getByLabel('URL').getAttribute('aria-invalid'), 'true');
  await look(page, 'refused');

  // What was typed goes along wherever a button leads.
  await page.getByLabel('URL').fill('https://example.org/typed');
  await page.getByLabel('Template').fill('{\n  "typed": "{{email}}"\n}');
  await page.getByRole('button', { name: 'Generate a secret' }).click();
  const secret = await page.getByLabel('Secret').inputValue();
  assert.match(secret, /^whsec_/);
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.getByRole('button', { name: 'Copy' }).click();
  await page.getByText('Copied.').waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), secret);
  await look(page, 'secret');
  await page.reload();
  await page.getByRole('alert').getByText('No secret was generated').waitFor();
  assert.ok(!(await page.content()).includes(secret));
  const typed = async () => [await page.getByLabel('URL').inputValue(), await page.getByLabel('Template').inputValue()];
  assert.deepEqual(await typed(), ['https://example.org/typed', '{\n  "typed": "{{email}}"\n}']);
  // Another one takes its place after a question alone.
  await page.getByRole('button', { name: 'Generate a secret' }).click();
  await page.getByRole('heading', { name: 'A new secret for acme?' }).waitFor();
  await look(page, 'generate');
  await page.getByRole('button', { name: 'Keep the present one' }).click();
  await page.getByRole('button', { name: 'Switch off' }).click();
  await page.getByText('Switched off.').waitFor();
  await page.getByRole('button', { name: 'Switch on' }).click();
  await page.getByText('Switched on.').waitFor();
  assert.deepEqual(await typed(), ['https://example.org/typed', '{\n  "typed": "{{email}}"\n}']);
  await page.getByLabel('URL').fill('');

  // The template that was typed gives way after a question alone, also once it was looked at.
  await page.getByLabel('Template').fill('{"mine":1}');
  await page.getByRole('button', { name: 'Preview' }).click();
  await page.getByLabel('Destination').selectOption('slack');
  page.once('dialog', (dialog) => dialog.dismiss());
  await page.getByRole('button', { name: 'Use it' }).click();
  assert.equal((await typed())[1], '{"mine":1}');
  page.once('dialog', (dialog) => dialog.accept());
  await page.getByRole('button', { name: 'Use it' }).click();
  await page.getByText('slack is filled in').waitFor();
  assert.match(await page.locator('#template').inputValue(), /plain_text/);
  await page.locator('#preview').getByText('ann@example.com').first().waitFor();
  // The preview follows what is typed, and says what is wrong with it.
  await page.locator('#template').fill('{"mail":"{{email}}","who":""}');
  await page.locator('#template').evaluate((field) => field.setSelectionRange(27, 27));
  await page.getByRole('button', { name: '{{firstName}}' }).click();
  assert.equal(await page.locator('#template').inputValue(), '{"mail":"{{email}}","who":"{{firstName}}"}');
  await page.locator('#preview').getByText('"who": "Ann"').waitFor();
  await page.locator('#template').fill('{"mail":"{{emial}}"}');
  await page.locator('#preview').getByText('unknown placeholder').waitFor();
  await page.locator('#template').fill('{"mail":"{{email}}","who":"{{firstName}}"}');
  await page.locator('#preview').getByText('"who": "Ann"').waitFor();

  await page.getByLabel('URL').fill(told.url);
  await page.getByLabel('Name').first().fill('X-Team');
  await page.getByLabel('Value').first().fill('s3cr3t-team');
  await page.getByRole('button', { name: 'Test', exact: true }).click();
  await page.locator('#tried-result').getByText('The receiver answered 503').waitFor();
  for (const phase of ['DNS', 'Connect and TLS', 'First byte after', 'Total']) await page.locator('#tried-result').getByText(phase, { exact: true }).waitFor();
  await look(page, 'tested');
  await page.getByRole('button', { name: 'Test', exact: true }).click();
  await page.locator('#tried-result').getByText('The receiver answered 200').waitFor();
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Saved.').waitFor();
  await page.getByText('Every new lead is sent.').waitFor();
  assert.ok(!(await page.content()).includes('s3cr3t-team'));
  await page.getByText('X-Team: ••••••').waitFor();

  // Somebody else is quicker: what they saved is seen before it gives way.
  const theirs = watch(await context.newPage());
  await theirs.goto(`${told.origin}/admin/tenants/acme`);
  await theirs.locator('#template').fill('{"theirs":"{{email}}"}');
  await theirs.getByRole('button', { name: 'Save' }).click();
  await theirs.getByText('Saved.').waitFor();
  await theirs.close();
  await page.locator('#template').fill('{"mine":"{{email}}"}');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('alert').getByText('somebody else has changed').waitFor();
  await page.getByLabel('Template in force').getByText('theirs').waitFor();
  assert.equal(await page.locator('#template').inputValue(), '{"mine":"{{email}}"}');
  await look(page, 'overtaken');
  await page.locator('#template').fill('{"mail":"{{email}}","who":"{{firstName}}"}');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Saved.').waitFor();

  await ask('lead');
  await page.reload();
  const row = page.getByRole('row').filter({ hasText: 'lead.created' }).filter({ hasNotText: 'Test' }).first();
  await row.getByText('delivered').waitFor();
  await look(page, 'settings');
  await row.getByRole('link', { name: /Details/ }).click();
  await page.getByText('The receiver took it.').waitFor();
  await look(page, 'delivery');
  await page.getByRole('button', { name: 'Send it again' }).click();
  await page.getByText('Sent again of').waitFor();
  await page.getByRole('link', { name: 'Back to acme' }).click();
  await page.getByLabel('Status').selectOption('failed');
  await page.getByRole('button', { name: 'Show' }).click();
  assert.equal(await page.locator('#deliveries ~ .scroll tbody tr').count(), 1);

  await page.getByRole('button', { name: 'Switch off' }).click();
  await page.getByText('No lead is sent: it is off.').waitFor();
  await page.getByRole('button', { name: 'Switch on' }).click();
  await page.getByText('Every new lead is sent.').waitFor();

  // Somebody else's, and the operator's.
  assert.equal((await page.goto(`${told.origin}/admin/tenants/bolt`)).status(), 403);
  await page.goto(`${told.origin}/admin`);
  assert.match(page.url(), /\/admin\/tenants\/acme$/);
  // By the keyboard alone: the first stop leads past everything.
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to the content');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.waitForURL('**/admin/sign-in');
  await page.goto(`${told.origin}/admin/tenants/acme`);
  assert.match(page.url(), /\/admin\/sign-in$/);
  await context.close();
}

async function operator() {
  const context = await browser.newContext();
  const page = watch(await context.newPage());
  await page.goto(`${told.origin}/admin/sign-in`);
  await page.getByLabel('Token').fill(told.operatorToken);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('heading', { name: 'All tenants' }).waitFor();
  assert.ok((await context.cookies()).every(({ value }) => !value.includes(told.operatorToken)));
  await page.getByRole('row').filter({ hasText: 'acme' }).getByText('some fail').or(page.getByRole('row').filter({ hasText: 'acme' }).getByText('well')).waitFor();
  await look(page, 'overview');
  await page.getByRole('link', { name: 'acme' }).click();
  await page.getByRole('heading', { name: 'acme' }).waitFor();
  await page.goto(`${told.origin}/admin`);
  await page.getByLabel('Tenant', { exact: true }).fill('a new/one');
  await page.getByRole('button', { name: 'Open its settings' }).click();
  await page.getByRole('heading', { name: 'a new/one' }).waitFor();
  await page.getByText('it has no URL and it has no secret').waitFor();
  await fromElsewhere(context, page);
  await context.close();
}

// From another site a session does not go with a click. A link of somebody's puts nobody into another tenant's settings.
async function fromElsewhere(context, page) {
  const links = `<a href="${told.origin}/admin/sign-in#${told.tenantToken}">sign in</a> <a href="${told.origin}/admin/tenants/acme">acme</a>`;
  const elsewhere = createServer((_, answer) => answer.setHeader('Content-Type', 'text/html').end(links)).listen(0, '127.0.0.1');
  await once(elsewhere, 'listening');
  const sessions = async () => (await context.cookies(told.origin)).map(({ value }) => value);
  const before = await sessions();
  await page.goto(`http://127.0.0.1:${elsewhere.address().port}/`);
  await page.getByRole('link', { name: 'sign in' }).click();
  await page.getByText('You are signed in as the operator').waitFor();
  await look(page, 'asked');
  assert.deepEqual(await sessions(), before);
  await page.goto(`http://127.0.0.1:${elsewhere.address().port}/`);
  await page.getByRole('link', { name: 'acme' }).click();
  await page.getByRole('heading', { name: 'All tenants' }).waitFor();
  assert.deepEqual(await sessions(), before);
  // Who means it presses the button.
  await page.goto(`${told.origin}/admin/sign-in#${told.tenantToken}`);
  await page.getByText('You are signed in as the operator').waitFor();
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('heading', { name: 'acme' }).waitFor();
  elsewhere.close();
}

// Without scripts everything works, but the preview waits for its button.
async function withoutScripts() {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(`${told.origin}/admin/sign-in`);
  await page.getByLabel('Token').fill(told.tenantToken);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.locator('#template').fill('{"only":"{{leadId}}"}');
  await page.getByRole('button', { name: 'Preview' }).click();
  await page.locator('#preview').getByText('"only"').first().waitFor();
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Saved.').waitFor();
  await context.close();
}

try {
  await tenant();
  await operator();
  await withoutScripts();
  assert.deepEqual(wrong, []);
  console.log('well');
} finally {
  await browser.close();
  // It is open as long as the test is.
  process.stdin.destroy();
}
