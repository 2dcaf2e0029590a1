package host

import (
	"encoding/base64"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"certbook/engine"
)

// TestLockWithoutSignOfLife starts a holder that hears nothing: the host gives
// the lock up, and the file tells whose it was.
func TestLockWithoutSignOfLife(t *testing.T) {
	h, err := Local(t.Context(), LocalOptions{Root: t.TempDir()})
	require.NoError(t, err)
	dir := h.Path(engine.LockDir)
	cmd := exec.Command("sh", "-c", lockScript, "sh", "", dir, "1", "1", `{"owner":"ann@ctl","run":"r1","playbook":"renew","pid":1,"since":"2026-01-01T00:00:00Z","changed":false}`, "")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	said := &bounded{limit: mostSaid, full: func() {}}
	cmd.Stderr = said
	require.NoError(t, cmd.Start())
	first := make([]byte, len("locked\n"))
	_, err = io.ReadFull(out, first)
	require.NoError(t, err)
	require.Equal(t, "locked\n", string(first))
	require.Error(t, cmd.Wait())
	text, _ := said.bytes()
	require.Equal(t, "the run's process gave no sign of life\n", string(text))
	lock, err := h.ReadLock(t.Context())
	require.NoError(t, err)
	require.False(t, lock.Living)
	require.Equal(t, "r1", lock.Run)
}

// TestLockSuspended proves that a controller which slept does not trust its lock.
func TestLockSuspended(t *testing.T) {
	h, err := Local(t.Context(), LocalOptions{Root: t.TempDir()})
	require.NoError(t, err)
	defer h.Close()
	held, err := h.Lock(t.Context(), engine.Holder{Owner: "ann@ctl", Run: "r1", Since: time.Now()}, nil)
	require.NoError(t, err)
	k := held.(*holder)
	require.NoError(t, k.Change(t.Context()))
	for _, slept := range []time.Duration{time.Hour, -time.Hour} { // a clock may also be set back
		k.alive = time.Now().Add(-slept)
		require.NoError(t, k.Change(t.Context()))
		require.Less(t, time.Since(k.alive), time.Minute, "it has asked the host")
		require.GreaterOrEqual(t, time.Since(k.alive), time.Duration(0))
	}
	require.NoError(t, os.Remove(h.Path(engine.LockFile)))
	k.alive = time.Now().Add(-time.Hour)
	require.ErrorContains(t, k.Change(t.Context()), "was removed or replaced")
	require.ErrorContains(t, k.Check(t.Context()), "was removed or replaced", "once lost is lost")
	require.Error(t, k.Release(t.Context()))
}

func TestParseLock(t *testing.T) {
	const good = `{"owner":"ann@ctl","run":"r1","playbook":"renew","pid":1,"since":"2026-01-01T00:00:00Z","changed":false}`
	for content, known := range map[string]bool{
		good:               true,
		good + "\n":        true,
		good + "\n" + good: false,
		good + "x":         false,
		strings.Replace(good, "false}", `false,"later":1}`, 1):   true,
		strings.Replace(good, "ann", `\u001b[31mann`, 1):         false,
		strings.Replace(good, "ann", `\u202eann`, 1):             false,
		strings.Replace(good, "ann@ctl", "", 1):                  false,
		strings.Replace(good, "r1", strings.Repeat("r", 201), 1): false,
		strings.Replace(good, `"2026-01-01T00:00:00Z"`, "1", 1):  false,
		good + strings.Repeat(" ", maxLock):                      false,
		"":                                                       false,
		"null":                                                   false,
		"[]":                                                     false,
	} {
		lock, err := parseLock("left 1700000001.5 1700000000.25 " + base64.StdEncoding.EncodeToString([]byte(content)))
		require.NoError(t, err)
		require.Equal(t, known, lock.Owner != "", content)
		require.Equal(t, !known, lock.Changed, content)
		require.Equal(t, 1250*time.Millisecond, lock.Silence())
	}
	for _, line := range []string{"", "left", "left 1 2", "left 1 2 3 4", "gone 1 2 ", "left x 2 ", "held 1 y ", "left 99999999999999999 2 "} {
		_, err := parseLock(line)
		require.Error(t, err, line)
	}
	lock, err := parseLock("held 1 2 no-base64")
	require.NoError(t, err)
	require.Equal(t, engine.Lock{Holder: engine.Holder{Changed: true}, Living: true, Now: lock.Now, Seen: lock.Seen}, lock)
}

// TestLockNeedsFlock runs the script where there is no flock.
func TestLockNeedsFlock(t *testing.T) {
	root := t.TempDir()
	bin := filepath.Join(root, "bin")
	require.NoError(t, os.Mkdir(bin, 0o700))
	for _, script := range []string{lockScript, readLockScript} {
		script = strings.Replace(script, "PATH=$PATH:"+extraPath, "PATH="+bin, 1)
		out, err := exec.Command("/bin/sh", "-c", script, "sh", "", root, "1", "1", "", "").CombinedOutput()
		var exit *exec.ExitError
		require.True(t, errors.As(err, &exit))
		require.Contains(t, string(out), "no flock, which keeps two runs apart; it is in the package util-linux")
	}
}

// FuzzParseLock reads what a host says of its lock: whatever it is, what people
// are shown of it is short and printable, and what is no lock counts as one of an
// unknown owner that has begun changes.
func FuzzParseLock(f *testing.F) {
	line := func(content string) string {
		return "left 1780315200.5 1780315190.25 " + base64.StdEncoding.EncodeToString([]byte(content))
	}
	f.Add(line(`{"owner":"ann@ctl","run":"r1","playbook":"renew","pid":1,"since":"2026-01-01T00:00:00Z","changed":false}`))
	f.Add(line(`{"owner":"\u001b[2J","run":"r1","since":"2026-01-01T00:00:00Z"}`))
	f.Add(line(`{"owner":"ann@ctl","run":"r1","since":"2026-01-01T00:00:00Z"} x`))
	f.Add(line(""))
	f.Add("held 99999999999999999999 -1 @@@")
	f.Add("held 1 2")
	f.Fuzz(func(t *testing.T, text string) {
		lock, err := parseLock(text)
		if err != nil {
			return
		}
		if lock.Owner == "" && (!lock.Changed || lock.Run != "") {
			t.Fatalf("%q: %+v", text, lock)
		}
		said := lock.String() + (&engine.LockedError{Lock: lock}).Error() + (&engine.LeftError{Lock: lock}).Error()
		if len(said) > 4000 || strings.ContainsFunc(said, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q says %q", text, said)
		}
	})
}
