package host

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"certbook/engine"
)

// loginShell is the far side of an SSH connection without the connection: what
// sshd does with a command line, which is to give it to the login shell.
type loginShell struct{ path string }

func (l loginShell) run(ctx context.Context, p process) (int, error) {
	line, err := commandLine(p.argv)
	if err != nil {
		return -1, err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Env = append(os.Environ(), "PATH="+l.path+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // sshd does so too: the wrapper may end the group
	w, err := cmd.StdinPipe()
	if err != nil {
		return -1, err
	}
	if err := cmd.Start(); err != nil {
		return -1, err
	}
	done, fed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(fed)
		if p.feed != nil {
			_ = p.feed(w, done)
		}
		if p.hold {
			<-done
		}
		w.Close()
	}()
	err = cmd.Wait()
	close(done)
	<-fed
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return -1, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

func (loginShell) dial(context.Context, string) (net.Conn, error) { return nil, errors.ErrUnsupported }
func (loginShell) close() error                                   { return nil }

// passwordSudo is sudo as far as the wrapper sees it: it prompts, reads one
// line, and runs the command.
const passwordSudo = `#!/bin/sh
if [ "$1" = -n ]; then shift 2; exec "$@"; fi
printf '%s' "$3" >&2
read -r given
[ "$given" = 'se "cr$et' ] || { echo "wrong password: $given" >&2; exit 1; }
shift 4
exec "$@"
`

// FuzzCommandLine sends words, a variable and standard input the way that a
// machine behind SSH gets them: as the login user, by sudo, and by sudo with a
// password. A real shell must hand on every byte.
func FuzzCommandLine(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sudo"), []byte(passwordSudo), 0o700); err != nil {
		f.Fatal(err)
	}
	way := loginShell{path: dir}
	hosts := map[string]*Host{
		"login user":           {t: way},
		"sudo":                 {t: way, sudo: &sudo{}},
		"sudo with a password": {t: way, sudo: &sudo{password: `se "cr$et`, prompt: "certbook-prompt:"}},
	}
	f.Cleanup(func() {
		for _, h := range hosts {
			h.Close()
		}
	})
	for _, s := range []string{"", "a b", "it's", `"`, "$(id)", "`id`", "a\nb", "\\'", "--", "-n", "*", "a=b", "\xff\xfe", "\r", "'\"'\"'"} {
		f.Add(s, "x", "x", []byte("x"))
		f.Add("x", s, s, []byte(s))
	}
	f.Add("\x00", "", "", []byte("\x00"))
	f.Add("--", "PATH=/", "'\n--\n", []byte("certbook-prompt:\x01certbook-ready\n"))
	f.Fuzz(func(t *testing.T, word, other, variable string, stdin []byte) {
		c := engine.Command{
			Argv:  []string{"sh", "-c", `printf '%s\0%s\0%s\0' "$1" "$2" "$FUZZ"; exec cat`, "sh", word, other},
			Env:   []string{"FUZZ=" + variable},
			Stdin: stdin,
		}
		want := word + "\x00" + other + "\x00" + variable + "\x00"
		check := func(name, want string, c engine.Command, run func(context.Context, engine.Command) (engine.Output, error)) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			out, err := run(ctx, c)
			cancel()
			switch {
			case strings.ContainsRune(word+other+variable, 0):
				if err == nil || !strings.Contains(err.Error(), "NUL") {
					t.Fatalf("%s: a NUL was sent: %v", name, err)
				}
			case len(word)+len(other)+len(variable) > maxLine/8:
				// It may be too long when it is quoted.
			case err != nil:
				t.Fatalf("%s: %v", name, err)
			case !bytes.Equal(out.Stdout, []byte(want)):
				t.Fatalf("%s: %q arrived as %q", name, want, out.Stdout)
			}
		}
		for name, h := range hosts {
			check(name, want+string(stdin), c, h.Exec)
			asked := c
			asked.Stdin = nil
			check(name+", in a shell that lasts", want, asked, h.Query)
		}
	})
}

// FuzzPublicKey looks for a private key in any text. What it finds is a public
// key, and is no longer found when the secrets are taken out.
func FuzzPublicKey(f *testing.F) {
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		f.Fatal(err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	inside := encode(string(key))
	for _, text := range []string{
		string(key), "x\n" + string(key) + "y\n", "  client-key-data: " + inside + "\n", "client-key-data: \"" + inside + "\" # x\n",
		`{"users":[{"user":{"client-key-data":"` + inside + `"}}]}`, "- client-key-data: |\n    " + inside[:40] + "\n    " + inside[40:] + "\n",
		"client-key-data: REDACTED\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		pub := PublicKey(data)
		if pub == nil {
			return
		}
		if _, err := x509.ParsePKIXPublicKey(pub); err != nil {
			t.Fatal(err)
		}
		clean, found := Redact(data)
		if !found || PublicKey(clean) != nil {
			t.Fatalf("the key of %q is still in %q", data, clean)
		}
	})
}

// FuzzParseKeys reads anything as what keysScript prints.
func FuzzParseKeys(f *testing.F) {
	const pub = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
	f.Add([]byte("1\n" + pub + "2\n" + pub))
	f.Add([]byte("3\n" + pub))
	f.Add([]byte("1\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("none\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		keys, err := parseKeys(out, []string{"/a", "/b"})
		if err != nil && keys != nil {
			t.Fatal("keys and an error")
		}
		for name := range keys {
			if name != "/a" && name != "/b" {
				t.Fatalf("nobody asked for %q", name)
			}
		}
	})
}
