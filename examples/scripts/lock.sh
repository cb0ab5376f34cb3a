#!/bin/sh
# Runs a command under a lock, with nothing but a shell and curl.
#
#   ./lock.sh NAME COMMAND [ARGUMENT...]
#
# CONCLAVE_API is a host's address. The command finds its token, which grows with
# every later owner, in CONCLAVE_TOKEN: what it writes to should refuse smaller
# ones. `conclave lock run` does the same and more; this shows what there is to it.
set -eu

api=${CONCLAVE_API:-http://127.0.0.1:2378}
name=${1:?usage: lock.sh NAME COMMAND [ARGUMENT...]}
shift
: "${1:?usage: lock.sh NAME COMMAND [ARGUMENT...]}"
ttl=15

call() { # METHOD JSON [CURL OPTION...]
	method=$1 body=$2
	shift 2
	curl --silent --show-error --fail-with-body "$@" \
		--header 'Content-Type: application/json' --data "$body" "$api/conclave.$method"
}
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

session=$(call session.v1.SessionService/Open "{\"ttl\":\"${ttl}s\",\"owner\":\"lock.sh $$\"}" --max-time 5 | field sessionId)
job='' renewing=''
finish() { # closing the session frees all that it owns
	trap - EXIT INT TERM
	if [ -n "$job" ]; then kill "$job" 2>/dev/null || :; wait "$job" 2>/dev/null || :; fi
	if [ -n "$renewing" ]; then kill "$renewing" 2>/dev/null || :; fi
	call session.v1.SessionService/Close "{\"sessionId\":\"$session\"}" --max-time 5 >/dev/null || :
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The session is valid for its TTL from the moment at which the last renewal that
# was answered was sent. When the margin before that is reached the command has to
# end, for somebody else may own the name soon.
renew() {
	owner=$1 last=$(date +%s)
	while sleep 4; do
		sent=$(date +%s)
		if call session.v1.SessionService/Renew "{\"sessionId\":\"$session\"}" --max-time 3 >/dev/null; then last=$sent; fi
		if [ $(($(date +%s) - last)) -ge $((ttl - 5)) ]; then
			echo "lock.sh: renewals are not answered; the lock is given up" >&2
			kill "$owner"
			return
		fi
	done
}
renew $$ &
renewing=$!

# Without "wait" the call waits as long as it takes.
token=$(call lock.v1.LockService/Acquire "{\"sessionId\":\"$session\",\"name\":\"$name\",\"purpose\":\"$1\"}" | field token)
echo "lock.sh: owns $name with token $token" >&2

CONCLAVE_NAME=$name CONCLAVE_TOKEN=$token "$@" &
job=$!
code=0
wait "$job" || code=$?
job=''
call lock.v1.LockService/Release "{\"sessionId\":\"$session\",\"name\":\"$name\",\"token\":\"$token\"}" --max-time 5 >/dev/null
exit "$code"
