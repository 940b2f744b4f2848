// Everything that changes something works without it; with it a token comes by the address, placeholders go in at the cursor, the preview
// follows, a secret is copied, and a double click is one.
'use strict';

const signIn = document.getElementById('sign-in');
if (signIn) {
  const tenantOf = (token) => {
    try {
      const claims = atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/'));
      return JSON.parse(new TextDecoder().decode(Uint8Array.from(claims, (byte) => byte.charCodeAt(0)))).tenant;
    } catch {
      return undefined;
    }
  };
  // An application's link: /admin/sign-in#TOKEN. What follows the # is sent to nobody; it leaves the address at once.
  const take = async () => {
    const token = location.hash.slice(1);
    if (token) history.replaceState(null, '', location.pathname);
    // A session does not go with a visit from another site. This page asks by itself: with the session, if there is one.
    const answer = await fetch(location.pathname).catch(() => null);
    const page = new DOMParser().parseFromString(answer?.ok ? await answer.text() : '', 'text/html');
    const who = page.getElementById('signed-in');
    const said = document.querySelector('#signed-in, [role=alert]');
    if (token) {
      signIn.elements.token.value = token;
      const tenant = tenantOf(token);
      // It was pressed before. Anybody can make a link of their own, which would put people into another tenant's settings: so they are asked.
      if (tenant !== undefined && who?.dataset.tenant === tenant) return signIn.submit();
      if (who && !said) signIn.before(who);
      document.getElementById('for').textContent = tenant ?? '';
      document.getElementById('linked').hidden = tenant === undefined;
      signIn.querySelector('.primary').focus();
    } else if (who && !said) {
      location.replace('/admin');
    }
  };
  take();
  addEventListener('hashchange', () => location.hash && take());
}

// A double click is one: the second request would take the place of the first one's answer, with a secret in it perhaps.
let sentAt = -Infinity;
addEventListener('submit', (event) => {
  if (event.timeStamp - sentAt < 2000) event.preventDefault();
  else if (!event.defaultPrevented) sentAt = event.timeStamp;
});

for (const button of document.querySelectorAll('[data-copy]')) {
  button.hidden = false;
  button.addEventListener('click', async () => {
    const field = document.getElementById(button.dataset.copy);
    field.select();
    await navigator.clipboard.writeText(field.value);
    document.getElementById('copied').textContent = 'Copied.';
  });
}

const form = document.getElementById('settings-form');
if (form) {
  const template = form.elements.template;
  for (const button of form.querySelectorAll('[data-insert]')) {
    button.addEventListener('click', () => {
      template.setRangeText(button.dataset.insert, template.selectionStart, template.selectionEnd, 'end');
      template.focus();
      follow();
    });
  }

  form.querySelector('[value=preset]').addEventListener('click', (event) => {
    const isOwn = 'own' in template.dataset || template.value !== template.defaultValue;
    if (template.value.trim() !== '' && isOwn && !confirm('Your template gives way to the ready-made one.')) event.preventDefault();
  });

  // What a body depends on; credentials stay where they are.
  const FOLLOWED = ['template', 'omit_empty', 'event'];
  let waiting;
  let asked = 0;
  const follow = () => {
    clearTimeout(waiting);
    waiting = setTimeout(async () => {
      const mine = ++asked;
      const sent = new URLSearchParams();
      for (const [name, value] of new FormData(form)) if (FOLLOWED.includes(name)) sent.append(name, value);
      const answer = await fetch(form.dataset.preview, { method: 'POST', body: sent });
      const text = await answer.text();
      // A newer one is on its way, or the session is over and this is the page to sign in.
      if (mine === asked && answer.ok && !answer.redirected) document.getElementById('preview').innerHTML = text;
    }, 400);
  };
  for (const name of FOLLOWED) form.elements[name].addEventListener('input', follow);
}
