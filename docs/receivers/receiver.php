<?php
// A receiver in PHP, with nothing but its standard library: php -S 127.0.0.1:8080 receiver.php
// SECRET_FILE holds the secrets that are accepted, one a line; SEEN_DIR is a directory of its own.

// verify: begin
function verify(string $rawBody, ?string $header, array $secrets): bool
{
    $ok = false;
    foreach ($secrets as $secret) {
        $ok = hash_equals('sha256=' . hash_hmac('sha256', $rawBody, $secret), $header ?? '') || $ok;
    }
    return $ok;
}
// verify: end

const MOST = 1024 * 1024;

$body = file_get_contents('php://input', length: MOST + 1);
if (strlen($body) > MOST) {
    http_response_code(413);
    return;
}
$secrets = array_filter(array_map('trim', file(getenv('SECRET_FILE'))));
if (!verify($body, $_SERVER['HTTP_X_WILOW_SIGNATURE'] ?? null, $secrets)) {
    http_response_code(401);
    return;
}
http_response_code(204); // What takes longer comes after the answer: fastcgi_finish_request(), or a queue.
$lead = json_decode($body, true);
// Of the signed body: headers are not signed by this scheme.
$key = hash('sha256', implode(' ', [$lead['leadId'], $lead['event'], $lead['lastConversationAt'] ?? '']));
// In earnest: a unique index in the database that the lead goes into. Here a file, which one of several requests alone can make.
$isNew = (bool) @fopen(getenv('SEEN_DIR') . "/$key", 'x');
error_log(($isNew ? $lead['event'] : 'again') . ' ' . $lead['leadId']);
