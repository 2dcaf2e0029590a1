package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"certbook/lab/kubeadm"

	"github.com/stretchr/testify/require"
)

// cutter passes connections on, and cuts all of them when so many bytes have
// come through; 0 never does.
type cutter struct {
	net.Listener
	to string

	mu    sync.Mutex
	left  int           // bytes; negative when everything passes
	pause time.Duration // instead of the cut, once
	seen  int
	conns []net.Conn
}

func newCutter(t *testing.T, to string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cutter{Listener: l, to: to, left: -1}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go c.pass(conn)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		c.cut()
	})
	return c
}

func (c *cutter) pass(a net.Conn) {
	b, err := net.Dial("tcp", c.to)
	if err != nil {
		a.Close()
		return
	}
	c.mu.Lock()
	c.conns = append(c.conns, a, b)
	dead := c.left == 0
	c.mu.Unlock()
	if dead {
		a.Close()
		b.Close()
		return
	}
	go func() { _, _ = io.Copy(counted{a, c}, b); a.Close() }()
	_, _ = io.Copy(counted{b, c}, a)
	b.Close()
}

// counted is a connection whose bytes count.
type counted struct {
	net.Conn
	c *cutter
}

func (w counted) Write(p []byte) (int, error) {
	w.c.mu.Lock()
	w.c.seen += len(p)
	n := len(p)
	if w.c.left >= 0 && n > w.c.left && w.c.pause > 0 {
		time.Sleep(w.c.pause) // with the lock: nothing passes either way
		w.c.left, w.c.pause = -1, 0
	}
	if w.c.left >= 0 {
		n = min(n, w.c.left)
		w.c.left -= n
	}
	w.c.mu.Unlock()
	if n > 0 {
		if _, err := w.Conn.Write(p[:n]); err != nil {
			return 0, err
		}
	}
	if n < len(p) {
		w.c.cut()
		return n, io.ErrClosedPipe
	}
	return n, nil
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// after lets so many bytes through and then nothing more; -1 lets all through.
func (c *cutter) after(bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.seen = bytes, 0
}

// behind reaches the machine through a cutter.
func behind(t *testing.T, m machine) (machine, *cutter) {
	t.Helper()
	text, err := os.ReadFile(m.flags[1])
	require.NoError(t, err)
	port := regexp.MustCompile(`port: (\d+)`).FindSubmatch(text)
	require.NotNil(t, port)
	c := newCutter(t, "127.0.0.1:"+string(port[1]))
	_, own, err := net.SplitHostPort(c.Addr().String())
	require.NoError(t, err)
	inventory := filepath.Join(t.TempDir(), "inventory.yaml")
	changed := strings.Replace(string(text), "port: "+string(port[1]), "port: "+own, 1)
	known := regexp.MustCompile(`known_hosts: \[(.*?)\]`).FindStringSubmatch(changed)
	require.NotNil(t, known)
	file := filepath.Join(t.TempDir(), "known_hosts") // the key is known by the other port
	require.NoError(t, os.WriteFile(inventory, []byte(strings.Replace(changed, known[1], file, 1)), 0o600))
	m.flags = append([]string{"-i", inventory, "--accept-new"}, m.flags[2:]...)
	return m, c
}

// TestCut cuts the connection after so many bytes, for many numbers. Whatever
// was on its way, resume ends with a renewed node and rollback with one as
// before.
func TestCut(t *testing.T) {
	t.Parallel()
	fresh := due(t, "1.34.4")
	total := traffic(t, fresh)
	pieces := 3
	if os.Getenv("FAULTS") == "all" {
		pieces = 40
	}
	for i := 1; i <= pieces; i++ {
		for _, cure := range []string{"resume", "rollback"} {
			at := total*i/(pieces+1) + i
			t.Run(fmt.Sprintf("%d bytes, %s", at, cure), func(t *testing.T) {
				t.Parallel()
				cutAt(t, fresh, at, cure)
			})
		}
	}
}

// traffic returns the bytes that a renewal sends and receives.
func traffic(t *testing.T, fresh kubeadm.Tree) int {
	t.Helper()
	m, c := behind(t, remote(t, fresh.Copy(t)))
	code, _, stderr := m.run(t, "run", "renew")
	require.Zero(t, code, stderr)
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Greater(t, c.seen, 100_000)
	return c.seen
}

func cutAt(t *testing.T, fresh kubeadm.Tree, at int, cure string) {
	m, c := behind(t, remote(t, fresh.Copy(t)))
	old, before := certificates(t, m.tree), snapshot(t, m.tree)
	c.after(at)
	code, _, _ := m.run(t, "run", "renew")
	require.Contains(t, []int{1, 5}, code)
	runs, err := filepath.Glob(filepath.Join(m.dir, "*"))
	require.NoError(t, err)
	require.Len(t, runs, 1)
	c.after(-1)
	m.cure(t, filepath.Base(runs[0]), cure, old, before)
}

// TestPause keeps everything from a host back for a while, as when a node is
// paused or its network stutters: a short pause does no harm; after a long one
// the connection is given up, and what the host did meanwhile is cured.
func TestPause(t *testing.T) {
	fresh := due(t, "1.34.4")
	total := traffic(t, fresh)
	pause := func(t *testing.T, keepalive string, d time.Duration, at int) (m machine, code int, stderr string) {
		m, c := behind(t, remote(t, fresh.Copy(t)))
		text, err := os.ReadFile(m.flags[1])
		require.NoError(t, err)
		text = []byte(strings.Replace(string(text), "ssh: {", "ssh: {keepalive: "+keepalive+", ", 1))
		require.NoError(t, os.WriteFile(m.flags[1], text, 0o600))
		c.after(at)
		c.mu.Lock()
		c.pause = d
		c.mu.Unlock()
		code, _, stderr = m.run(t, "run", "renew")
		c.mu.Lock()
		defer c.mu.Unlock()
		require.Zero(t, c.pause, "there was a pause")
		return m, code, stderr
	}
	long, keepalive, parts := 8*time.Second, "1s", []int{2}
	if os.Getenv("FAULTS") == "all" {
		long, keepalive, parts = time.Minute, "15s", []int{1, 2, 3} // 15s is the default
	}
	t.Run("short", func(t *testing.T) {
		_, code, stderr := pause(t, "15s", 2*time.Second, total/2)
		require.Zero(t, code, stderr)
	})
	for _, part := range parts {
		for _, cure := range []string{"resume", "rollback"} {
			t.Run(fmt.Sprintf("%d of 4, %s", part, cure), func(t *testing.T) {
				old, before := certificates(t, fresh), snapshot(t, fresh)
				m, code, stderr := pause(t, keepalive, long, total*part/4)
				require.Contains(t, []int{1, 5}, code, stderr)
				runs, err := filepath.Glob(filepath.Join(m.dir, "*"))
				require.NoError(t, err)
				require.Len(t, runs, 1)
				m.cure(t, filepath.Base(runs[0]), cure, old, before)
			})
		}
	}
}
