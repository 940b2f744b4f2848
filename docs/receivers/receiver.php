<?php
// A receiver in PHP (8.0 or later) with nothing but its standard library. In earnest under php-fpm, behind what ends TLS; to try it out:
// php -d display_errors=0 -S 127.0.0.1:8080 receiver.php
// SECRET_FILE holds the secrets that are accepted, one a line; INBOX is the folder where leads are kept.

// verify: begin
function verify(string $rawBody, ?string $header, array $secrets): bool
{
    $ok = false;
    foreach (array_filter($secrets, fn ($secret) => strlen($secret) === 50) as $secret) {
        $ok = hash_equals('sha256=' . hash_hmac('sha256', $rawBody, $secret), $header ?? '') || $ok;
    }
    return $ok;
}
// verify: end

const MOST = 1024 * 1024;

// Writes the lead down, once; false: it is there already. In earnest: a row, and a unique index over the same.
function keep(string $key, string $body): bool
{
    $inbox = getenv('INBOX');
    $file = "$inbox/" . hash('sha256', $key) . '.json';
    $part = "$inbox/" . bin2hex(random_bytes(16)) . '.part';
    if (@file_put_contents($part, $body) !== strlen($body)) {
        @unlink($part);
        throw new RuntimeException("$inbox cannot be written to");
    }
    $isNew = @link($part, $file);
    unlink($part);
    if (!$isNew && !is_file($file)) {
        throw new RuntimeException("$inbox takes no links");
    }
    return $isNew;
}

function receive(): int
{
    $body = file_get_contents('php://input', length: MOST + 1);
    if (strlen($body) > MOST) {
        return 413;
    }
    $lines = @file(getenv('SECRET_FILE'));
    if ($lines === false) {
        throw new RuntimeException('SECRET_FILE cannot be read');
    }
    $secrets = array_filter(array_map('trim', $lines));
    if (!verify($body, $_SERVER['HTTP_X_WILOW_SIGNATURE'] ?? null, $secrets)) {
        return 401;
    }
    $lead = json_decode($body, true);
    foreach (['leadId', 'event'] as $name) {
        if (!is_array($lead) || !is_string($lead[$name] ?? null) || $lead[$name] === '') {
            return 422;
        }
    }
    // Of the signed body: headers are not signed by this scheme.
    $key = [$lead['tenantId'] ?? '', $lead['leadId'], $lead['event'], $lead['lastConversationAt'] ?? ''];
    // A Test is no lead.
    $isTest = str_starts_with($lead['leadId'], 'test_');
    $told = $isTest ? 'test' : (keep(json_encode($key), $body) ? 'new' : 'again');
    error_log($told . ' ' . json_encode($lead['leadId']));
    return 204; // It is written down; what takes longer comes after the answer: fastcgi_finish_request(), or a queue.
}

// Whatever goes wrong, and however, is no 2xx.
ini_set('display_errors', '0');
http_response_code(500);
try {
    http_response_code(receive());
} catch (Throwable $error) {
    error_log($error->getMessage());
    http_response_code(503);
}
