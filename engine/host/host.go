package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"certbook/engine"
)

var _ engine.Host = (*Host)(nil)

// Host is a machine. Its methods may be called concurrently.
type Host struct {
	name    string
	user    string
	t       transport
	root    string   // prefix of every path, "" for "/"
	env     []string // of every command
	direct  bool     // programs are started by the transport itself, without the wrapper
	sudo    *sudo    // nil: as the login user
	timeout time.Duration

	shells  shells
	mu      sync.Mutex
	holders []*holder // whose sessions end with the connection
}

// Path returns where p lies on the machine.
func (h *Host) Path(p string) string {
	if h.root == "" {
		return p
	}
	return h.root + path.Join("/", p)
}

// unroot is the reverse of Path.
func (h *Host) unroot(p string) string {
	if h.root == "" {
		return p
	}
	if rest, ok := strings.CutPrefix(p, h.root); ok && strings.HasPrefix(rest, "/") {
		return rest
	}
	return p
}

// Close ends the connection. A lock that was not released is left.
func (h *Host) Close() error {
	h.mu.Lock()
	holders := h.holders
	h.holders = nil
	h.mu.Unlock()
	for _, k := range holders {
		k.stop()
	}
	h.shells.close()
	err := h.t.close()
	h.shells.tasks.Wait()
	for _, k := range holders {
		k.tasks.Wait()
	}
	return err
}

// Now returns the machine's clock.
func (h *Host) Now(ctx context.Context) (time.Time, error) {
	out, err := h.Query(ctx, engine.Command{Argv: []string{"date", "-u", "+%s.%N"}})
	if err != nil {
		return time.Time{}, fmt.Errorf("clock: %w", err)
	}
	t, err := parseTime(strings.TrimSpace(string(out.Stdout)))
	if err != nil {
		return time.Time{}, fmt.Errorf("clock: date printed %q", out.Stdout)
	}
	return t, nil
}

// The seconds of the years 1 to 9999, which are all that can be written down.
const firstSecond, lastSecond = -62135596800, 253402300799

// parseTime reads seconds.nanoseconds, as GNU date and stat print them.
func parseTime(s string) (time.Time, error) {
	sec, frac, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(sec, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	ns, err := strconv.ParseUint((frac + "000000000")[:9], 10, 32)
	if err == nil && (n < firstSecond || n > lastSecond) {
		err = fmt.Errorf("%q is beyond the year 9999", s)
	}
	return time.Unix(n, int64(ns)).UTC(), err
}

// Query runs a command that changes nothing, and leaves no process behind.
func (h *Host) Query(ctx context.Context, c engine.Command) (engine.Output, error) {
	return h.exec(ctx, c, c.Stdout == "")
}

// redirectScript runs a program with its output in a file that only the owner
// may read.
const redirectScript = `
(umask 077 && : >>"$1" && chmod 600 -- "$1" && : >"$1") || exit 125
out=$1
shift
exec "$@" >"$out"
`

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// checkCommand refuses what cannot be one program with its arguments.
func checkCommand(c engine.Command) error {
	switch {
	case len(c.Argv) == 0 || c.Argv[0] == "":
		return errors.New("a command without a program")
	case strings.HasPrefix(c.Argv[0], "-"):
		return fmt.Errorf("%q is not the name of a program", c.Argv[0])
	}
	for _, e := range c.Env {
		if !envName.MatchString(e) {
			return fmt.Errorf("%s: environment: %q is not NAME=value", c, e)
		}
	}
	for _, word := range slices.Concat(c.Argv, c.Env, []string{c.Stdout}) {
		if strings.ContainsRune(word, 0) { // a shell would end the command line there
			return fmt.Errorf("%q holds a NUL byte", c)
		}
	}
	return nil
}

// Exec runs a command and waits for it.
func (h *Host) Exec(ctx context.Context, c engine.Command) (engine.Output, error) {
	return h.exec(ctx, c, false)
}

func (h *Host) exec(ctx context.Context, c engine.Command, asks bool) (engine.Output, error) {
	if err := checkCommand(c); err != nil {
		return engine.Output{Code: -1}, err
	}
	argv := c.Argv
	if c.Stdout != "" {
		argv = append([]string{"sh", "-c", redirectScript, "sh", h.Path(c.Stdout)}, argv...)
	}
	out, err := h.run(ctx, argv, c.Env, c.Stdin, engine.MaxOutput, asks)
	if err != nil {
		return out, fmt.Errorf("%s: %w", c, err)
	}
	if out.Code != 0 {
		return out, &engine.ExitError{Command: c.String(), Code: out.Code, Stderr: tail(out, c.Mask)}
	}
	return out, nil
}

// mostSaid is how many bytes of what a command said become part of an error.
const mostSaid = 2 << 10

// tail returns the last lines that a command printed. Secrets are taken out
// before, as half of one would not be recognised.
func tail(out engine.Output, mask []string) string {
	const searched = 64 << 10
	b := bytes.TrimSpace(out.Stderr)
	if len(b) == 0 {
		b = bytes.TrimSpace(out.Stdout)
	}
	s := string(b[max(0, len(b)-searched):])
	for _, m := range mask {
		if m != "" {
			s = strings.ReplaceAll(s, m, "***")
		}
	}
	s, _ = engine.Scrub("", s)
	if len(s) > mostSaid {
		s = s[len(s)-mostSaid:]
		if i := strings.IndexByte(s, '\n'); i >= 0 {
			s = s[i+1:]
		}
	}
	return s
}

// script runs a constant shell script. Its failure is an error with the last
// line that it printed on standard error.
func (h *Host) script(ctx context.Context, text string, stdin []byte, limit int, args ...string) ([]byte, error) {
	return h.runScript(ctx, text, stdin, limit, false, args...)
}

// askScript is script for one that changes nothing.
func (h *Host) askScript(ctx context.Context, text string, limit int, args ...string) ([]byte, error) {
	return h.runScript(ctx, text, nil, limit, true, args...)
}

func (h *Host) runScript(ctx context.Context, text string, stdin []byte, limit int, asks bool, args ...string) ([]byte, error) {
	for _, a := range args {
		if strings.ContainsRune(a, 0) {
			return nil, fmt.Errorf("%q holds a NUL byte", a)
		}
	}
	out, err := h.run(ctx, append([]string{"sh", "-c", text, "sh"}, args...), nil, stdin, limit, asks)
	if err != nil {
		return nil, err
	}
	if out.Code != 0 {
		lines := strings.Split(strings.TrimSpace(string(out.Stderr)), "\n")
		if last := lines[len(lines)-1]; last != "" {
			return nil, errors.New(last[:min(len(last), mostSaid)])
		}
		return nil, fmt.Errorf("exit status %d", out.Code)
	}
	return out.Stdout, nil
}

// run runs a program by the way that this machine needs. What only asks may be
// run twice.
func (h *Host) run(ctx context.Context, argv, env []string, stdin []byte, limit int, asks bool) (engine.Output, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if h.timeout > 0 {
		late := fmt.Errorf("not finished after %v", h.timeout)
		c, stop := context.WithTimeoutCause(ctx, h.timeout, late)
		defer stop()
		ctx = c
	}
	full := func() { cancel(fmt.Errorf("printed more than %d bytes", limit)) }
	streams := func() (stdout, stderr *bounded) {
		return &bounded{limit: limit, full: full}, &bounded{limit: min(limit, engine.MaxOutput), full: full}
	}
	stdout, stderr := streams()
	all := append(append([]string{}, h.env...), env...)
	code, err, done := -1, error(nil), false
	if asks && !h.direct && len(stdin) == 0 {
		code, err, done = h.inShell(ctx, wrap(argv, all, 0, false), stdout, stderr)
	}
	if !done {
		stdout, stderr = streams()
		code, err = h.inSession(ctx, argv, all, stdin, stdout, stderr)
	}
	out := engine.Output{Code: code}
	var tooMuch, tooLoud bool
	out.Stdout, tooMuch = stdout.bytes()
	out.Stderr, tooLoud = stderr.bytes()
	if err == nil && (tooMuch || tooLoud || code != 0 && ctx.Err() != nil) {
		out.Code, err = -1, context.Cause(ctx)
	}
	return out, err
}

// inSession runs a program in a session of its own.
func (h *Host) inSession(ctx context.Context, argv, env []string, stdin []byte, stdout, stderr io.Writer) (int, error) {
	p := process{stdout: stdout, stderr: stderr}
	if len(stdin) > 0 {
		p.feed = func(w io.Writer, _ <-chan struct{}) error { _, err := w.Write(stdin); return err }
	}
	switch {
	case h.direct:
		p.argv, p.env = argv, env
		return h.t.run(ctx, p)
	case h.sudo != nil:
		p.hold = true
		return h.sudo.run(ctx, h.t, func(say bool) []string { return wrap(argv, env, len(stdin), say) }, p)
	}
	p.argv, p.hold = wrap(argv, env, len(stdin), false), true
	return h.t.run(ctx, p)
}

// converse runs a constant script that lasts, and hands it what comes over say.
// It has no wrapper: the script watches its input itself.
func (h *Host) converse(ctx context.Context, text string, args []string, say <-chan string, p process) (int, error) {
	p.lasts = true
	p.feed = func(w io.Writer, done <-chan struct{}) error {
		for {
			select {
			case words := <-say:
				if _, err := io.WriteString(w, words); err != nil {
					return err
				}
			case <-done:
				return nil
			case <-ctx.Done():
				return nil
			}
		}
	}
	program := func(say bool) []string { return append([]string{"sh", "-c", text, "sh", sayWord(say)}, args...) }
	if h.sudo != nil {
		return h.sudo.run(ctx, h.t, program, p)
	}
	p.argv = program(false)
	if h.direct {
		p.env = h.env
	}
	return h.t.run(ctx, p)
}

// inShell runs a program in a shell that lasts. done is false when it has to be
// run otherwise.
func (h *Host) inShell(ctx context.Context, argv []string, stdout, stderr io.Writer) (code int, err error, done bool) {
	line, err := commandLine(argv)
	if err != nil {
		return -1, err, true
	}
	s := h.takeShell()
	if s == nil {
		return -1, nil, false
	}
	code, err, done = s.run(ctx, line, stdout, stderr)
	if done && err == nil {
		h.shells.give(s)
	}
	return code, err, done
}
