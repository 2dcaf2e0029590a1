//go:build e2e

package e2e_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestEverythingExpired brings back a cluster of which nothing works: every
// certificate of every master has ended, the kubelets' too, and all processes
// were started anew since.
func TestEverythingExpired(t *testing.T) {
	reset(t)
	require.NoError(t, lab.Expire(t.Context(), -time.Minute, lab.Nodes...))
	require.NoError(t, lab.RestartAll(t.Context(), lab.Nodes...))
	before := serials(t)
	eventually(t, time.Minute, func() error { // the API is gone, and does not just come up
		_, err := lab.Kubectl(t.Context(), "get", "nodes", "--request-timeout=2s")
		if err == nil {
			return errAnswers
		}
		return nil
	})
	code, stdout, stderr, _ := call(t, "check", "-i", lab.Path("inventory.yaml"))
	require.Equal(t, 4, code, stderr)
	require.Contains(t, stdout, "EXPIRED")

	refused := play(t)
	require.Equal(t, 1, refused.code)
	require.Equal(t, "unchanged", refused.Outcome)
	require.Contains(t, refused.stderr, "run 'certbook run recover'")

	began := time.Now()
	r := succeeds(t, "recover")
	eventually(t, time.Minute, func() error { return lab.Healthy(t.Context()) })
	figures(t, "recover %.1f s, until every node and pod is ready %.1f s", r.took.Seconds(), time.Since(began).Seconds())
	printSteps(t, r)
	requireServed(t, before)
	requireWorks(t)

	processes := containers(t)
	again := succeeds(t, "recover")
	for _, h := range again.Hosts {
		for _, s := range h.Steps {
			require.NotEqual(t, "changed", s.Status, "%s/%s", h.Name, s.ID)
		}
	}
	require.Equal(t, processes, containers(t))
}

// TestFilesExpired is the same before anything was restarted: all processes
// are up, and no client trusts them.
func TestFilesExpired(t *testing.T) {
	reset(t)
	require.NoError(t, lab.Expire(t.Context(), -time.Minute, lab.Nodes...))
	before := serials(t)
	_, err := lab.Kubectl(t.Context(), "get", "nodes", "--request-timeout=5s")
	require.ErrorContains(t, err, "certificate has expired")
	succeeds(t, "recover")
	requireServed(t, before)
	eventually(t, time.Minute, func() error { return lab.Healthy(t.Context()) })
	requireWorks(t)
}
