#!/usr/bin/env bash
# Send JSON objects from standard input, one a line, to a Telemetry Hub with curl. Lines that come quickly go together.
set -u
LC_ALL=C # lengths are in bytes; the hub takes 256 KiB
while read -r line || [[ -n $line ]]; do # the last line may have no newline
    batch=() size=0 now=$(date +%s.%N)
    while
        batch+=("{\"time\":$now,${line#\{}")
        ((size += ${#line} + 40, size < 200000 && ${#batch[@]} < 1000)) && read -t 0 &&
            { read -r line || [[ -n $line ]]; }
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
