package host_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/engine/host"
	"certbook/engine/host/hosttest"
)

// listens starts a server that does as talk says on every connection, until the
// other side hangs up.
func listens(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			talk(c)
			_, _ = io.Copy(io.Discard, c) // until it hangs up
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// silent says nothing.
func silent(net.Conn) {}

// endless says the same again and again.
func endless(text string) func(net.Conn) {
	return func(c net.Conn) {
		for {
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	}
}

// asked waits for a request before it talks.
func asked(talk func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			talk(c)
		}
	}
}

// within runs f, which must end long before patience does.
func within(t *testing.T, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	require.Less(t, time.Since(begin), 10*time.Second)
}

func TestServerThatIsNoSSH(t *testing.T) {
	for name, c := range map[string]struct {
		talk func(net.Conn)
		want string
	}{
		"silent":            {silent, "answers, but SSH is not ready within 300ms"},
		"a line for ever":   {endless("x"), ""},
		"lines for ever":    {endless("hello\r\n"), ""},
		"version, no more":  {func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n") }, "answers, but SSH is not ready within 300ms"},
		"version, nonsense": {func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n\xff\xff\xff\xff") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			address, port, err := net.SplitHostPort(listens(t, c.talk))
			require.NoError(t, err)
			n, err := net.LookupPort("tcp", port)
			require.NoError(t, err)
			key := filepath.Join(t.TempDir(), "key")
			hosttest.Keygen(t, key, "ed25519", "")
			within(t, func() {
				_, err = host.Dial(t.Context(), host.SSHOptions{Name: "m1", Address: address, Port: n, User: "ops", ConfigFile: "none", NoAgent: true,
					Identity: []string{key}, AcceptNew: true, KnownHosts: []string{key + ".known"}, ConnectTimeout: 300 * time.Millisecond})
			})
			require.ErrorContains(t, err, "m1: ")
			require.ErrorContains(t, err, c.want)
			require.Less(t, len(err.Error()), 500)
		})
	}
}

// Servers of a host that a handshake or a request is tried with. They end with
// the context, which the engine bounds by the step's timeout, or after 15 s.
func TestSlowServers(t *testing.T) {
	h, err := host.Local(t.Context(), host.LocalOptions{})
	require.NoError(t, err)
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, talk := range map[string]func(net.Conn){
		"silent":        silent,
		"headers":       endless("X: y\r\n"),
		"endless line":  endless("HTTP/1.1 200 "),
		"no body":       func(c net.Conn) { _, _ = io.WriteString(c, ok+"Content-Length: 10\r\n\r\n") },
		"headers of ok": func(c net.Conn) { _, _ = io.WriteString(c, ok); endless("X: y\r\n")(c) },
	} {
		t.Run(name, func(t *testing.T) {
			address := listens(t, asked(talk))
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			within(t, func() { _, err = h.Handshake(ctx, address) })
			require.ErrorContains(t, err, "handshake with "+address)
			ctx, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			within(t, func() { _, err = h.Get(ctx, "http://"+address+"/x") })
			require.ErrorContains(t, err, address)
			require.Less(t, len(err.Error()), 500)
		})
	}
	endlessBody := listens(t, asked(func(c net.Conn) {
		_, _ = io.WriteString(c, ok+"\r\n")
		endless(strings.Repeat("x", 1<<16))(c)
	}))
	within(t, func() {
		r, err := h.Get(t.Context(), "http://"+endlessBody)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, r.Status)
		require.Len(t, r.Body, engine.MaxBody)
	})
}

// A command that never ends, that cannot be interrupted, or that prints without
// end is ended all the same.
func TestHangingCommand(t *testing.T) {
	h, err := host.Local(t.Context(), host.LocalOptions{CommandTimeout: 300 * time.Millisecond})
	require.NoError(t, err)
	for name, c := range map[string]struct{ script, want string }{
		"hangs":             {"sleep 60", "not finished after 300ms"},
		"hangs and ignores": {"trap '' TERM; sleep 60 & wait; sleep 60", "not finished after 300ms"},
		"prints":            {"exec cat /dev/zero", ""},
		"prints errors":     {"exec cat /dev/zero >&2", ""},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func() { _, err = h.Exec(t.Context(), engine.Command{Argv: []string{"sh", "-c", c.script}}) })
			require.ErrorContains(t, err, c.want)
		})
	}
}

// TestTemporaryFiles looks at the files that are renamed into place, when they
// are synced: 0600, in a directory beside the file, 0700, with a name that cannot
// be foreseen and that the kubelet passes over.
func TestTemporaryFiles(t *testing.T) {
	h, root := tampered(t, "sync", `for f do [ "$f" = -- ] || [ -d "$f" ] || echo "$(stat -c '%n %a' -- "$f") $(stat -c %a -- "${f%/*}")" >>"$CERTBOOK_ROOT/seen"; done; exec /usr/bin/sync "$@"`)
	require.NoError(t, os.Mkdir(root+"/etc", 0o777))
	require.NoError(t, os.WriteFile(root+"/src", []byte("x"), 0o644))
	for _, name := range []string{"/etc/a", "/etc/b"} {
		require.NoError(t, h.WriteFile(t.Context(), name, []byte("secret"), engine.FileOptions{}))
		require.NoError(t, h.Install(t.Context(), "/src", name, engine.FileOptions{Save: "/saved"}))
	}
	data, err := os.ReadFile(root + "/seen")
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	seen := map[string]bool{}
	form := regexp.MustCompile(`^` + regexp.QuoteMeta(root) + `(/etc|/saved/etc)/\.certbook\.[A-Za-z0-9]{10}/[ab] 600 700$`)
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, root+"/saved/"+engine.ReplacedList+" 600") })
	for _, line := range lines {
		require.Regexp(t, form, line)
		require.False(t, seen[line], "%s was used before", line)
		seen[line] = true
	}
	require.Len(t, lines, 6)
	info, err := os.Stat(root + "/saved")
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}
