package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"certbook/engine"
	"certbook/engine/host/hosttest"
)

// newKey makes a key without ssh-keygen and returns its line of a public key file.
func newKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	key, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	return key, string(ssh.MarshalAuthorizedKey(key.PublicKey()))
}

// signers writes an allowed_signers file and reads it.
func signers(t *testing.T, lines ...string) *Signers {
	t.Helper()
	file := filepath.Join(t.TempDir(), "signers")
	var text bytes.Buffer
	for _, l := range lines {
		fmt.Fprintln(&text, l)
	}
	require.NoError(t, os.WriteFile(file, text.Bytes(), 0o600))
	s, err := ReadSigners(file)
	require.NoError(t, err)
	return s
}

// course is a run with two batches: checkpoints after lines 2, 3, 6 and 10.
func course() []engine.Event {
	e := sample()
	batch := func(host string) engine.Event {
		return engine.Event{Kind: engine.BatchStarted, Run: e[0].Run, Time: e[1].Time, Play: "renew", Hosts: []string{host}}
	}
	return []engine.Event{e[0], e[1], batch("m1"), e[2], e[7], batch("m2"), e[3], e[6], e[7], e[8]}
}

// signedLog writes a signed log of events into a directory of its own.
func signedLog(t *testing.T, key ssh.Signer, events ...engine.Event) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "audit.jsonl")
	log, err := Create(path)
	require.NoError(t, err)
	log.SignWith(key)
	for _, e := range events {
		require.NoError(t, log.Write(e))
	}
	require.NoError(t, log.Close())
	return path
}

func files(t *testing.T, log string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(log))
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		require.EqualValues(t, 0o600, info.Mode().Perm(), e.Name())
		names = append(names, e.Name())
	}
	return names
}

func TestCheckpoints(t *testing.T) {
	key, public := newKey(t)
	log := signedLog(t, key, course()...)
	require.Equal(t, []string{"audit.jsonl",
		"checkpoint-000002.json", "checkpoint-000002.json.sig", "checkpoint-000003.json", "checkpoint-000003.json.sig",
		"checkpoint-000006.json", "checkpoint-000006.json.sig", "checkpoint-000010.json", "checkpoint-000010.json.sig",
	}, files(t, log))
	list, err := VerifyCheckpoints(log, signers(t, "# keys", "", "ops@site "+public))
	require.NoError(t, err)
	require.Len(t, list, 4)
	s, err := VerifyFile(log)
	require.NoError(t, err)
	require.Equal(t, Signed{Checkpoint{
		APIVersion: "certbook/v1", Run: s.Run, Playbook: "renew", Lines: 10, Head: s.Head, Time: s.Finished, Outcome: engine.OutcomeOK,
	}, "ops@site"}, list[3])
	require.Empty(t, list[0].Outcome)
}

// rewritten is a log of other events with a chain that is right.
func rewritten(t *testing.T, log string, events []engine.Event) {
	t.Helper()
	data, err := os.ReadFile(write(t, events...))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(log, data, 0o600))
}

func TestCheckpointsShowWhatAChainCannot(t *testing.T) {
	key, public := newKey(t)
	other, _ := newKey(t)
	allowed := signers(t, "ops@site "+public)
	beside := func(log, name string) string { return filepath.Join(filepath.Dir(log), name) }
	for name, c := range map[string]struct {
		tamper func(t *testing.T, log string)
		want   string
		cut    bool // the chain alone says so much
	}{
		"rewritten as a whole": {func(t *testing.T, log string) {
			events := course()
			events[6].Step = "another"
			rewritten(t, log, events)
		}, "checkpoint-000010.json: line 10 had another hash then: the log was written anew", false},
		"rewritten with an early end": {func(t *testing.T, log string) {
			events := course()
			rewritten(t, log, append(events[:3:3], events[9]))
		}, "checkpoint-000006.json: the log had 6 lines then and has 4 now: it was cut", false},
		"of another run": {func(t *testing.T, log string) {
			events := course()
			for i := range events {
				events[i].Run = "r2"
			}
			rewritten(t, log, events)
		}, `checkpoint-000002.json: is one of run "20261124T061500Z-x7k2", the log is of run "r2"`, false},
		"cut off": {func(t *testing.T, log string) {
			events := course()
			rewritten(t, log, events[:5])
		}, "checkpoint-000006.json: the log had 6 lines then and has 5 now: it was cut", true},
		"empty": {func(t *testing.T, log string) {
			require.NoError(t, os.Truncate(log, 0))
		}, "checkpoint-000002.json: the log had 2 lines then and has 0 now: it was cut", true},
		"without any checkpoint": {func(t *testing.T, log string) {
			for _, name := range files(t, log)[1:] {
				require.NoError(t, os.Remove(beside(log, name)))
			}
		}, "line 2: there is no checkpoint-000002.json: the log was not signed, or it was removed", false},
		"without the last checkpoint": {func(t *testing.T, log string) {
			require.NoError(t, os.Remove(beside(log, "checkpoint-000010.json")))
		}, "line 10: there is no checkpoint-000010.json", false},
		"without a signature": {func(t *testing.T, log string) {
			require.NoError(t, os.Remove(beside(log, "checkpoint-000003.json.sig")))
		}, "checkpoint-000003.json.sig: no such file", false},
		"another checkpoint's name": {func(t *testing.T, log string) {
			for _, sig := range []string{"", sigSuffix} {
				require.NoError(t, os.Rename(beside(log, "checkpoint-000003.json"+sig), beside(log, "checkpoint-000010.json"+sig)))
			}
		}, "checkpoint-000010.json: is the checkpoint of line 3", false},
		"a changed checkpoint": {func(t *testing.T, log string) {
			file := beside(log, "checkpoint-000003.json")
			doc, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file, bytes.Replace(doc, []byte("renew"), []byte("r3new"), 1), 0o600))
		}, "checkpoint-000003.json: its signature does not fit", false},
		"signed with another key": {func(t *testing.T, log string) {
			file := beside(log, "checkpoint-000010.json")
			doc, err := os.ReadFile(file)
			require.NoError(t, err)
			sig, err := sign(other, doc)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file+sigSuffix, sig, 0o600))
		}, "checkpoint-000010.json: is signed by " + ssh.FingerprintSHA256(other.PublicKey()) + ", which ", false},
		"rewritten and signed with another key": {func(t *testing.T, log string) {
			require.NoError(t, os.RemoveAll(filepath.Dir(log)))
			require.NoError(t, os.Rename(filepath.Dir(signedLog(t, other, course()...)), filepath.Dir(log)))
		}, "checkpoint-000002.json: is signed by ", false},
	} {
		t.Run(name, func(t *testing.T) {
			log := signedLog(t, key, course()...)
			c.tamper(t, log)
			_, err := VerifyFile(log)
			if c.cut {
				require.ErrorAs(t, err, new(*CutOffError))
			} else {
				require.NoError(t, err, "the chain alone does not show it")
			}
			_, err = VerifyCheckpoints(log, allowed)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// TestCheckpointsOfAKilledRun has nothing to object to a run that was killed
// at any moment: a checkpoint follows its line.
func TestCheckpointsOfAKilledRun(t *testing.T) {
	key, public := newKey(t)
	allowed := signers(t, "ops@site "+public)
	for n := range course() {
		log := signedLog(t, key, course()[:n]...)
		_, err := VerifyCheckpoints(log, allowed)
		require.NoError(t, err, "after line %d", n)
		if n > 0 && Checkpointed(course()[n-1].Kind) {
			require.NoError(t, os.Remove(filepath.Join(filepath.Dir(log), checkpointName(n))))
			_, err = VerifyCheckpoints(log, allowed)
			require.NoError(t, err, "after line %d, before its checkpoint", n)
		}
		_, err = VerifyFile(log)
		require.ErrorAs(t, err, new(*CutOffError))
	}
}

func TestCheckpointThatCannotBeWritten(t *testing.T) {
	key, _ := newKey(t)
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := Create(path)
	require.NoError(t, err)
	log.SignWith(key)
	events := course()
	require.NoError(t, log.Write(events[0]))
	require.NoError(t, os.RemoveAll(filepath.Dir(path)))
	err = log.Write(events[1])
	require.ErrorContains(t, err, "audit log: checkpoint: ")
	require.Equal(t, err, log.Write(events[2]))
}

// TestLogIsSyncedBeforeItsCheckpoint looks at an event that is not durable.
func TestLogIsSyncedBeforeItsCheckpoint(t *testing.T) {
	key, _ := newKey(t)
	f := &tape{}
	log := newLog(f)
	log.dir, log.key = t.TempDir(), key
	require.False(t, engine.PlayStarted.Durable())
	require.NoError(t, log.Write(course()[0]))
	f.calls, f.failSync = nil, true
	require.ErrorIs(t, log.Write(course()[1]), errDisk)
	require.Equal(t, []string{"write", "sync"}, f.calls)
	entries, err := os.ReadDir(log.dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestVerifyCopy(t *testing.T) {
	key, public := newKey(t)
	other, _ := newKey(t)
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := Create(path)
	require.NoError(t, err)
	log.SignWith(key)
	doc, sig := log.LastCheckpoint()
	require.Nil(t, doc)
	require.Nil(t, sig)
	for _, e := range course() {
		require.NoError(t, log.Write(e))
	}
	require.NoError(t, log.Close())
	doc, sig = log.LastCheckpoint()
	allowed := signers(t, "ops@site "+public)
	for _, s := range []*Signers{nil, allowed} {
		c, err := VerifyCopy(path, doc, sig, s)
		require.NoError(t, err)
		require.Equal(t, 10, c.Lines)
	}
	wrong, err := sign(other, doc)
	require.NoError(t, err)
	_, err = VerifyCopy(path, doc, wrong, allowed)
	require.ErrorContains(t, err, "is signed by")
	_, err = VerifyCopy(path, doc, nil, allowed)
	require.ErrorContains(t, err, "its signature cannot be read")
	for _, bad := range []string{"", "{}", "[]", `{"apiVersion":"certbook/v2","lines":1}`, `{"apiVersion":"certbook/v1","lines":0}`, string(doc) + "{}"} {
		_, err = VerifyCopy(path, []byte(bad), nil, nil)
		require.ErrorContains(t, err, "is no checkpoint: ", bad)
	}
	events := course()
	events[6].Step = "another"
	rewritten(t, path, events)
	_, err = VerifyCopy(path, doc, nil, nil)
	require.EqualError(t, err, "line 10 had another hash then: the log was written anew")
}

// TestCheckpointHoldsNoSecret scrubs what comes from a document.
func TestCheckpointHoldsNoSecret(t *testing.T) {
	key, _ := newKey(t)
	events := course()
	events[0].Origin.Playbook = "token: abcdefghijkl"
	log := signedLog(t, key, events...)
	doc, err := os.ReadFile(filepath.Join(filepath.Dir(log), "checkpoint-000002.json"))
	require.NoError(t, err)
	var c Checkpoint
	require.NoError(t, json.Unmarshal(doc, &c))
	require.Equal(t, "token: REDACTED", c.Playbook)
}

func TestReadKey(t *testing.T) {
	hosttest.Needs(t, "ssh-keygen")
	dir := t.TempDir()
	never := func() (string, error) { return "", fmt.Errorf("nobody is there") }
	plain, locked, rsa := filepath.Join(dir, "plain"), filepath.Join(dir, "locked"), filepath.Join(dir, "rsa")
	hosttest.Keygen(t, plain, "ed25519", "")
	hosttest.Keygen(t, locked, "ed25519", "phrase")
	hosttest.Keygen(t, rsa, "rsa", "")
	_, err := ReadKey(plain, never)
	require.NoError(t, err)
	asked := 0
	_, err = ReadKey(locked, func() (string, error) { asked++; return "phrase", nil })
	require.NoError(t, err)
	require.Equal(t, 1, asked)
	_, err = ReadKey(locked, func() (string, error) { return "wrong", nil })
	require.EqualError(t, err, locked+": the passphrase is wrong")
	_, err = ReadKey(locked, never)
	require.EqualError(t, err, "nobody is there")
	_, err = ReadKey(rsa, never)
	require.EqualError(t, err, rsa+": is a key of type ssh-rsa, want ssh-ed25519; make one with ssh-keygen -t ed25519")
	require.NoError(t, os.Chmod(plain+".pub", 0o600))
	_, err = ReadKey(plain+".pub", never)
	require.ErrorContains(t, err, plain+".pub: is no private key: ")
	require.NoError(t, os.Chmod(plain, 0o640))
	_, err = ReadKey(plain, never)
	require.EqualError(t, err, plain+": others may read it (mode 0640); chmod 600 it")
	_, err = ReadKey(filepath.Join(dir, "none"), never)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestAllowedSigners gives Certbook and ssh-keygen the same files: they agree
// on who may sign.
func TestAllowedSigners(t *testing.T) {
	hosttest.Needs(t, "ssh-keygen")
	key, public := newKey(t)
	_, other := newKey(t)
	log := signedLog(t, key, course()...)
	doc := filepath.Join(filepath.Dir(log), "checkpoint-000010.json")
	for line, want := range map[string]bool{
		"ops@site " + public:                                                 true,
		"ops@site,eve@site " + public:                                        true,
		`"ops@site" ` + public:                                               true,
		"ops@site\t" + public:                                                true,
		"ops@site " + other:                                                  false,
		"# nobody":                                                           false,
		`ops@site namespaces="certbook-audit" ` + public:                     true,
		`ops@site namespaces="git,certbook-*" ` + public:                     true,
		`ops@site NAMESPACES="certbook-audit" ` + public:                     true,
		`ops@site namespaces="git,file" ` + public:                           false,
		`ops@site namespaces="*,!certbook-audit" ` + public:                  false,
		`ops@site valid-after="20261124" ` + public:                          true,
		`ops@site valid-after="20261124061500Z" ` + public:                   true,
		`ops@site valid-after="20261125Z" ` + public:                         false,
		`ops@site valid-before="20261124Z" ` + public:                        false,
		`ops@site valid-before="202611240616Z" ` + public:                    true,
		`ops@site valid-after="20260101Z",valid-before="20270101" ` + public: true,
		`ops@site cert-authority ` + public:                                  false,
	} {
		list := signers(t, line)
		signed, err := VerifyCheckpoints(log, list)
		require.Equal(t, want, err == nil, "%s: %v", line, err)
		if want {
			require.Contains(t, signed[0].By, "ops@site")
		}
		at := sample()[8].Time.Format("20060102150405") + "Z"
		out, err := keygen(t, doc, "-Y", "verify", "-O", "verify-time="+at, "-f", list.file, "-I", "ops@site", "-n", Namespace, "-s", doc+sigSuffix)
		require.Equal(t, want, err == nil, "ssh-keygen: %s: %s", line, out)
	}
	for _, line := range []string{"ops@site", "ops@site key", "ops@site odd " + public, `ops@site valid-after="soon" ` + public} {
		file := filepath.Join(t.TempDir(), "signers")
		require.NoError(t, os.WriteFile(file, []byte("# a comment\n"+line), 0o600))
		_, err := ReadSigners(file)
		require.ErrorContains(t, err, file+":2: ", line)
	}
}

// TestSignaturesOfSSHKeygen takes checkpoints that ssh-keygen has signed.
func TestSignaturesOfSSHKeygen(t *testing.T) {
	hosttest.Needs(t, "ssh-keygen")
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	hosttest.Keygen(t, file, "ed25519", "")
	key, err := ReadKey(file, nil)
	require.NoError(t, err)
	public, err := os.ReadFile(file + ".pub")
	require.NoError(t, err)
	log := signedLog(t, key, course()...)
	allowed := signers(t, "ops@site "+string(public))
	doc := filepath.Join(filepath.Dir(log), "checkpoint-000010.json")
	for namespace, hash := range map[string]string{Namespace: "sha256", "file": "sha512"} {
		require.NoError(t, os.Remove(doc+sigSuffix))
		out, err := keygen(t, "", "-Y", "sign", "-f", file, "-n", namespace, "-O", "hashalg="+hash, doc)
		require.NoError(t, err, out)
		_, err = VerifyCheckpoints(log, allowed)
		if namespace == Namespace {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, "checkpoint-000010.json: its signature does not fit: ")
		}
	}
}

// keygen runs ssh-keygen with a file as its standard input.
func keygen(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ssh-keygen", args...)
	if stdin != "" {
		f, err := os.Open(stdin)
		require.NoError(t, err)
		defer f.Close()
		cmd.Stdin = f
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}
