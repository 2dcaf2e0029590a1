package host

import "strconv"

// extraPath is searched after the PATH that a machine gives to a command: a
// login over SSH and sudo often leave out where kubeadm and crictl lie.
const extraPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin"

// ready is what the wrapper prints first, on both streams, when it was asked to
// say that sudo has let it through: what comes before is sudo's.
const ready = "\x01certbook-ready\n"

// sayReady says so, when the script's first argument is not empty.
const sayReady = `
if [ -n "$1" ]; then
	printf '\001certbook-ready\n'
	printf '\001certbook-ready\n' >&2
fi
`

// wrapScript runs a program with an environment and n bytes of standard
// input, and watches standard input after these: it ends when the connection
// does, or when the other side closes it, and then the process group is ended.
//
//	sh -c wrapScript sh SAY N NAME=value... -- PROGRAM ARG...
//
// The left side of the pipe is the watcher. It says its process id, so that
// the right side can end it; SIGPIPE is the signal that no shell reports.
const wrapScript = sayReady + `
n=$2
shift 2
PATH=$PATH:` + extraPath + ` LC_ALL=C LANG=C
export PATH LC_ALL LANG
while [ "$1" != -- ]; do
	export "$1"
	shift
done
shift
command -v "$1" >/dev/null 2>&1 || {
	printf '%s: command not found in PATH=%s\n' "$1" "$PATH" >&2
	exit 127
}
exec 3<&0
{
	read -r pid comm state ppid group rest </proc/self/stat
	echo "$pid"
	if [ "$n" != 0 ]; then head -c "$n" <&3; fi
	exec >/dev/null 2>&1
	read -r rest <&3
	trap '' TERM
	if [ "$group" -gt 1 ]; then
		kill -s TERM -- "-$group"
		sleep 5
		kill -s KILL -- "-$group"
	fi
} | {
	exec 3<&-
	read -r watcher
	"$@"
	code=$?
	exec </dev/null
	kill -s PIPE "$watcher"
	exit $code
}
`

func sayWord(say bool) string {
	if say {
		return "1"
	}
	return ""
}

// wrap returns the argv that runs argv through wrapScript.
func wrap(argv, env []string, stdin int, say bool) []string {
	w := []string{"sh", "-c", wrapScript, "sh", sayWord(say), strconv.Itoa(stdin)}
	w = append(w, env...)
	w = append(w, "--")
	return append(w, argv...)
}
