package main

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"certbook/engine/host/hosttest"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// These tests run the command line against a real sshd: what goes wrong on the
// way to a host is one clear message and exit code 1.

// site is a controller's directory with an inventory of one host, m1, and a
// playbook that makes a file there.
type site struct {
	dir, made  string
	knownHosts string
	ssh        map[string]string
	secrets    string // the inventory's, "" for none
}

func newSite(t *testing.T, s *hosttest.Server, user string) *site {
	t.Helper()
	dir := t.TempDir()
	// The user on the "remote" machine writes here.
	out, err := os.MkdirTemp("", "certbook-made-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(out) })
	c := &site{dir: dir, made: filepath.Join(out, "file"), knownHosts: filepath.Join(dir, "known_hosts"), ssh: map[string]string{
		"user": user, "port": fmt.Sprint(s.Port), "identity": "[" + s.Identity + "]", "connect_timeout": "20s",
	}}
	known, err := os.ReadFile(s.KnownHosts)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(c.knownHosts, known, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "p.yaml"), fmt.Appendf(nil, `version: 1
name: p
plays:
- {name: one, hosts: all, steps: [{id: make, action: run-command, with: {argv: [touch, %s], creates: %s}}]}
`, c.made, c.made), 0o600))
	return c
}

// run runs the playbook and returns what certbook printed.
func (c *site) run(t *testing.T, flags ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("SSH_AUTH_SOCK", "")
	return certbook(t, append([]string{"run", filepath.Join(c.dir, "p.yaml"), "-i", c.inventory(t), "--yes",
		"--run-dir", filepath.Join(c.dir, "runs"), "--ssh-config", "none"}, flags...)...)
}

// inventory writes the inventory and returns its path.
func (c *site) inventory(t *testing.T) string {
	t.Helper()
	var settings []string
	for name, value := range c.ssh {
		settings = append(settings, name+": "+value)
	}
	file := filepath.Join(c.dir, "inventory.yaml")
	text := fmt.Sprintf("version: 1\nssh: {%s, known_hosts: [%s]}\nhosts: {m1: {address: 127.0.0.1}}\ngroups: {masters: {hosts: [m1]}}\n", strings.Join(settings, ", "), c.knownHosts)
	if c.secrets != "" {
		text += "secrets: " + c.secrets + "\n"
	}
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// refused wants the run to fail before it begins, with one message that holds
// the texts, on one line.
func (c *site) refused(t *testing.T, texts []string, flags ...string) {
	t.Helper()
	code, stdout, stderr := c.run(t, flags...)
	require.Equal(t, 1, code)
	require.Contains(t, stdout, "m1: failed, nothing was changed\n")
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	last := lines[len(lines)-1]
	require.True(t, strings.HasPrefix(last, "certbook: m1: "), last)
	require.Equal(t, 1, strings.Count(last, "m1: "), "the host is named once: %s", last)
	for _, text := range texts {
		require.Contains(t, last, text)
	}
	require.Regexp(t, `(?m)^  m1  +unreachable  `, stderr)
	require.NoFileExists(t, c.made)
}

func TestHostKeyUnknown(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{HostKeys: []string{"rsa"}})
	c := newSite(t, s, "root")
	require.NoError(t, os.Remove(c.knownHosts))
	c.refused(t, []string{
		"the host key is not known", hostFingerprint(t, s, "rsa"), c.knownHosts, "ssh-keygen -lf", "--accept-new",
	})
	require.NoFileExists(t, c.knownHosts)

	code, _, _ := c.run(t, "--accept-new")
	require.Zero(t, code)
	require.FileExists(t, c.made)
	recorded, err := os.ReadFile(c.knownHosts)
	require.NoError(t, err)
	require.Contains(t, string(recorded), publicKey(t, s, "rsa"))
	code, _, _ = c.run(t) // the key is known now
	require.Zero(t, code)
}

func TestHostKeyChanged(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{})
	c := newSite(t, s, "root")
	hosttest.Keygen(t, s.Dir+"/host_other", "ed25519", "")
	other := fmt.Sprintf("[127.0.0.1]:%d %s\n", s.Port, publicKey(t, s, "other"))
	require.NoError(t, os.WriteFile(c.knownHosts, []byte(other), 0o600))
	for _, flags := range [][]string{nil, {"--accept-new"}} {
		c.refused(t, []string{
			"THE HOST KEY HAS CHANGED", hostFingerprint(t, s, "ed25519"), hostFingerprint(t, s, "other"), c.knownHosts + ":1", "ssh-keygen -R",
		}, flags...)
		recorded, err := os.ReadFile(c.knownHosts)
		require.NoError(t, err)
		require.Equal(t, other, string(recorded))
	}
}

func TestWrongKey(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{})
	c := newSite(t, s, "root")
	key := filepath.Join(c.dir, "id")
	hosttest.Keygen(t, key, "ed25519", "")
	c.ssh["identity"] = "[" + key + "]"
	c.refused(t, []string{"does not let user root log in with any of these keys: " + key + " (SHA256:", "add one to authorized_keys there"})

	// A key with a passphrase, and nobody to ask.
	locked := filepath.Join(c.dir, "locked")
	hosttest.Keygen(t, locked, "ed25519", "a passphrase")
	public, err := os.ReadFile(locked + ".pub")
	require.NoError(t, err)
	s.Authorize(t, string(public))
	c.ssh["identity"] = "[" + locked + "]"
	c.refused(t, []string{locked, "has a passphrase, and there is no terminal to ask for it; load it into an ssh-agent"})
}

func TestNobodyListens(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{})
	c := newSite(t, s, "root")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, l.Close())
	c.ssh["port"] = port
	c.refused(t, []string{"127.0.0.1:" + port, "connection refused; nothing listens there: check address and port in the inventory, and that sshd runs"})

	code, stdout, stderr := certbook(t, "check", "-i", c.inventory(t), "--ssh-config", "none")
	require.Equal(t, 1, code)
	require.Empty(t, stdout, "no table without a line")
	require.Contains(t, stderr, "connection refused")
}

func TestSudo(t *testing.T) {
	const password = "cörrect horse'$(x) battery"
	user := hosttest.SudoUser(t, password)
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Users: []string{user}})
	c := newSite(t, s, user)
	require.NoError(t, os.Chmod(filepath.Dir(c.made), 0o755)) // only root may write there
	c.refused(t, []string{"sudo on m1 wants a password; give --ask-sudo-pass or --sudo-password-file"})
	c.refused(t, []string{"--ask-sudo-pass: there is no terminal to ask on; use --sudo-password-file"}, "-K")

	file := filepath.Join(c.dir, "password")
	code, _, stderr := c.run(t, "--sudo-password-file", file)
	require.Equal(t, 2, code)
	require.Equal(t, "certbook: --sudo-password-file: open "+file+": no such file or directory\n", stderr)
	require.NoError(t, os.WriteFile(file, []byte("wrong\n"), 0o600))
	c.refused(t, []string{"sudo does not accept the password"}, "--sudo-password-file", file)

	require.NoError(t, os.WriteFile(file, []byte(password+"\r\nsecond line\n"), 0o600))
	code, stdout, stderr := c.run(t, "--sudo-password-file", file, "-v")
	require.Zero(t, code)
	require.FileExists(t, c.made)

	key, err := os.ReadFile(s.Identity)
	require.NoError(t, err)
	logs := stdout + stderr + tree(t, filepath.Join(c.dir, "runs"))
	require.Contains(t, logs, `"event":"step-changed"`)
	for _, secret := range []string{password, "wrong", base64.StdEncoding.EncodeToString([]byte(password)), strings.Split(string(key), "\n")[2]} {
		require.NotContains(t, logs, secret)
	}
}

// tree returns what is in all files below dir.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	require.NoError(t, filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(file)
		all.Write(data)
		return err
	}))
	require.NotEmpty(t, all.String(), dir)
	return all.String()
}

// publicKey returns type and key of one of the server's host keys.
func publicKey(t *testing.T, s *hosttest.Server, kind string) string {
	t.Helper()
	data, err := os.ReadFile(s.Dir + "/host_" + kind + ".pub")
	require.NoError(t, err)
	return regexp.MustCompile(`^\S+ \S+`).FindString(string(data))
}

func hostFingerprint(t *testing.T, s *hosttest.Server, kind string) string {
	t.Helper()
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(publicKey(t, s, kind)))
	require.NoError(t, err)
	return ssh.FingerprintSHA256(key)
}
