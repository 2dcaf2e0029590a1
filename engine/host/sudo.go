package host

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// SudoMode says whether a machine's commands go through sudo.
type SudoMode string

const (
	SudoNever  SudoMode = ""       // as the login user
	SudoAuto   SudoMode = "auto"   // when the login user is not root
	SudoAlways SudoMode = "always" // in any case
)

// sudoPatience is how long sudo may take to let a command through.
const sudoPatience = 30 * time.Second

// ErrSudo is what a refusal by sudo is: errors.Is(err, ErrSudo).
var ErrSudo = errors.New("sudo refused")

type sudoError string

func (e sudoError) Error() string        { return string(e) }
func (e sudoError) Is(target error) bool { return target == ErrSudo }

// sudo runs commands as root. It has no password when none is needed.
type sudo struct {
	password string
	prompt   string // unpredictable, so that no output can be taken for it
}

// probeSudo finds out, once for each connection, how sudo wants to be used.
// h has its transport and no sudo yet.
func probeSudo(ctx context.Context, h *Host, ask func(context.Context, string) (string, error)) (*sudo, error) {
	s := &sudo{prompt: "certbook-" + rand.Text() + ":"}
	h.sudo = s
	defer func() { h.sudo = nil }()
	const who = `[ "$(id -u)" = 0 ] || { echo "sudo did not make us root" >&2; exit 1; }`
	_, err := h.script(ctx, who, nil, 1<<10)
	if err == nil {
		return s, nil
	}
	if !strings.Contains(err.Error(), "password") {
		return nil, explainSudo(h, err)
	}
	if ask == nil {
		return nil, sudoError(h.who() + " may not use sudo without a password; give --ask-sudo-pass or NOPASSWD")
	}
	if s.password, err = ask(ctx, h.name); err != nil {
		return nil, fmt.Errorf("%s: sudo: %w", h.name, err)
	}
	if s.password == "" || strings.ContainsAny(s.password, "\n\x00") {
		return nil, sudoError(h.who() + ": the sudo password is empty or has more than one line")
	}
	if _, err := h.script(ctx, who, nil, 1<<10); err != nil {
		return nil, explainSudo(h, err)
	}
	return s, nil
}

func (h *Host) who() string { return h.name + ": user " + h.user }

// explainSudo says what sudo's own words mean and what to do.
func explainSudo(h *Host, err error) error {
	text := err.Error()
	switch {
	case errors.Is(err, ErrSudo):
		return sudoError(h.who() + ": " + text)
	case strings.Contains(text, "must have a tty"):
		return sudoError(h.who() + ": sudo wants a terminal; add \"Defaults:" + h.user + " !requiretty\" to sudoers")
	case strings.Contains(text, "sudo: not found"), strings.Contains(text, "sudo: command not found"):
		return sudoError(h.who() + " is not root, and sudo is not installed")
	case strings.Contains(text, "not in the sudoers"), strings.Contains(text, "not allowed"), strings.Contains(text, "may not run"):
		return sudoError(h.who() + " may not use sudo: " + text)
	}
	return fmt.Errorf("%s: sudo: %w", h.who(), err)
}

// sudoSays is how many bytes of what sudo prints before the command are looked at.
const sudoSays = 64 << 10

// run runs a program as root. Asked to by say, its script prints the mark ready
// on both streams before all else; its input is p.feed.
func (s *sudo) run(ctx context.Context, t transport, program func(say bool) []string, p process) (int, error) {
	if s.password == "" {
		p.argv = append([]string{"sudo", "-n", "--"}, program(false)...)
		return t.run(ctx, p)
	}
	p.argv = append([]string{"sudo", "-S", "-p", s.prompt, "--"}, program(true)...)
	input := p.feed
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := &sudoTalk{
		asked: make(chan struct{}, 1), passed: make(chan struct{}), prompt: []byte(s.prompt),
		stdout: p.stdout, stderr: p.stderr,
		cancel: cancel,
	}
	late := time.AfterFunc(sudoPatience, func() {
		cancel(sudoError(fmt.Sprintf("sudo did not start the command within %v", sudoPatience)))
	})
	defer late.Stop()
	p.stdout, p.stderr = talkOut{d}, talkErr{d}
	p.feed = func(w io.Writer, done <-chan struct{}) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-done:
				return nil
			case <-d.asked:
				if _, err := io.WriteString(w, s.password+"\n"); err != nil {
					return err
				}
			case <-d.passed:
				late.Stop()
				if input == nil {
					return nil
				}
				return input(w, done)
			}
		}
	}
	code, err := t.run(ctx, p)
	d.end()
	if err == nil && code != 0 && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return code, err
}

// sudoTalk follows what sudo prints until the wrapper says that it runs. The
// password is sent when it is asked for and never otherwise, so that it cannot
// become input of the command; the command's input is sent when it runs, so
// that it cannot become a password.
type sudoTalk struct {
	mu             sync.Mutex
	early          bytes.Buffer // standard error before the mark: sudo's
	head           bytes.Buffer // standard output before the mark
	through        bool         // the mark was on standard output
	over           bool         // the mark was on standard error
	prompt         []byte
	prompts        int
	asked          chan struct{}
	passed         chan struct{}
	gone           bool // what else comes is dropped
	cancel         context.CancelCauseFunc
	stdout, stderr io.Writer
}

type talkOut struct{ *sudoTalk }
type talkErr struct{ *sudoTalk }

func (d talkOut) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.gone:
		return len(p), nil
	case d.through:
		return d.stdout.Write(p)
	}
	d.head.Write(p)
	_, rest, ok := bytes.Cut(d.head.Bytes(), []byte(ready))
	if !ok {
		d.tooMuch(d.head.Len())
		return len(p), nil
	}
	d.through = true
	close(d.passed)
	if _, err := d.stdout.Write(rest); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (d talkErr) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.gone:
		return len(p), nil
	case d.over:
		return d.stderr.Write(p)
	}
	d.early.Write(p)
	if _, rest, ok := bytes.Cut(d.early.Bytes(), []byte(ready)); ok {
		d.over = true
		if _, err := d.stderr.Write(rest); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	if d.tooMuch(d.early.Len()) {
		return len(p), nil
	}
	n := bytes.Count(d.early.Bytes(), d.prompt)
	if n == d.prompts {
		return len(p), nil
	}
	d.prompts = n
	if n > 1 {
		d.give("sudo does not accept the password")
		return len(p), nil
	}
	d.asked <- struct{}{}
	return len(p), nil
}

// give gives up.
func (d *sudoTalk) give(why string) {
	d.gone = true
	d.cancel(sudoError(why))
}

// tooMuch gives up when n, the bytes that came before the mark, are too many.
func (d *sudoTalk) tooMuch(n int) bool {
	if n <= sudoSays {
		return false
	}
	d.give(fmt.Sprintf("sudo printed more than %d bytes before the command ran", sudoSays))
	return true
}

// end passes on what sudo said when it did not let the command through.
func (d *sudoTalk) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.over {
		text := bytes.ReplaceAll(d.early.Bytes(), d.prompt, nil)
		_, _ = d.stderr.Write(text)
	}
}
