package actions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/engine/host/hosttest"
)

// leaseServer is an API server with one lease, as kubectl --raw shows it.
type leaseServer struct {
	mu      sync.Mutex
	lease   map[string]any // nil when it is not there
	version int
	down    string            // what kubectl says when the server does not answer
	before  func(verb string) // called before each request
	log     []string
}

// host returns a master on which kubectl asks the server.
func (s *leaseServer) host() *hosttest.Fake {
	f := hosttest.NewFake()
	f.Handle("kubectl", func(_ context.Context, c engine.Command) (engine.Output, error) {
		if s.before != nil {
			s.before(c.Argv[4])
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.kubectl(c), nil
	})
	return f
}

func (s *leaseServer) kubectl(c engine.Command) engine.Output {
	fail := func(format string, args ...any) engine.Output {
		return engine.Output{Code: 1, Stderr: fmt.Appendf(nil, format+"\n", args...)}
	}
	if s.down != "" {
		return fail("%s", s.down)
	}
	if len(c.Argv) < 7 || !slices.Equal(c.Argv[:4], []string{"kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "--request-timeout=10s"}) || c.Argv[5] != "--raw" {
		return fail("error: unknown flags %q", c.Argv)
	}
	verb, url := c.Argv[4], c.Argv[6]
	s.log = append(s.log, verb)
	const all, one = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/certbook"
	if verb == "get" && url == one && s.lease != nil {
		return s.answer()
	}
	if verb == "get" {
		return fail(`Error from server (NotFound): leases.coordination.k8s.io "certbook" not found`)
	}
	var sent map[string]any
	if err := json.Unmarshal(c.Stdin, &sent); err != nil || !slices.Equal(c.Argv[7:], []string{"--validate=false", "-f", "-"}) {
		return fail("error: %v", err)
	}
	version := sent["metadata"].(map[string]any)["resourceVersion"]
	switch {
	case verb == "create" && url == all && version == nil && s.lease == nil:
	case verb == "create" && url == all && s.lease != nil:
		return fail(`Error from server (AlreadyExists): leases.coordination.k8s.io "certbook" already exists`)
	case verb == "replace" && url == one && s.lease != nil && version == s.lease["metadata"].(map[string]any)["resourceVersion"]:
	case verb == "replace" && url == one && s.lease != nil:
		return fail(`Error from server (Conflict): Operation cannot be fulfilled on leases.coordination.k8s.io "certbook": the object has been modified; please apply your changes to the latest version and try again`)
	default:
		return fail("Error from server (BadRequest): %s %s", verb, url)
	}
	s.put(sent)
	return s.answer()
}

func (s *leaseServer) put(lease map[string]any) {
	s.version++
	lease["metadata"].(map[string]any)["resourceVersion"] = strconv.Itoa(s.version)
	lease["metadata"].(map[string]any)["uid"] = "u-1"
	s.lease = lease
}

func (s *leaseServer) answer() engine.Output {
	data, _ := json.Marshal(s.lease)
	return engine.Output{Stdout: data}
}

func (s *leaseServer) spec() map[string]any { return s.lease["spec"].(map[string]any) }

// clusterLock is the action of a run of ann's, or of another person's.
func clusterLock(owner, run string, own ...string) *LockCluster {
	return &LockCluster{Kubeconfig: "/etc/kubernetes/admin.conf", Run: run,
		by: engine.Locking{Owner: owner, Own: func(run string) bool { return slices.Contains(own, run) }}}
}

// takes takes the lock and returns the action.
func takes(t *testing.T, f *hosttest.Fake, a *LockCluster) engine.Result {
	t.Helper()
	res, every, err := a.Take(t.Context(), f)
	require.NoError(t, err)
	require.Equal(t, ClusterLock{Held: true}, res.Outputs)
	require.Equal(t, leaseRenew, every)
	return res
}

func TestLockCluster(t *testing.T) {
	s := &leaseServer{}
	m1, m2 := s.host(), s.host()
	ann := clusterLock("ann@ctl", "20260102T030405Z-aaaaaa")

	res, err := ann.Check(t.Context(), m1)
	require.NoError(t, err)
	require.Equal(t, engine.Result{Outputs: ClusterLock{Held: true}}, res, "it could be taken")
	require.Nil(t, s.lease, "a plan takes nothing")

	takes(t, m1, ann)
	require.Equal(t, map[string]any{
		"holderIdentity": "ann@ctl 20260102T030405Z-aaaaaa", "leaseDurationSeconds": 300.0,
		"acquireTime": "2026-01-02T03:04:05.000000Z", "renewTime": "2026-01-02T03:04:05.000000Z",
	}, s.spec())
	require.Equal(t, "kube-system", s.lease["metadata"].(map[string]any)["namespace"])

	m2.Advance(4 * time.Minute)
	bob := clusterLock("bob@other", "20260102T030500Z-bbbbbb")
	const refused = "the cluster is locked by ann@ctl since 03:04:05 UTC (4m ago): run 20260102T030405Z-aaaaaa; wait for it or stop it there; if it is gone, its lock ends at 03:09:05 UTC"
	_, err = bob.Check(t.Context(), m2)
	require.EqualError(t, err, refused)
	_, _, err = bob.Take(t.Context(), m2)
	require.EqualError(t, err, refused)

	m1.Advance(4 * time.Minute)
	require.NoError(t, ann.Renew(t.Context(), m1))
	require.Equal(t, "2026-01-02T03:04:05.000000Z", s.spec()["acquireTime"])
	require.Equal(t, "2026-01-02T03:08:05.000000Z", s.spec()["renewTime"])
	m2.Advance(4 * time.Minute)
	_, err = bob.Check(t.Context(), m2)
	require.ErrorContains(t, err, "its lock ends at 03:13:05 UTC", "it was renewed")

	require.NoError(t, ann.Release(t.Context(), m1))
	require.Empty(t, s.spec())
	require.Empty(t, takes(t, m2, bob).Warnings)
	require.Equal(t, "bob@other 20260102T030500Z-bbbbbb", s.spec()["holderIdentity"])
}

func TestLockClusterThatWasLeft(t *testing.T) {
	s := &leaseServer{}
	f := s.host()
	old := clusterLock("ann@ctl", "20260102T030405Z-aaaaaa")
	takes(t, f, old)

	own := clusterLock("ann@ctl", "20260102T030500Z-cccccc", "20260102T030405Z-aaaaaa")
	require.Empty(t, takes(t, f, own).Warnings, "resume and rollback need not wait")
	require.EqualValues(t, 1, s.spec()["leaseTransitions"])

	f.Advance(leaseLasts)
	bob := clusterLock("bob@other", "20260102T040000Z-bbbbbb")
	require.Equal(t, []string{"the cluster's lock is taken over from run 20260102T030500Z-cccccc of ann@ctl, whose last sign of life was 5m ago"}, takes(t, f, bob).Warnings)

	require.EqualError(t, own.Renew(t.Context(), f), "the cluster's lock was taken over by run 20260102T040000Z-bbbbbb of bob@other")
	require.NoError(t, own.Release(t.Context(), f))
	require.Equal(t, "bob@other 20260102T040000Z-bbbbbb", s.spec()["holderIdentity"], "what is another's is not given back")

	s.lease = nil
	s.put(map[string]any{"kind": "Lease", "metadata": map[string]any{"name": "certbook"}, "spec": map[string]any{}})
	require.EqualError(t, bob.Renew(t.Context(), f), "the cluster's lock was removed by somebody else")
}

// TestLockClusterRace lets others be faster between reading and writing.
func TestLockClusterRace(t *testing.T) {
	for _, first := range []string{"create", "replace"} {
		t.Run(first, func(t *testing.T) {
			s := &leaseServer{}
			f := s.host()
			if first == "replace" {
				gone := clusterLock("ann@ctl", "20260102T030405Z-aaaaaa")
				takes(t, f, gone)
				require.NoError(t, gone.Release(t.Context(), f))
			}
			bob := clusterLock("bob@other", "20260102T030500Z-bbbbbb")
			done := false
			s.before = func(verb string) {
				if verb == first && !done {
					done = true
					takes(t, s.host(), bob)
				}
			}
			ann := clusterLock("ann@ctl", "20260102T030501Z-cccccc")
			_, err := ann.Check(t.Context(), f)
			require.NoError(t, err)
			_, _, err = ann.Take(t.Context(), f)
			require.ErrorContains(t, err, "the cluster is locked by bob@other")
			require.True(t, done)
			require.Equal(t, "bob@other 20260102T030500Z-bbbbbb", s.spec()["holderIdentity"])
		})
	}
	s := &leaseServer{}
	f := s.host()
	takes(t, f, clusterLock("ann@ctl", "20260102T030405Z-aaaaaa"))
	f.Advance(time.Hour)
	s.before = func(verb string) {
		if verb == "replace" {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.put(s.lease)
		}
	}
	_, every, err := clusterLock("bob@other", "20260102T030500Z-bbbbbb").Take(t.Context(), f)
	require.ErrorContains(t, err, "others take the cluster's lock at the same moment")
	require.Zero(t, every)
}

func TestLockClusterWithoutAnswer(t *testing.T) {
	const refused = "The connection to the server 10.0.0.11:6443 was refused - did you specify the right host or port?"
	s := &leaseServer{down: refused}
	want := func(reason string) engine.Result {
		return engine.Result{Outputs: ClusterLock{Reason: reason}, Warnings: []string{"the cluster is not locked from here, only the hosts of this run are: " + reason}}
	}
	for name, c := range map[string]struct {
		f      *hosttest.Fake
		reason string
	}{
		"no API":     {s.host(), refused},
		"no kubectl": {hosttest.NewFake(), "the host has no kubectl"},
	} {
		t.Run(name, func(t *testing.T) {
			a := clusterLock("ann@ctl", "20260102T030405Z-aaaaaa")
			res, err := a.Check(t.Context(), c.f)
			require.NoError(t, err)
			require.Equal(t, want(c.reason), res)
			res, every, err := a.Take(t.Context(), c.f)
			require.NoError(t, err)
			require.Zero(t, every, "there is nothing to renew")
			require.Equal(t, want(c.reason), res)
		})
	}

	t.Run("only for writing", func(t *testing.T) {
		s := &leaseServer{}
		s.before = func(verb string) {
			if verb == "create" {
				s.down = "Error from server (Forbidden): leases is forbidden"
			}
		}
		res, every, err := clusterLock("ann@ctl", "20260102T030405Z-aaaaaa").Take(t.Context(), s.host())
		require.NoError(t, err)
		require.Zero(t, every)
		require.Equal(t, want("Error from server (Forbidden): leases is forbidden"), res)
	})
	t.Run("for a while", func(t *testing.T) {
		s := &leaseServer{}
		f := s.host()
		a := clusterLock("ann@ctl", "20260102T030405Z-aaaaaa")
		takes(t, f, a)
		s.down = refused
		require.NoError(t, a.Renew(t.Context(), f), "its API server restarts")
		require.ErrorContains(t, a.Release(t.Context(), f), "the cluster's lock could not be given back, it ends at 03:09:05 UTC: ")
		s.down = ""
		s.put(s.lease) // a renewal whose answer was lost
		require.NoError(t, a.Renew(t.Context(), f))
		require.NoError(t, a.Renew(t.Context(), f))
		require.NoError(t, a.Release(t.Context(), f))
		require.Empty(t, s.spec())
	})
	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &leaseServer{before: func(string) { cancel() }, down: "killed"}
		_, _, err := clusterLock("ann@ctl", "20260102T030405Z-aaaaaa").Take(ctx, s.host())
		require.Error(t, err, "not knowing is not the same as no API")
	})
}

// TestLockClusterRubbish shows that what others have written is not believed.
func TestLockClusterRubbish(t *testing.T) {
	for name, answer := range map[string]string{
		"no JSON": "<html>",
		"a list":  `{"kind":"LeaseList","metadata":{"resourceVersion":"1"}}`,
		"another": `{"kind":"Lease","metadata":{"name":"x","resourceVersion":"1"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := hosttest.NewFake()
			f.Handle("kubectl", func(context.Context, engine.Command) (engine.Output, error) {
				return engine.Output{Stdout: []byte(answer)}, nil
			})
			res, err := clusterLock("ann@ctl", "20260102T030405Z-aaaaaa").Check(t.Context(), f)
			require.NoError(t, err)
			require.Contains(t, res.Outputs.(ClusterLock).Reason, "something else than the lease certbook")
		})
	}
	l, err := parseLease([]byte(`{"kind":"Lease","metadata":{"name":"certbook","resourceVersion":"1"},"spec":{"holderIdentity":"\u001b[31m` + strings.Repeat("x", 500) + `","leaseDurationSeconds":999999999,"renewTime":"2026-01-02T03:04:05.123456Z"}}`))
	require.NoError(t, err)
	owner, run := l.holder()
	require.Equal(t, "unknown", owner)
	require.Len(t, run, 200)
	require.NotContains(t, run, "\x1b")
	require.Equal(t, time.Date(2026, 1, 2, 3, 4, 5, 123456000, time.UTC), l.ends(), "no lease lasts for years")
	require.False(t, isConflict(errors.New("(Conflict)")))
}
