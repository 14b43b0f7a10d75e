#!/usr/bin/env bash
# Send JSON objects from standard input, one a line, to a Telemetry Hub with curl. Lines that come quickly go together.
set -u
while read -r line; do
    batch=() now=$(date +%s.%N)
    while
        batch+=("{\"time\":$now,${line#\{}")
        ((${#batch[@]} < 1000)) && read -t 0 && read -r line
    do :; done
    begun=$SECONDS
    until
        answer=$(printf '%s\n' "${batch[@]}" | curl --silent --show-error --max-time 30 --data-binary @- \
            --header "Authorization: Bearer $HUB_TOKEN" --write-out '\n%{http_code}' "$HUB_URL")
        echo "${answer%$'\n'*}"
        status=${answer##*$'\n'}
        [[ $status == 200 || $status == 422 ]] # stored, or put into quarantine
    do
        sleep "$(((SECONDS - begun < 30 ? SECONDS - begun : 30) * RANDOM / 32768)).5"
    done
done
