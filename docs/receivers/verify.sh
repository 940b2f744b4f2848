#!/bin/sh
# Verifies a delivery that was kept in files: verify.sh SECRET_FILE BODY_FILE 'sha256=…'
# For trying out: openssl gets the secret as an argument, which others on the same machine can see for that moment.
set -eu

# verify: begin
verify() { # SECRET_FILE BODY_FILE SIGNATURE
    [ -r "$1" ] && [ -r "$2" ] || return 1
    [ "${#3}" -eq 71 ] || return 1
    while IFS= read -r line || [ -n "$line" ]; do
        secret=$(printf '%s' "$line" | tr -d '[:space:]')
        [ "${#secret}" -eq 50 ] || continue
        tag=$(openssl dgst -sha256 -hmac "$secret" -r <"$2" | cut -d ' ' -f 1)
        # An openssl that is missing or fails must verify nothing.
        [ "${#tag}" -eq 64 ] || continue
        # Hashed once more, so that how long the comparison takes tells nothing of the tag.
        ours=$(printf 'sha256=%s' "$tag" | openssl dgst -sha256 -r)
        given=$(printf '%s' "$3" | openssl dgst -sha256 -r)
        [ -n "$ours" ] && [ "$ours" = "$given" ] && return 0
    done <"$1"
    return 1
}
# verify: end

if verify "$1" "$2" "$3"; then echo "verified"; else echo "refused" >&2; exit 1; fi
