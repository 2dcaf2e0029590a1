package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"certbook/engine/host/hosttest"

	"github.com/stretchr/testify/require"
)

// signKey makes a key and an allowed_signers file for it.
func signKey(t *testing.T, passphrase string) (key, signers string) {
	t.Helper()
	hosttest.Needs(t, "ssh-keygen")
	dir := t.TempDir()
	key, signers = filepath.Join(dir, "key"), filepath.Join(dir, "signers")
	hosttest.Keygen(t, key, "ed25519", passphrase)
	public, err := os.ReadFile(key + ".pub")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(signers, append([]byte("ops@site "), public...), 0o600))
	return key, signers
}

// TestSignedEventfulLog signs the log of a run in which everything happens.
func TestSignedEventfulLog(t *testing.T) {
	key, signers := signKey(t, "")
	log := eventfulLog(t, "--sign-key", key, "--copy-checkpoint")
	code, out, _ := certbook(t, "audit", "verify", log, "--allowed-signers", signers)
	require.Zero(t, code)
	require.Contains(t, out, "\ncheckpoints 6, signed by ops@site\n") // three plays, two batches, the end
	inventory := filepath.Join(filepath.Dir(log), "../../inventory.yaml")
	code, out, _ = certbook(t, "audit", "verify", log, "--copies", "-i", inventory, "--limit", "m1,m2")
	require.Zero(t, code)
	require.Contains(t, out, "\nm1: agrees: 75 lines\nm2: agrees: 75 lines\n")
}

// TestCheckpointOverSSH leaves a checkpoint on a host by the way that runs take,
// as a user who needs sudo.
func TestCheckpointOverSSH(t *testing.T) {
	const password = "correct horse"
	key, signers := signKey(t, "")
	user := hosttest.SudoUser(t, password)
	remote := t.TempDir()
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Users: []string{user}, Binds: map[string]string{"/var/lib/certbook": remote}})
	c := newSite(t, s, user)
	file := filepath.Join(c.dir, "password")
	require.NoError(t, os.WriteFile(file, []byte(password+"\n"), 0o600))
	code, _, stderr := c.run(t, "--sign-key", key, "--copy-checkpoint", "--sudo-password-file", file)
	require.Zero(t, code, stderr)
	copies, err := filepath.Glob(filepath.Join(remote, "checkpoints", "*.json*"))
	require.NoError(t, err)
	require.Len(t, copies, 2)

	verify := []string{"audit", "verify", "--run-dir", filepath.Join(c.dir, "runs"), "--copies", "-i", c.inventory(t),
		"--ssh-config", "none", "--allowed-signers", signers, "--sudo-password-file", file}
	code, out, _ := certbook(t, verify...)
	require.Zero(t, code)
	require.Contains(t, out, "\ncheckpoints 2, signed by ops@site\nm1: agrees: 9 lines\n")
	require.NoError(t, os.Truncate(copies[1], 0))
	code, out, _ = certbook(t, verify...)
	require.Equal(t, 1, code)
	require.Contains(t, out, "m1: differs: its signature cannot be read")
}

// TestCopyToAHostThatWasNotReached does not try again.
func TestCopyToAHostThatWasNotReached(t *testing.T) {
	key, _ := signKey(t, "")
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "p.yaml"), []byte("version: 1\nname: p\nplays: [{name: one, hosts: all, steps: [{id: one, action: assert, with: {that: true}}]}]\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "inventory.yaml"), []byte("version: 1\nhosts: {m1: {connection: local, root: "+dir+"/gone}}\n"), 0o600))
	code, _, stderr := certbook(t, "run", filepath.Join(dir, "p.yaml"), "-i", filepath.Join(dir, "inventory.yaml"), "--yes",
		"--run-dir", filepath.Join(dir, "runs"), "--sign-key", key, "--copy-checkpoint")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "m1: no checkpoint left: the run did not reach it\n")
}

func TestAskPassphraseOfTheSignKey(t *testing.T) {
	const phrase = "correct horse"
	key, signers := signKey(t, phrase)
	dir := t.TempDir()
	playbook := filepath.Join(dir, "p.yaml")
	require.NoError(t, os.WriteFile(playbook, []byte("version: 1\nname: p\nplays: [{name: one, hosts: all, steps: [{id: one, action: run-command, with: {argv: [touch, f], creates: /f}}]}]\n"), 0o600))
	begin := func(t *testing.T) (*running, *terminal, string) {
		runs := filepath.Join(t.TempDir(), "runs")
		console := openTerminal(t)
		r := prepare(t, "run", playbook, "--root", dir, "--run-dir", runs, "--sign-key", key)
		r.Stdin = console.tty
		r.starts(t)
		r.stderr.waits(t, "passphrase of "+key+": ")
		require.Eventually(t, func() bool { return !console.echoes(t) }, patience, tick)
		return r, console, runs
	}

	t.Run("once", func(t *testing.T) {
		r, console, runs := begin(t)
		console.types(t, phrase+"\n")
		r.stderr.waits(t, "Carry this out? [yes/no] ")
		require.True(t, console.echoes(t))
		console.types(t, "yes\n")
		require.Zero(t, r.ends(t))
		require.Equal(t, 1, strings.Count(r.stderr.String(), "passphrase of "))
		require.NotContains(t, r.stderr.String()+r.stdout.String()+tree(t, runs), phrase)
		code, _, _ := certbook(t, "audit", "verify", "--run-dir", runs, "--allowed-signers", signers)
		require.Zero(t, code)
	})

	t.Run("wrong", func(t *testing.T) {
		r, console, runs := begin(t)
		console.types(t, "battery\n")
		require.Equal(t, 2, r.ends(t))
		require.Contains(t, r.stderr.String(), "certbook: --sign-key: "+key+": the passphrase is wrong\n")
		require.NoDirExists(t, runs)
	})

	t.Run("interrupted", func(t *testing.T) {
		r, console, runs := begin(t)
		r.interrupts(t, syscall.SIGINT)
		require.Equal(t, 130, r.ends(t))
		require.True(t, console.echoes(t), "the terminal is as it was")
		require.NoDirExists(t, runs)
	})
}
