package host

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

func TestRecordAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known_hosts")
	var keys []ssh.PublicKey
	for range 8 {
		pub, _, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		key, err := ssh.NewPublicKey(pub)
		require.NoError(t, err)
		keys = append(keys, key)
	}
	// A long file leaves time between looking and writing.
	line := "other.example " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(keys[0]))) + "\n"
	const others = 500
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat(line, others)), 0o600))
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			<-start
			name := fmt.Sprintf("m%d:22", i%len(keys))
			tr := &trust{name: name, files: []string{file}, accept: true}
			if err := tr.check("", nil, keys[i%len(keys)]); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	all.Wait()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, len(keys), strings.Count(string(data), "\n")-others, "a key was recorded twice, or never")

	other := &trust{name: "m0:22", files: []string{file}, accept: true}
	require.ErrorIs(t, other.check("", nil, keys[1]), ErrHostKeyChanged)
}
