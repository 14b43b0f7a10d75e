#!/usr/bin/env bash
# Send JSON objects from standard input, one a line, to a Telemetry Hub with curl. Lines that come quickly go together.
set -u
LC_ALL=C # lengths are in bytes; the hub takes 256 KiB and 10,000 values at once
line=""
next() { read -r line || [[ $line ]]; } # the last line may have no newline
while [[ $line ]] || next; do           # a line that did not fit into the last batch begins this one
    batch=() size=0 values=0 now=$(date +%s.%N)
    while commas=${line:0:9000} commas=${commas//[^,]/} # a longer line may have as many values as a request
        ((size += ${#line} + 40, values += ${#line} > 9000 ? 10000 : ${#commas} + 2, size < 250000)) &&
            ((${#batch[@]} == 0 || (values <= 10000 && ${#batch[@]} < 1000))); do
        if [[ $line == \{* ]]; then
            batch+=("{\"time\":$now,${line#\{}")
        elif [[ $line ]]; then
            echo "not sent: no JSON object: ${line:0:60}" >&2
        fi
        line=""
        read -r -t 0 && next || break
    done
    if ((${#batch[@]} == 0)); then
        [[ ! $line ]] || echo "not sent: longer than 250,000 bytes: ${line:0:60}" >&2
        line=""
        continue
    fi
    begun=$SECONDS
    until
        answer=$(printf '%s\n' "${batch[@]}" | curl --silent --show-error --max-time 30 --data-binary @- \
            --header "Authorization: Bearer $HUB_TOKEN" --write-out '\n%{http_code}' "$HUB_URL")
        echo "${answer%$'\n'*}"
        status=${answer##*$'\n'}
        [[ $status == 200 || $status == 422 || $answer == *'"refused":['* ]] # stored, or put into quarantine
    do
        sleep "$(((SECONDS - begun < 30 ? SECONDS - begun : 30) * RANDOM / 32768)).5"
    done
done
