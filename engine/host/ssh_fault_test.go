package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/engine/host"
	"certbook/engine/host/hosttest"
)

// eventually polls until the file exists.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, 20*time.Millisecond, what)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// beat is a command that writes the time to a file for as long as it lives.
func beat(file string) engine.Command {
	return engine.Command{Argv: []string{"sh", "-c", `while :; do date +%s.%N >"$1"; sleep 0.05; done`, "sh", file}}
}

// stops waits until nothing writes to the file any more.
func stops(t *testing.T, file string) {
	t.Helper()
	last, since := time.Time{}, time.Now()
	eventually(t, "the command still runs", func() bool {
		fi, err := os.Stat(file)
		if err == nil && !fi.ModTime().Equal(last) {
			last, since = fi.ModTime(), time.Now()
		}
		return time.Since(since) > time.Second
	})
}

func TestCancelEndsTheCommand(t *testing.T) {
	user, locked := hosttest.SudoUser(t, ""), hosttest.SudoUser(t, "secret")
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Users: []string{user, locked}})
	local, err := host.Local(t.Context(), host.LocalOptions{})
	require.NoError(t, err)
	opt := s.Options()
	hosts := map[string]*host.Host{"local": local, "root": dialled(t, opt)}
	opt.Sudo = host.SudoAlways
	opt.User = user
	hosts["sudo"] = dialled(t, opt)
	opt.User = locked
	opt.SudoPassword = func(context.Context, string) (string, error) { return "secret", nil }
	hosts["sudo with a password"] = dialled(t, opt)
	for name, h := range hosts {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "beat")
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { _, err := h.Exec(ctx, beat(file)); done <- err }()
			eventually(t, "the command does not start", func() bool { return exists(file) })
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
			stops(t, file)
		})
	}
}

func TestDroppedConnectionEndsTheCommand(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{})
	h := dialled(t, s.Options())
	file := filepath.Join(t.TempDir(), "beat")
	done := make(chan error, 1)
	go func() { _, err := h.Exec(context.Background(), beat(file)); done <- err }()
	eventually(t, "the command does not start", func() bool { return exists(file) })
	h.Close()
	err := <-done
	require.ErrorContains(t, err, "the connection is closed")
	var exit *engine.ExitError
	require.False(t, errors.As(err, &exit))
	stops(t, file)
	_, err = h.Exec(t.Context(), engine.Command{Argv: []string{"true"}})
	require.ErrorContains(t, err, "the connection is closed")
}

func TestPartialContentIsNotWritten(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{})
	h := dialled(t, s.Options())
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	require.NoError(t, os.WriteFile(name, []byte("old"), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	data := make([]byte, 7<<20)
	err := h.WriteFile(ctx, name, data, engine.FileOptions{})
	if err != nil {
		eventually(t, "a temporary file is left", func() bool {
			left, _ := filepath.Glob(dir + "/.certbook*")
			return len(left) == 0
		})
		got, rerr := os.ReadFile(name)
		require.NoError(t, rerr)
		require.Contains(t, []int{len("old"), len(data)}, len(got), "neither the old nor the new file")
	}
}

func TestManyCommandsAtOnce(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Config: []string{"MaxSessions 3"}})
	h := dialled(t, s.Options())
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			out, err := h.Exec(t.Context(), engine.Command{Argv: []string{"echo", fmt.Sprint(i)}})
			if err != nil || string(out.Stdout) != fmt.Sprintln(i) {
				t.Errorf("command %d: %q, %v", i, out.Stdout, err)
			}
		})
	}
	all.Wait()
}

// TestFewSessions asks a server that allows only two sessions: shells give theirs
// up for what needs one.
func TestFewSessions(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Config: []string{"MaxSessions 2"}})
	h := dialled(t, s.Options())
	var all sync.WaitGroup
	for i := range 20 {
		c := engine.Command{Argv: []string{"echo", fmt.Sprint(i)}}
		run := h.Query
		if i%2 == 0 {
			run = h.Exec
		}
		all.Go(func() {
			out, err := run(t.Context(), c)
			if err != nil || string(out.Stdout) != fmt.Sprintln(i) {
				t.Errorf("command %d: %q, %v", i, out.Stdout, err)
			}
		})
	}
	all.Wait()
}

func TestCommandTimeout(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{})
	opt := s.Options()
	opt.CommandTimeout = 300 * time.Millisecond
	h, err := host.Dial(t.Context(), opt)
	require.NoError(t, err)
	defer h.Close()
	_, err = h.Exec(t.Context(), engine.Command{Argv: []string{"sleep", "30"}})
	require.ErrorContains(t, err, "sleep 30: not finished after 300ms")
}

func TestKeepAlive(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{})
	opt := s.Options()
	opt.KeepAlive = 100 * time.Millisecond
	h := dialled(t, opt)
	_, err := h.Exec(t.Context(), engine.Command{Argv: []string{"sleep", "1"}})
	require.NoError(t, err, "a live connection is kept")
	s.Freeze(t, true)
	t.Cleanup(func() { s.Freeze(t, false) })
	_, err = h.Exec(t.Context(), engine.Command{Argv: []string{"true"}})
	require.ErrorContains(t, err, "the host has not answered for 300ms")
}

// TestSudoBeginsToAsk takes the right to use sudo without a password away in the
// middle: the next command fails at once and says why, and is not run.
func TestSudoBeginsToAsk(t *testing.T) {
	user := hosttest.SudoUser(t, "")
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Users: []string{user}})
	opt := s.Options()
	opt.User, opt.Sudo = user, host.SudoAuto
	h := dialled(t, opt)
	file := filepath.Join(t.TempDir(), "made")
	require.NoError(t, os.WriteFile("/etc/sudoers.d/"+user, []byte(user+" ALL=(ALL:ALL) ALL\n"), 0o440))
	within(t, func() {
		_, err := h.Exec(t.Context(), engine.Command{Argv: []string{"touch", file}})
		require.ErrorContains(t, err, "sudo: a password is required")
		_, err = h.ReadFiles(t.Context(), "/etc/hostname")
		require.ErrorContains(t, err, "sudo: a password is required")
	})
	require.NoFileExists(t, file)
}

// TestProgramsOutsidePATH finds a program where neither a login nor sudo looks.
func TestProgramsOutsidePATH(t *testing.T) {
	user, bin := hosttest.SudoUser(t, ""), t.TempDir()
	require.NoError(t, os.WriteFile(bin+"/certbook-tool", []byte("#!/bin/sh\nid -u\n"), 0o755))
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Users: []string{user}, Config: []string{"SetEnv PATH=/usr/bin:/bin"}, Binds: map[string]string{"/opt/bin": bin}})
	opt := s.Options()
	for _, name := range []string{"root", user} {
		opt.User, opt.Sudo = name, host.SudoAuto
		out, err := dialled(t, opt).Exec(t.Context(), engine.Command{Argv: []string{"certbook-tool"}})
		require.NoError(t, err, name)
		require.Equal(t, "0\n", string(out.Stdout), name)
	}
}

func TestSudoWantsTerminal(t *testing.T) {
	user := hosttest.SudoUser(t, "")
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Users: []string{user}})
	require.NoError(t, os.WriteFile("/etc/sudoers.d/"+user, []byte("Defaults:"+user+" requiretty\n"+user+" ALL=(ALL:ALL) NOPASSWD: ALL\n"), 0o440))
	opt := s.Options()
	opt.User, opt.Sudo = user, host.SudoAuto
	_, err := host.Dial(t.Context(), opt)
	require.ErrorIs(t, err, host.ErrSudo)
	require.ErrorContains(t, err, `sudo wants a terminal; add "Defaults:`+user+` !requiretty" to sudoers`)
}

func TestAuthentication(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{})
	dir := t.TempDir()
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		for _, phrase := range []string{"", "open 'sesame"} {
			t.Run(kind+" "+phrase, func(t *testing.T) {
				file := filepath.Join(dir, "id_"+kind+fmt.Sprint(len(phrase)))
				hosttest.Keygen(t, file, kind, phrase)
				opt := s.Options()
				opt.Identity = []string{file}
				asked := 0
				opt.Passphrase = func(_ context.Context, name string) (string, error) {
					asked++
					require.Equal(t, file, name)
					return phrase, nil
				}
				_, err := host.Dial(t.Context(), opt)
				require.ErrorIs(t, err, host.ErrAuth)
				require.ErrorContains(t, err, "does not let user root log in with any of these keys: "+file+" (SHA256:")
				require.Zero(t, asked, "a passphrase is asked only for a key that the server takes")
				pub, err := os.ReadFile(file + ".pub")
				require.NoError(t, err)
				s.Authorize(t, string(pub))
				h, err := host.Dial(t.Context(), opt)
				require.NoError(t, err)
				h.Close()
				if phrase == "" {
					return
				}
				require.Equal(t, 1, asked)
				opt.Passphrase = func(context.Context, string) (string, error) { return "wrong", nil }
				_, err = host.Dial(t.Context(), opt)
				require.ErrorIs(t, err, host.ErrAuth)
				require.ErrorContains(t, err, "the passphrase is wrong")
				opt.Passphrase = nil
				_, err = host.Dial(t.Context(), opt)
				require.ErrorContains(t, err, "has a passphrase; load it into the agent with ssh-add")
			})
		}
	}
	opt := s.Options()
	opt.Identity = []string{dir + "/missing"}
	_, err := host.Dial(t.Context(), opt)
	require.ErrorContains(t, err, "m1: key file: open "+dir+"/missing: no such file")
}

func TestAgent(t *testing.T) {
	hosttest.Needs(t, "ssh-agent", "ssh-add")
	s := hosttest.SSHD(t, hosttest.SSHDOptions{})
	sock := filepath.Join(s.Dir, "agent")
	agent := exec.Command("ssh-agent", "-D", "-a", sock)
	require.NoError(t, agent.Start())
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	eventually(t, "ssh-agent does not start", func() bool { return exists(sock) })
	opt := s.Options()
	t.Setenv("HOME", t.TempDir())
	opt.Identity, opt.NoAgent, opt.Agent = nil, false, sock
	_, err := host.Dial(t.Context(), opt)
	require.ErrorIs(t, err, host.ErrAuth)
	require.ErrorContains(t, err, "there is no key to log in with")
	add := exec.Command("ssh-add", s.Identity)
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
	out, err := add.CombinedOutput()
	require.NoError(t, err, "%s", out)
	h, err := host.Dial(t.Context(), opt)
	require.NoError(t, err)
	require.NoError(t, h.Close())
	require.NoError(t, h.Close(), "Close may be called twice")
}

func TestNoOpenSSL(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Binds: map[string]string{"/usr/bin/openssl": "/dev/null"}})
	h := dialled(t, s.Options())
	_, err := h.PublicKeys(t.Context(), s.Identity)
	require.ErrorIs(t, err, host.ErrNoOpenSSL)
	require.True(t, strings.HasSuffix(err.Error(), "install the package openssl"))
}

func TestBinds(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/f", []byte("mine"), 0o600))
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Binds: map[string]string{"/etc/certbook-test/kubernetes": dir}})
	h := dialled(t, s.Options())
	files, err := h.ReadFiles(t.Context(), "/etc/certbook-test/kubernetes/*")
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.Equal(t, "mine", string(files[0].Data))
	require.NoFileExists(t, "/etc/certbook-test/kubernetes/f", "only the server sees it")
}
