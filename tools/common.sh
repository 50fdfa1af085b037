# Sourced by the scripts of this folder: where things are, and how they speak.
#
# A script says one line for each thing it does and hides what a tool prints,
# unless the tool fails; then the end of its output is shown with a hint.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$repo/build
deps=$build/deps

# Debian's own interpreter, so that a pyenv or conda on PATH changes nothing.
python=${PYTHON:-/usr/bin/python3}

say() { printf '%s: %s\n' "${0##*/}" "$*"; }

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# Addresses of mirrors are nobody's business and differ from machine to machine.
without_hosts() { sed -E "s#://[^/ ]+#://...#g; s#'[[:alnum:].-]+\.[a-z]{2,}'#'...'#g"; }

# quietly HINT COMMAND...
# Runs COMMAND with its output in a file. Every 10 seconds a line says how long
# it has been and what it printed last; if it fails, the last 40 lines and HINT
# are shown and the script ends.
quietly() {
  local hint=$1 log status=0 ticker
  shift
  log=$(mktemp)
  tell_progress "$log" &
  ticker=$!
  "$@" >"$log" 2>&1 </dev/null || status=$?
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  if [ "$status" -ne 0 ]; then
    tail -n 40 "$log" | without_hosts >&2
    rm -f "$log"
    die "failed ($status): $1 $2 ... - $hint"
  fi
  rm -f "$log"
}

# In the background, and no longer than the script: it must not keep its lock.
tell_progress() {
  local seconds=0
  exec 9>&-
  trap 'kill "$!" 2>/dev/null; exit' TERM
  while true; do
    sleep 10 &
    wait "$!"
    kill -0 $$ 2>/dev/null || exit
    seconds=$((seconds + 10))
    say "  ... ${seconds} s: $(last_line "$1")"
  done
}

last_line() {
  tail -c 400 "$1" | tr '\r' '\n' | grep -v '^ *$' | tail -n 1 | without_hosts | cut -c 1-100
}

# True when FILE holds exactly TEXT: how a fetched or generated thing knows
# whether it was made from what is asked for now.
made_from() { [ -e "$1" ] && [ "$(<"$1")" = "$2" ]; }

# lock_or_wait FILE WHAT: one run at a time; a second waits and says so. The
# lock is held by this script (descriptor 9) and ends with it, however it ends.
lock_or_wait() {
  mkdir -p "$(dirname "$1")"
  exec 9>"$1"
  flock --nonblock 9 && return
  say "waiting for another $2 to finish"
  flock 9
}

# make_venv NAME REQUIREMENTS... : build/NAME with what the files require and
# nothing else. Made again when a file or the interpreter has changed.
make_venv() {
  local name=$1 folder=$build/$1 source requirements
  shift
  source=$("$python" -V; sha256sum "$@" | cut -d ' ' -f 1)
  ! made_from "$folder/.from" "$source" || return 0
  lock_or_wait "$build/.$name.lock" "$name"
  ! made_from "$folder/.from" "$source" || return 0
  say "making build/$name: Python packages of $(echo "$@" | sed "s#$repo/##g")"
  rm -rf "$folder"
  quietly "is python3-venv installed?" "$python" -m venv "$folder"
  for requirements in "$@"; do
    quietly "is the network there? pip's settings are used as they are" \
      "$folder/bin/python" -m pip --disable-pip-version-check install --no-deps --progress-bar off -r "$requirements"
  done
  printf '%s\n' "$source" >"$folder/.from"
}

# build_in FOLDER CMAKE-OPTIONS... : configures when the options are new, builds
# what changed of everything.
build_in() {
  configure_in "$@"
  compile_in "$1" all
}

configure_in() {
  local folder=$1
  shift
  set -- -DSLIPWAY_COMPLETE="${SLIPWAY_COMPLETE:-OFF}" "$@"
  if [ ! -e "$folder/build.ninja" ] || ! made_from "$folder/.options" "$*"; then
    say "configuring ${folder#"$repo/"}"
    quietly "the cause stands above" cmake -S "$repo" -B "$folder" -G Ninja "$@"
    printf '%s\n' "$*" >"$folder/.options"
  fi
}

# compile_in FOLDER TARGETS... : on a terminal ninja keeps one line up to date;
# elsewhere that would be a line for each file.
compile_in() {
  local folder=$1
  shift
  say "building ${folder#"$repo/"}"
  if [ -t 1 ]; then
    NINJA_STATUS='  [%f/%t] ' cmake --build "$folder" --target "$@"
  else
    NINJA_STATUS='[%f/%t] ' quietly "the compiler's words stand above" cmake --build "$folder" --target "$@"
  fi
}
