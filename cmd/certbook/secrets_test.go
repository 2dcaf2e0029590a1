package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"certbook/engine/host/hosttest"

	"github.com/stretchr/testify/require"
)

const (
	token   = "hunter2 '$(x)' \"tökën\""
	pemBody = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo"
)

// forms are the ways in which a secret must not be seen.
func forms(secret string) []string {
	return []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))[:16], secret[:8]}
}

// TestSecretsAreSeenNowhere carries out a playbook that gives secrets to
// commands, which repeat them and fail, and copies a file that holds one, and
// looks at everything that others can see: what is printed, the log, the report,
// and all the while the arguments and the environment of every process.
func TestSecretsAreSeenNowhere(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(in(name), []byte(text), 0o600))
	}
	key := "-----BEGIN PRIVATE KEY-----\n" + pemBody + "\n-----END PRIVATE KEY-----\n"
	sealFile(t, in("secrets.age"), "version: 1\nvars:\n  token: "+quoteYAML(token)+"\n", testRecipient)
	write("inventory.yaml", "version: 1\nsecrets: secrets.age\nhosts: {m1: {connection: local}}\n")
	write("source", token+"\n"+key)
	require.NoError(t, syscall.Mkfifo(in("gate"), 0o600))
	write("p.yaml", strings.NewReplacer("DIR", dir).Replace(`version: 1
name: p
vars: {url: "https://jane:${vars.token}@example.org"}
plays:
- name: one
  hosts: all
  on_failure: stop
  steps:
  - id: write
    action: run-command
    with: {argv: [sh, -c, 'umask 077; cat >DIR/written; cat DIR/gate'], creates: DIR/written, stdin: "${vars.token}"}
  - {id: copy, action: copy-file, with: {from: controller, src: DIR/source, dest: DIR/copied, save: DIR/save}}
  - {id: say, action: run-command, with: {argv: [tee, /dev/stderr], stdin: "${vars.url} ${upper(vars.token)} ${toBase64(vars.token)}"}}
  - {id: judge, action: assert, with: {that: "${vars.token startsWith 'hunter'}", message: "it is not as expected"}}
  - {id: key, action: run-command, with: {argv: [cat, DIR/copied], failed_when: "false"}}
  - {id: fail, action: run-command, with: {argv: [sh, -c, 'cat DIR/source >&2; cat >&2; exit 3'], stdin: "${steps.say.stdout} ${vars.token}"}}
`))
	r := prepare(t, "run", in("p.yaml"), "-i", in("inventory.yaml"), "--age-identity", keyFile(t), "--yes", "--run-dir", in("runs"), "-v", "-o", "json")
	r.starts(t)
	seen := watchProcesses(t, r.Process.Pid)
	var gate *os.File
	require.Eventually(t, func() bool {
		var err error
		gate, err = os.OpenFile(in("gate"), os.O_WRONLY|syscall.O_NONBLOCK, 0) // fails while nobody reads
		return err == nil
	}, patience, tick)
	defer gate.Close()
	require.Eventually(t, func() bool { return strings.Contains(seen.String(), "cat\x00"+in("gate")) }, patience, tick, "the processes of the run are watched")
	require.Contains(t, seen.String(), "PATH=", "their environment too")
	require.NoError(t, gate.Close())
	require.Equal(t, 5, r.ends(t))
	seen.stop()

	for name, want := range map[string]string{"written": token, "copied": token + "\n" + key} {
		have, err := os.ReadFile(in(name))
		require.NoError(t, err)
		require.Equal(t, want, string(have))
	}
	require.Contains(t, r.stdout.String(), `"reason": "sh -c`)
	require.Contains(t, r.stdout.String(), `"Stdout": "*** *** ***"`, "the report has the output")
	all := r.stdout.String() + r.stderr.String() + tree(t, in("runs")) + seen.String()
	for _, secret := range append(append(forms(token), forms(strings.ToUpper(token))...), pemBody, "HUNTER2") {
		require.NotContains(t, all, secret)
	}
}

func quoteYAML(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// processList is what was seen of processes.
type processList struct {
	output
	stop func()
}

// watchProcesses looks again and again at the arguments and the environment of a
// process and its descendants, until it is stopped.
func watchProcesses(t *testing.T, pid int) *processList {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &processList{}
	var done sync.WaitGroup
	p.stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	t.Cleanup(p.stop)
	known := map[string]bool{}
	done.Go(func() {
		for ctx.Err() == nil {
			for _, id := range descendants(pid) {
				for _, file := range []string{"cmdline", "environ"} {
					data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", id, file))
					if err == nil && !known[string(data)] {
						known[string(data)] = true
						_, _ = p.Write(append(data, '\n'))
					}
				}
			}
		}
	})
	return p
}

// descendants returns a process and those that it and they have started.
func descendants(pid int) []int {
	list := []int{pid}
	for i := 0; i < len(list); i++ {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", list[i]))
		for _, file := range files {
			data, _ := os.ReadFile(file) // it may have ended
			for _, word := range strings.Fields(string(data)) {
				var child int
				if _, err := fmt.Sscan(word, &child); err == nil {
					list = append(list, child)
				}
			}
		}
	}
	return list
}

// TestSecretsPassphrase opens secrets with a passphrase that is typed once for
// the plan that is shown, and for the run.
func TestSecretsPassphrase(t *testing.T) {
	dir := t.TempDir()
	inventory, playbook := filepath.Join(dir, "inventory.yaml"), filepath.Join(dir, "p.yaml")
	sealFile(t, filepath.Join(dir, "s.age"), "version: 1\nvars: {token: hunter2}\n", "open sesame")
	require.NoError(t, os.WriteFile(inventory, []byte("version: 1\nsecrets: s.age\nhosts: {m1: {connection: local}}\n"), 0o600))
	require.NoError(t, os.WriteFile(playbook, fmt.Appendf(nil, `version: 1
name: p
plays: [{name: one, hosts: all, steps: [{id: a, action: run-command, with: {argv: [tee, %s/made], stdin: "${vars.token}"}}]}]
`, dir), 0o600))
	begin := func(t *testing.T) (*running, *terminal) {
		console := openTerminal(t)
		r := prepare(t, "run", playbook, "-i", inventory, "--run-dir", filepath.Join(dir, "runs"))
		r.Stdin = console.tty
		r.starts(t)
		r.stderr.waits(t, "passphrase of "+filepath.Join(dir, "s.age")+": ")
		require.Eventually(t, func() bool { return !console.echoes(t) }, patience, tick)
		return r, console
	}
	t.Run("right", func(t *testing.T) {
		r, console := begin(t)
		console.types(t, "open sesame\n")
		r.stderr.waits(t, "Carry this out? [yes/no] ")
		console.types(t, "yes\n")
		require.Zero(t, r.ends(t))
		require.Equal(t, 1, strings.Count(r.stderr.String(), "passphrase"))
		made, err := os.ReadFile(filepath.Join(dir, "made"))
		require.NoError(t, err)
		require.Equal(t, "hunter2", string(made))
		require.NotContains(t, r.stderr.String()+r.stdout.String()+tree(t, filepath.Join(dir, "runs")), "sesame")
	})
	t.Run("wrong", func(t *testing.T) {
		r, console := begin(t)
		console.types(t, "open barley\n")
		require.Equal(t, 2, r.ends(t))
		require.Contains(t, r.stderr.String(), "inventory.yaml:2:10: secrets: "+filepath.Join(dir, "s.age")+": the passphrase is wrong\n")
		require.NotContains(t, r.stderr.String(), "barley")
	})
	t.Run("interrupted", func(t *testing.T) {
		r, console := begin(t)
		r.interrupts(t, syscall.SIGINT)
		require.Equal(t, 130, r.ends(t))
		require.True(t, console.echoes(t), "the terminal is as it was")
	})
}

// TestSecretsSSHKeys opens secrets with private keys of SSH.
func TestSecretsSSHKeys(t *testing.T) {
	hosttest.Needs(t, "ssh-keygen")
	dir := t.TempDir()
	inventory := filepath.Join(dir, "inventory.yaml")
	require.NoError(t, os.WriteFile(inventory, []byte("version: 1\nsecrets: s.age\nhosts: {m1: {connection: local}}\ngroups: {masters: {hosts: [m1]}}\n"), 0o600))
	for _, c := range []struct{ kind, phrase string }{{"ed25519", ""}, {"rsa", ""}, {"ed25519", "open sesame"}, {"rsa", "open sesame"}} {
		t.Run(c.kind+" "+c.phrase, func(t *testing.T) {
			key := filepath.Join(t.TempDir(), "id")
			hosttest.Keygen(t, key, c.kind, c.phrase)
			public, err := os.ReadFile(key + ".pub")
			require.NoError(t, err)
			sealFile(t, filepath.Join(dir, "s.age"), "version: 1\n", string(public))
			r := prepare(t, "plan", "check", "-i", inventory, "--age-identity", key)
			if c.phrase != "" {
				code, _, stderr := certbook(t, "plan", "check", "-i", inventory, "--age-identity", key)
				require.Equal(t, 2, code)
				require.Contains(t, stderr, "s.age: key "+key+" has a passphrase, and there is no terminal to ask for it\n")
				console := openTerminal(t)
				r.Stdin = console.tty
				r.starts(t)
				r.stderr.waits(t, "passphrase of "+key+": ")
				require.Eventually(t, func() bool { return !console.echoes(t) }, patience, tick)
				console.types(t, c.phrase+"\n")
			} else {
				r.starts(t)
			}
			require.Zero(t, r.ends(t))
		})
	}
}

// TestSudoPasswordFromSecrets uses what the inventory's secrets have for sudo
// and for a key with a passphrase; a flag wins over them.
func TestSudoPasswordFromSecrets(t *testing.T) {
	const password, phrase = "cörrect horse'$(x) battery", "open sesame"
	user := hosttest.SudoUser(t, password)
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Users: []string{user}})
	c := newSite(t, s, user)
	key := filepath.Join(c.dir, "id")
	hosttest.Keygen(t, key, "ed25519", phrase)
	public, err := os.ReadFile(key + ".pub")
	require.NoError(t, err)
	s.Authorize(t, string(public))
	c.ssh["identity"] = "[" + key + "]"
	c.secrets = "secrets.age"
	identity := []string{"--age-identity", keyFile(t), "-v"}
	seal := func(text string) {
		sealFile(t, filepath.Join(c.dir, "secrets.age"), "version: 1\n"+text, testRecipient)
	}
	phrases := "key_passphrases: {" + key + ": " + phrase + "}\n"

	seal("sudo_password: " + quoteYAML(password) + "\n")
	c.refused(t, []string{key, "has a passphrase, and there is no terminal to ask for it"}, identity...)
	seal(phrases)
	c.refused(t, []string{"sudo on m1 wants a password; give --ask-sudo-pass or --sudo-password-file, or put it into the secrets of the inventory"}, identity...)
	seal("key_passphrases: {" + key + ": barley}\n")
	c.refused(t, []string{"key file " + key + ": the passphrase is wrong"}, identity...)

	seal(phrases + "sudo_password: barley\nhosts: {m1: {sudo_password: " + quoteYAML(password) + "}}\n")
	wrong := filepath.Join(c.dir, "password")
	require.NoError(t, os.WriteFile(wrong, []byte("wrong\n"), 0o600))
	c.refused(t, []string{"sudo does not accept the password"}, append(identity, "--sudo-password-file", wrong)...)
	c.refused(t, []string{"--ask-sudo-pass: there is no terminal to ask on"}, append(identity, "-K")...)

	inventory := c.inventory(t)
	r := prepare(t, append([]string{"run", filepath.Join(c.dir, "p.yaml"), "-i", inventory, "--yes",
		"--run-dir", filepath.Join(c.dir, "runs"), "--ssh-config", "none"}, identity...)...)
	r.Env = append(os.Environ(), "SSH_AUTH_SOCK=")
	r.starts(t)
	seen, far := watchProcesses(t, r.Process.Pid), watchProcesses(t, s.Pid())
	require.Zero(t, r.ends(t))
	seen.stop()
	far.stop()
	require.FileExists(t, c.made)
	require.Contains(t, far.String(), "sudo\x00-S\x00", "the processes on the host are watched")
	all := r.stdout.String() + r.stderr.String() + tree(t, filepath.Join(c.dir, "runs")) + seen.String() + far.String()
	for _, secret := range append(forms(password), forms(phrase)...) {
		require.NotContains(t, all, secret)
	}
}

// TestSecretsPage does what docs/secrets.md says, on the documents that it shows.
func TestSecretsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/secrets.md")
	require.NoError(t, err)
	dir := t.TempDir()
	for _, block := range regexp.MustCompile("(?s)```yaml\n# (\\S+)\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, block[1]), []byte(block[2]), 0o600))
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	text, err := os.ReadFile(in("secrets.yaml"))
	require.NoError(t, err)
	sealFile(t, in("secrets.age"), string(text), testRecipient)
	lint := []string{"lint", in("tell.yaml"), "-i", in("inventory.yaml")}
	code, _, stderr := certbook(t, lint...)
	require.Zero(t, code, stderr)
	require.Contains(t, stderr, "it must have the variables smtp_password\n")
	code, _, stderr = certbook(t, append(lint, "--age-identity", keyFile(t))...)
	require.Zero(t, code, stderr)
	require.Empty(t, stderr)

	for _, command := range regexp.MustCompile(`(?m)^certbook (.*?)(?: +#.*)?$`).FindAllStringSubmatch(string(page), -1) {
		words := strings.Fields(command[1])
		cmd, rest, err := rootCommand(streams{out: io.Discard, err: io.Discard}).Find(words)
		require.NoError(t, err)
		require.NoError(t, cmd.ParseFlags(rest), command[1])
	}
	for _, flag := range regexp.MustCompile("--[a-z-]+").FindAllString(string(page), -1) {
		if flag != "--netrc-file" {
			cmd, _, err := rootCommand(streams{}).Find([]string{"run"})
			require.NoError(t, err)
			require.NotNil(t, cmd.Flags().Lookup(flag[2:]), flag)
		}
	}
}
