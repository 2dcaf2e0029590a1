package host

import (
	"bufio"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// What may be wrong with a host's key, for errors.Is.
var (
	ErrHostKeyUnknown = errors.New("unknown host key")
	ErrHostKeyChanged = errors.New("changed host key")
	ErrHostKeyRevoked = errors.New("revoked host key")
)

type hostKeyError struct {
	kind error
	text string
}

func (e *hostKeyError) Error() string { return e.text }
func (e *hostKeyError) Unwrap() error { return e.kind }

// trust judges the key of one host.
type trust struct {
	name   string // host:port as the files know it
	files  []string
	accept bool
	err    error // what check has found
}

func (p *hop) trust() (*trust, error) {
	name := p.host
	if p.keyAlias != "" {
		name = p.keyAlias
	}
	t := &trust{name: net.JoinHostPort(name, fmt.Sprint(p.port)), files: p.knownHosts, accept: p.acceptNew}
	_, err := t.known()
	return t, err
}

// known reads the files that exist.
func (t *trust) known() (ssh.HostKeyCallback, error) {
	var files []string
	for _, f := range t.files {
		if _, err := os.Stat(f); err == nil {
			files = append(files, f)
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("known hosts: %w", err)
		}
	}
	cb, err := knownhosts.New(files...)
	if err != nil {
		return nil, fmt.Errorf("known hosts: %w", err)
	}
	return cb, nil
}

func (t *trust) addr() net.Addr { return streamAddr(t.name) }

// recorded returns the keys that the files hold for the host.
func (t *trust) recorded() []knownhosts.KnownKey {
	cb, err := t.known()
	if err != nil {
		return nil
	}
	// A key that nobody has makes the files say which ones they want.
	nobody, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return nil
	}
	var want *knownhosts.KeyError
	if errors.As(cb(t.name, t.addr(), nobody), &want) {
		return want.Want
	}
	return nil
}

// algorithms returns the host key algorithms to ask for: those of the
// recorded keys, because a server with several keys would else show another
// one than the one that is known. nil, the default, when there are none.
func (t *trust) algorithms() []string {
	var out []string
	for _, k := range t.recorded() {
		if certAuthority(k) {
			out = append(out, ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01,
				ssh.CertAlgoECDSA521v01, ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01)
			continue
		}
		if k.Key.Type() == ssh.KeyAlgoRSA {
			out = append(out, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
			continue
		}
		out = append(out, k.Key.Type())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// certAuthority says whether a recorded key is that of an authority.
func certAuthority(k knownhosts.KnownKey) bool {
	f, err := os.Open(k.Filename)
	if err != nil {
		return false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		if n == k.Line {
			return strings.HasPrefix(strings.TrimSpace(lines.Text()), "@cert-authority")
		}
	}
	return false
}

// check is the callback of the handshake.
func (t *trust) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	cb, err := t.known()
	if err == nil {
		err = cb(t.name, t.addr(), key)
	}
	t.err = t.judge(key, err)
	return t.err
}

func (t *trust) judge(key ssh.PublicKey, err error) error {
	var unknown *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &revoked):
		return &hostKeyError{ErrHostKeyRevoked, fmt.Sprintf(
			"the host key %s is marked as revoked in %s:%d; do not connect until the host has a new key",
			ssh.FingerprintSHA256(key), revoked.Revoked.Filename, revoked.Revoked.Line)}
	case errors.As(err, &unknown) && len(unknown.Want) > 0:
		return t.changed(key, unknown.Want)
	case errors.As(err, &unknown) && t.accept:
		return t.record(key)
	case errors.As(err, &unknown):
		return &hostKeyError{ErrHostKeyUnknown, fmt.Sprintf(
			"the host key is not known: %s presents %s %s, and no key is recorded in %s; compare the fingerprint on the host (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), then record it with ssh or give --accept-new",
			t.name, key.Type(), ssh.FingerprintSHA256(key), strings.Join(t.files, ", "))}
	}
	return fmt.Errorf("host key: %w", err)
}

func (t *trust) changed(key ssh.PublicKey, want []knownhosts.KnownKey) error {
	var b strings.Builder
	fmt.Fprintf(&b, "THE HOST KEY HAS CHANGED: %s presents %s %s, but recorded is", t.name, key.Type(), ssh.FingerprintSHA256(key))
	for _, k := range want {
		fmt.Fprintf(&b, " %s %s (%s:%d)", k.Key.Type(), ssh.FingerprintSHA256(k.Key), k.Filename, k.Line)
	}
	name := knownhosts.Normalize(t.name)
	fmt.Fprintf(&b, "; somebody may be in between, or the host was installed anew: find out which, and only then remove the old key with ssh-keygen -R '%s' -f %s", name, want[0].Filename)
	return &hostKeyError{ErrHostKeyChanged, b.String()}
}

// otherType explains that the server has none of the recorded kinds of keys.
func (t *trust) otherType(err error) error {
	var b strings.Builder
	fmt.Fprintf(&b, "THE HOST KEY HAS CHANGED: %s has no key of a recorded type; recorded is", t.name)
	for _, k := range t.recorded() {
		fmt.Fprintf(&b, " %s %s (%s:%d)", k.Key.Type(), ssh.FingerprintSHA256(k.Key), k.Filename, k.Line)
	}
	fmt.Fprintf(&b, "; see with ssh-keyscan what it has now, and compare on the host (%v)", err)
	return &hostKeyError{ErrHostKeyChanged, b.String()}
}

// record appends a key that nobody has recorded in the meantime. The lock on
// the file makes it safe when several hosts, or several programs, do it at once.
func (t *trust) record(key ssh.PublicKey) error {
	if len(t.files) == 0 {
		return errors.New("known hosts: there is no file in which a new key could be recorded")
	}
	name := t.files[0]
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("known hosts: %w", err)
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("known hosts: %w", err)
	}
	defer f.Close() // and with it the lock
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("known hosts: lock %s: %w", name, err)
	}
	cb, err := t.known()
	if err != nil {
		return err
	}
	var unknown *knownhosts.KeyError
	if err := cb(t.name, t.addr(), key); !errors.As(err, &unknown) || len(unknown.Want) > 0 {
		again := *t
		again.accept = false
		return again.judge(key, err)
	}
	line := knownhosts.Line([]string{t.name}, key) + "\n"
	if !endsLine(f) {
		line = "\n" + line
	}
	if _, err := io.WriteString(f, line); err != nil {
		return fmt.Errorf("known hosts: %w", err)
	}
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // EINVAL: /dev/null
		return fmt.Errorf("known hosts: %w", err)
	}
	return nil
}

// endsLine says whether a file is empty or ends with a newline.
func endsLine(f *os.File) bool {
	fi, err := f.Stat()
	if err != nil || fi.Size() == 0 {
		return true
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, fi.Size()-1)
	return err != nil || b[0] == '\n'
}
