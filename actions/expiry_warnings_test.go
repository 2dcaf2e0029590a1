package actions

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/engine/host/hosttest"
	"certbook/schema"
)

// TestCheckExpiryCopies finds the copies of admin.conf that were left behind
// when it was renewed, and no other kubeconfig.
func TestCheckExpiryCopies(t *testing.T) {
	f := hosttest.NewFake()
	now, err := f.Now(t.Context())
	require.NoError(t, err)
	ca := plane(t, f, now)
	admin, _ := f.File("/etc/kubernetes/admin.conf")
	client := func(cn string, by *pair, end time.Time) []byte {
		return []byte(kubeconfig(t, *by, issue(t, by, cn, now.Add(-day), end), "kubernetes", cn))
	}
	other := issue(t, nil, "kubernetes", now, now.Add(900*day))
	f.Put("/root/.kube/config", client("kubernetes-admin", &ca, now.Add(9*day)))
	f.Put("/home/same/.kube/config", admin.Data)
	f.Put("/home/newer/.kube/config", client("kubernetes-admin", &ca, now.Add(600*day)))
	f.Put("/home/someone/.kube/config", client("jane", &ca, now.Add(9*day)))
	f.Put("/home/elsewhere/.kube/config", client("kubernetes-admin", &other, now.Add(9*day)))
	f.Put("/home/damaged/.kube/config", []byte("{"))
	f.Put("/home/expired/.kube/config", client("kubernetes-admin", &ca, now.Add(-time.Hour)))

	a := &CheckExpiry{Before: schema.Duration(30 * day), CABefore: schema.Duration(180 * day), Homes: []string{"/root", "/home/*"}}
	res, err := a.Check(t.Context(), f)
	require.NoError(t, err)
	require.Equal(t, []string{"/root/.kube/config", "/home/expired/.kube/config"}, res.Outputs.(Expiry).StaleCopies)
	require.Len(t, res.Warnings, 2)
	require.Equal(t, "/root/.kube/config holds an older certificate of kubernetes-admin than admin.conf, which ends on "+
		now.Add(9*day).UTC().Format(time.DateOnly)+": copy it anew, or add the user to kubeconfig_users", res.Warnings[0])

	a.Homes = nil
	res, err = a.Check(t.Context(), f)
	require.NoError(t, err)
	require.Empty(t, res.Warnings)

	a.Homes = []string{"/root"}
	res, err = a.Check(t.Context(), hungHomes{f})
	require.NoError(t, err, "homes are not worth a failure")
	require.Equal(t, []string{"copies of admin.conf in /root were not looked for: a home hangs"}, res.Warnings)
}

// hungHomes is a host whose homes cannot be read.
type hungHomes struct{ *hosttest.Fake }

func (h hungHomes) ReadFiles(ctx context.Context, patterns ...string) ([]engine.File, error) {
	if slices.ContainsFunc(patterns, func(p string) bool { return strings.HasSuffix(p, "/.kube/config") }) {
		return nil, errors.New("a home hangs")
	}
	return h.Fake.ReadFiles(ctx, patterns...)
}
