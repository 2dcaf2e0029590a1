package host

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"certbook/engine"
)

const (
	beatEvery    = 10 * time.Second // between two signs of life
	lockPatience = 60 * time.Second // without one, the host gives the lock up
	lockAnswer   = 45 * time.Second // how long the host may take to answer
	lockFresh    = 20 * time.Second // a lock that was confirmed so long ago is asked for before a change
	lockWait     = 3 * time.Second  // for a run that is just ending
	maxLock      = 4 << 10          // bytes of what a host keeps that are looked at
)

// lockScript holds a machine's lock: flock on a file that says whose it is. It
// talks in lines. First it says
//
//	held CLOCK MTIME CONTENT   another process has it; the end
//	left CLOCK MTIME CONTENT   another run has left it; wants "take" or "mark"
//	locked                     done
//
// and then answers "beat" and "mark" (changes are begun) by "alive", and "free" by
// "freed". CONTENT is base64. At the end of its input, or when it hears nothing
// for PATIENCE seconds, it ends, and the file stays as it is: that is a lock
// that was left. The file is emptied, not removed: its name always leads to
// the file that is locked. Programs that may outlive the script do not have
// the file open (9>&-).
//
//	sh -c lockScript sh SAY DIRECTORY WAIT PATIENCE LINE MARKED-LINE
const lockScript = sayReady + lockFunctions + `
wait=$3 patience=$4 line=$5 marked=$6
mkdir -p -m 700 -- "$dir" || exit 1
[ ! -e "$file" ] || [ -f "$file" ] || die "$file is not a regular file"
umask 077
(: >>"$file") 2>/dev/null || die "$file cannot be written; a run that changes something needs root"
chmod 600 -- "$file" && exec 9>>"$file" || exit 1
hear() { exec timeout --foreground "$patience" sh -c 'read -r word && echo "$word"' 9>&- 2>/dev/null; }
keep() {
	printf '%s\n' "$1" >"$file" && { sync -- "$file" 2>/dev/null || sync; } 9>&- || die "$file cannot be written"
}
flock -w "$wait" 9 || { tell held; exit 0; }
if [ -s "$file" ]; then
	tell left
	case $(hear) in
	take) ;;
	mark) line=$marked ;;
	*) exit 0 ;;
	esac
fi
keep "$line"
echo locked
while word=$(hear); do
	[ "$file" -ef "/proc/$$/fd/9" ] || die "$file was removed or replaced"
	case $word in
	beat) touch -c -- "$file" 9>&- ;;
	mark) keep "$marked" ;;
	free)
		printf '' >"$file" && { sync -- "$file" 2>/dev/null || sync; } 9>&- || die "$file cannot be written"
		echo freed
		exit 0
		;;
	*) die "unknown word" ;;
	esac
	echo alive
done
die "the run's process gave no sign of life"
`

// readLockScript looks at a lock without disturbing it: a run that takes it at
// the same moment waits for longer than this has the file.
//
//	sh -c readLockScript sh "" DIRECTORY
const readLockScript = lockFunctions + `
[ -e "$file" ] || exit 0
[ -f "$file" ] || die "$file is not a regular file"
(: <"$file") 2>/dev/null || die "$file cannot be read; locks are root's to see"
[ -s "$file" ] || exit 0
exec 9<"$file" || exit 1
if flock -n -s 9; then tell left; else tell held; fi
`

const lockFunctions = `
PATH=$PATH:` + extraPath + ` LC_ALL=C
export PATH LC_ALL
dir=$2 file=$2/lock
die() { echo "$1" >&2; exit 1; }
command -v flock >/dev/null 2>&1 || die "the host has no flock, which keeps two runs apart; it is in the package util-linux"
tell() {
	content=$(head -c 4096 -- "$file" | base64 -w 0)
	echo "$1 $(date +%s.%N) $(stat -c %.9Y -- "$file") $content"
}
`

// Lock takes the machine's lock.
func (h *Host) Lock(ctx context.Context, by engine.Holder, take func(engine.Lock) error) (engine.Held, error) {
	by.Changed = false
	line, err := json.Marshal(by)
	if err != nil {
		return nil, err
	}
	by.Changed = true
	marked, err := json.Marshal(by)
	if err != nil {
		return nil, err
	}
	k := h.hold(ctx, string(line), string(marked))
	if err := k.begin(ctx, take); err != nil {
		k.stop()
		k.tasks.Wait()
		return nil, err
	}
	k.tasks.Go(k.beat)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holders = append(h.holders, k)
	return k, nil
}

// ReadLock returns the machine's lock, nil when there is none.
func (h *Host) ReadLock(ctx context.Context) (*engine.Lock, error) {
	out, err := h.askScript(ctx, readLockScript, engine.MaxOutput, "", h.Path(engine.LockDir))
	if err != nil {
		return nil, err
	}
	text := strings.TrimSpace(string(out))
	if text == "" {
		return nil, nil
	}
	lock, err := parseLock(text)
	return &lock, err
}

// parseLock reads what lockScript says of a lock that is there.
func parseLock(line string) (engine.Lock, error) {
	words := strings.Split(line, " ")
	if len(words) != 4 || words[0] != "held" && words[0] != "left" {
		return engine.Lock{}, fmt.Errorf("the host says %.100q of its lock", line)
	}
	lock := engine.Lock{Living: words[0] == "held"}
	var err error
	if lock.Now, err = parseTime(words[1]); err == nil {
		lock.Seen, err = parseTime(words[2])
	}
	if err != nil {
		return engine.Lock{}, fmt.Errorf("the host says %.100q of its lock: %w", line, err)
	}
	content, err := base64.StdEncoding.DecodeString(words[3])
	if by, ok := parseHolder(content); err == nil && ok {
		lock.Holder = by
	} else {
		lock.Holder = engine.Holder{Changed: true}
	}
	return lock, nil
}

// parseHolder reads the content of a lock. What nobody has written as a Holder
// is not one.
func parseHolder(data []byte) (engine.Holder, bool) {
	const longest = 200
	var by engine.Holder
	dec := json.NewDecoder(bytes.NewReader(data))
	if len(data) >= maxLock || dec.Decode(&by) != nil || len(bytes.TrimSpace(data[dec.InputOffset():])) > 0 {
		return engine.Holder{}, false
	}
	for _, word := range []string{by.Owner, by.Run, by.Playbook, by.Undoes} {
		if len(word) > longest || strings.ContainsFunc(word, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return engine.Holder{}, false
		}
	}
	return by, by.Owner != "" && by.Run != "" && !by.Since.IsZero()
}

// holder is the lock of a machine: the session in which lockScript runs. One
// exchange of words happens at a time.
type holder struct {
	say   chan string   // words for the script
	heard chan string   // lines that it has said
	ended chan struct{} // closed when the session has ended
	why   error         // of its end, known when ended is closed
	quiet chan struct{} // closed by stop
	stop  func()        // ends the session
	tasks sync.WaitGroup

	turn    chan struct{} // holds one value, which the exchange that is going on has taken
	lost    error         // why the lock is not held any more
	alive   time.Time     // when the last word that was answered was said; wall clock, which a suspended machine does not stop
	changed bool
}

// hold starts lockScript.
func (h *Host) hold(ctx context.Context, line, marked string) *holder {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	k := &holder{
		say: make(chan string), heard: make(chan string, 8), ended: make(chan struct{}), quiet: make(chan struct{}),
		turn: make(chan struct{}, 1),
	}
	k.turn <- struct{}{}
	k.stop = sync.OnceFunc(func() {
		close(k.quiet)
		cancel(errors.New("given up"))
	})
	stderr := &bounded{limit: mostSaid, full: func() {}}
	p := process{
		stdout: &lines{to: k.heard, full: func() { cancel(errors.New("the host says more than it was asked")) }},
		stderr: stderr,
	}
	args := []string{h.Path(engine.LockDir), seconds(lockWait), seconds(lockPatience), line, marked}
	k.tasks.Go(func() {
		defer close(k.ended)
		code, err := h.converse(ctx, lockScript, args, k.say, p)
		if err == nil {
			err = fmt.Errorf("the process that holds the lock ended with status %d", code)
			if text, _ := stderr.bytes(); len(bytes.TrimSpace(text)) > 0 {
				said := strings.Split(string(bytes.TrimSpace(text)), "\n")
				err = errors.New(said[len(said)-1])
			}
		}
		k.why = err
	})
	return k
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

// begin follows what the script says until the lock is held.
func (k *holder) begin(ctx context.Context, take func(engine.Lock) error) error {
	first, err := k.hear(ctx, lockAnswer)
	if err != nil {
		return err
	}
	if first != "locked" {
		lock, err := parseLock(first)
		switch {
		case err != nil:
			return err
		case lock.Living:
			return &engine.LockedError{Lock: lock}
		}
		if err := take(lock); err != nil {
			return err
		}
		word := "take"
		if k.changed = lock.Changed; k.changed {
			word = "mark"
		}
		if err := k.ask(word, "locked"); err != nil {
			return err
		}
	}
	k.alive = time.Now().Round(0)
	return nil
}

// hear returns the next line.
func (k *holder) hear(ctx context.Context, patience time.Duration) (string, error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case line := <-k.heard:
		return line, nil
	case <-k.ended:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case <-late.C:
		return "", fmt.Errorf("no answer from the host for %v", patience)
	}
	select {
	case line := <-k.heard: // its last words
		return line, nil
	default:
		return "", k.why
	}
}

// ask says a word and wants an answer. Whatever else happens, the lock is lost.
func (k *holder) ask(word, want string) error {
	if k.lost != nil {
		return k.lost
	}
	said := time.Now().Round(0)
	late := time.NewTimer(lockAnswer)
	defer late.Stop()
	var got string
	var err error
	select {
	case k.say <- word + "\n":
		got, err = k.hear(context.Background(), lockAnswer)
	case <-k.ended:
		err = k.why
	case <-late.C:
		err = fmt.Errorf("no answer from the host for %v", lockAnswer)
	}
	if err == nil && got != want {
		err = fmt.Errorf("the host says %.100q of its lock", got)
	}
	if err != nil {
		k.lost = err
		k.stop()
		return err
	}
	k.alive = said
	return nil
}

// beat gives signs of life.
func (k *holder) beat() {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-k.quiet:
			return
		case <-k.ended:
			return
		case <-tick.C:
		}
		select {
		case <-k.turn:
			_ = k.ask("beat", "alive") // whoever wants to change something is told
			k.turn <- struct{}{}
		case <-k.quiet:
			return
		}
	}
}

// exchange waits for its turn. The function ends it.
func (k *holder) exchange(ctx context.Context) (func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case <-k.turn:
		return func() { k.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Check implements engine.Held.
func (k *holder) Check(ctx context.Context) error {
	done, err := k.exchange(ctx)
	if err != nil {
		return err
	}
	defer done()
	return k.fresh()
}

// fresh asks the host when it has not answered for some time, as after this
// machine was suspended: the host may have given the lock up.
func (k *holder) fresh() error {
	select {
	case <-k.ended:
		if k.lost == nil {
			k.lost = k.why
		}
	default:
	}
	if since := time.Since(k.alive); k.lost == nil && 0 <= since && since < lockFresh {
		return nil
	}
	return k.ask("beat", "alive")
}

// Change implements engine.Held.
func (k *holder) Change(ctx context.Context) error {
	done, err := k.exchange(ctx)
	if err != nil {
		return err
	}
	defer done()
	if k.changed {
		return k.fresh()
	}
	err = k.ask("mark", "alive")
	k.changed = err == nil
	return err
}

// Release implements engine.Held.
func (k *holder) Release(ctx context.Context) error {
	done, err := k.exchange(ctx)
	if err != nil {
		return err
	}
	err = k.ask("free", "freed")
	if k.lost == nil {
		k.lost = errors.New("it was released")
	}
	done()
	k.stop()
	k.tasks.Wait()
	return err
}

// lines passes on what is written to it line by line.
type lines struct {
	part []byte
	to   chan<- string
	full func() // a line is too long, or nobody listens
}

func (l *lines) Write(p []byte) (int, error) {
	const longest = 4*maxLock/3 + 200
	l.part = append(l.part, p...)
	for {
		line, rest, ok := bytes.Cut(l.part, []byte("\n"))
		if !ok || len(line) > longest {
			break
		}
		select {
		case l.to <- string(line):
		default:
			l.full()
			l.part = nil
			return len(p), nil
		}
		l.part = bytes.Clone(rest)
	}
	if len(l.part) > longest {
		l.full()
		l.part = nil
	}
	return len(p), nil
}
