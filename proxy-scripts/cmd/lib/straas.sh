# shellcheck shell=bash
# What: the sending half of the script contract (README.md) as bash functions: one call, one well-formed message.
# Why:  JSON written by hand in every script goes wrong at the first quote in a log line, and a malformed message is an
#       error of the stage. Pure bash, because a message must be possible when nothing else on the node works.
# Never: starts a process, reads the context, writes anywhere but stdout.
#
# Use:  . "$STRAAS_SCRIPTS/cmd/lib/straas.sh"

# The agent refuses a message over 64 KiB. Texts are for people: longer ones are cut here, not refused there.
STRAAS_TEXT_CHARS_MAX=2000
STRAAS_EX_TEMPFAIL=75

# straas_json_string TEXT: TEXT as a JSON string, quotes included. Bytes that are no character become "?".
straas_json_string() {
  local text=$1 out='' char code i
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  text=${text//$'\t'/\\t}
  text=${text//$'\r'/\\r}
  if [[ $text == *[![:print:]]* ]]; then   # rare: what is left of control characters and broken UTF-8
    for ((i = 0; i < ${#text}; i++)); do
      char=${text:i:1}
      if [[ $char != [[:print:]] ]]; then
        printf -v code %d "'$char"
        if ((code >= 0 && code < 128)); then printf -v char '\\u%04x' "$code"; else char='?'; fi
      fi
      out+=$char
    done
    text=$out
  fi
  printf '"%s"' "$text"
}

# straas_progress TEXT [PERCENT]: what happens now, in words an operator understands.
straas_progress() {
  local percent=''
  [[ -n ${2:-} ]] && percent=",\"percent\":$2"
  printf '@straas {"progress":{"text":%s%s}}\n' "$(straas_json_string "${1:0:STRAAS_TEXT_CHARS_MAX}")" "$percent"
}

# straas_hint TEXT: what an operator should do next.
straas_hint() {
  printf '@straas {"hint":%s}\n' "$(straas_json_string "${1:0:STRAAS_TEXT_CHARS_MAX}")"
}

# straas_facts KEY=TEXT KEY:=JSON ...: "=" sends a string, ":=" a number, boolean or other JSON as it stands.
straas_facts() {
  local pair key value list=''
  for pair in "$@"; do
    key=${pair%%=*} value=${pair#*=}
    if [[ $key == *: ]]; then key=${key%:}; else value=$(straas_json_string "$value"); fi
    list+="${list:+,}$(straas_json_string "$key"):$value"
  done
  printf '@straas {"facts":{%s}}\n' "$list"
}

# straas_result active|inactive: what validate found.
straas_result() {
  printf '@straas {"result":{"service":%s}}\n' "$(straas_json_string "$1")"
}

# straas_wait TEXT: not yet; the agent asks again soon and shows TEXT as what is waited for.
straas_wait() {
  straas_progress "$1"
  exit "$STRAAS_EX_TEMPFAIL"
}

# straas_fail HINT [EXIT CODE, default 1]: a failure that a person may have to look at.
straas_fail() {
  straas_hint "$1"
  exit "${2:-1}"
}
