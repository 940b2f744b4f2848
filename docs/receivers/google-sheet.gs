// A web app of Google Apps Script that appends each lead to the sheet it belongs to.
// Project settings, script properties: TOKEN, a long random word. Deploy: web app, execute as me, access for anyone.

const COLUMNS = ['event', 'leadId', 'email', 'phone', 'conversationId', 'capturedAt', 'lastConversationAt'];

function doPost(request) {
  // Apps Script hands no headers over, so the signature cannot be verified: the URL's token stands in for it.
  const token = PropertiesService.getScriptProperties().getProperty('TOKEN');
  if (!token || request.parameter.token !== token) return answer('refused');
  const lead = JSON.parse(request.postData.contents);
  const sheet = SpreadsheetApp.getActiveSpreadsheet().getSheets()[0];
  // An append is one step, also where several come at once. The first request is a Test, alone: it makes the heading.
  if (sheet.getLastRow() === 0) sheet.appendRow(COLUMNS);
  sheet.appendRow(COLUMNS.map((column) => asText(lead[column])));
  return answer('ok');
}

// A cell takes a text as if somebody typed it: what begins like a formula is computed, and could read the sheet; a phone loses
// its leading zeros, a long id its last digits. After an apostrophe it stays the text that it is.
function asText(value) {
  const text = value === null || value === undefined ? '' : String(value);
  return text === '' ? '' : "'" + text;
}

function answer(text) {
  return ContentService.createTextOutput(text);
}
