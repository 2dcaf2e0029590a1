package host

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestStuckSession goes without a session that waits for ever after its
// connection was lost.
func TestStuckSession(t *testing.T) {
	r := &remote{slots: make(chan struct{}, 1), done: make(chan struct{}), gone: make(chan struct{})}
	stuck := make(chan struct{})
	r.tasks.Go(func() { <-stuck })
	defer close(stuck)
	began := time.Now()
	require.NoError(t, r.close())
	require.Less(t, time.Since(began), time.Minute)
}
