// A web app of Google Apps Script that appends each lead to the sheet it belongs to.
// Project settings, script properties: TOKEN, a long random word. Deploy: web app, execute as me, access for anyone.

const COLUMNS = ['event', 'leadId', 'email', 'phone', 'conversationId', 'capturedAt', 'lastConversationAt'];

function doPost(request) {
  // Apps Script hands no headers over, so the signature cannot be verified: the URL's token stands in for it.
  const token = PropertiesService.getScriptProperties().getProperty('TOKEN');
  if (!token || request.parameter.token !== token) return answer('refused');
  const lead = JSON.parse(request.postData.contents);
  const lock = LockService.getScriptLock();
  lock.waitLock(10000); // Several leads at once would overwrite each other's row.
  try {
    const sheet = SpreadsheetApp.getActiveSpreadsheet().getSheets()[0];
    if (sheet.getLastRow() === 0) sheet.appendRow(COLUMNS);
    sheet.appendRow(COLUMNS.map((column) => asText(lead[column])));
    SpreadsheetApp.flush();
  } finally {
    lock.releaseLock();
  }
  return answer('ok');
}

// A visitor's text that begins like a formula would be computed, and could read the sheet: an apostrophe keeps it a text.
function asText(value) {
  const text = value === null || value === undefined ? '' : String(value);
  return /^\s*[=+\-@\t\r\n]/.test(text) ? "'" + text : text;
}

function answer(text) {
  return ContentService.createTextOutput(text);
}
