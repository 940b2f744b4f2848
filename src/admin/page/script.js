// Everything works without it; with it a token comes by the address, placeholders go in at the cursor, the preview follows, and a secret
// is copied.
'use strict';

const signIn = document.getElementById('sign-in');
if (signIn) {
  // An application's link: /admin/sign-in#TOKEN. What follows the # is sent to nobody; it leaves the address at once.
  const take = () => {
    if (location.hash.length < 2) return;
    signIn.elements.token.value = location.hash.slice(1);
    history.replaceState(null, '', location.pathname);
    // Whoever is signed in already is asked first: a link of somebody's would else put them into another tenant's settings.
    if (!signIn.dataset.signedIn) signIn.submit();
  };
  take();
  addEventListener('hashchange', take);
}

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
