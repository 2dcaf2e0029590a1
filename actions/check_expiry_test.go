package actions

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine/host/hosttest"
	"certbook/schema"
)

const day = 24 * time.Hour

func TestCheckExpiry(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(f *hosttest.Fake, ca pair, now time.Time)
		want Expiry // counts only
		days int
	}{
		"good": {func(*hosttest.Fake, pair, time.Time) {}, Expiry{}, 365},
		"due at the boundary": {func(f *hosttest.Fake, ca pair, now time.Time) {
			f.Put("/etc/kubernetes/pki/apiserver.crt", issue(t, &ca, "x", now, now.Add(30*day)).certPEM())
		}, Expiry{Due: 1}, 30},
		"a second before the boundary": {func(f *hosttest.Fake, ca pair, now time.Time) {
			f.Put("/etc/kubernetes/pki/apiserver.crt", issue(t, &ca, "x", now, now.Add(30*day+time.Second)).certPEM())
		}, Expiry{}, 30},
		"expired": {func(f *hosttest.Fake, ca pair, now time.Time) {
			f.Put("/etc/kubernetes/pki/apiserver.crt", issue(t, &ca, "x", now.Add(-day), now.Add(-time.Second)).certPEM())
		}, Expiry{Due: 1, Expired: 1}, -1},
		"valid in its last second": {func(f *hosttest.Fake, ca pair, now time.Time) {
			f.Put("/etc/kubernetes/pki/apiserver.crt", issue(t, &ca, "x", now.Add(-day), now).certPEM())
		}, Expiry{Due: 1}, 0},
		"not yet valid": {func(f *hosttest.Fake, ca pair, now time.Time) {
			f.Put("/etc/kubernetes/pki/apiserver.crt", issue(t, &ca, "x", now.Add(time.Hour), now.Add(99*day)).certPEM())
		}, Expiry{Due: 1, NotYetValid: 1}, 99},
		"missing": {func(f *hosttest.Fake, _ pair, _ time.Time) { f.Remove("/etc/kubernetes/scheduler.conf") }, Expiry{Missing: 1}, 365},
		"unreadable": {func(f *hosttest.Fake, _ pair, _ time.Time) {
			f.Put("/etc/kubernetes/pki/apiserver.crt", []byte("no certificate"))
		}, Expiry{Unreadable: 1}, 365},
		"external": {func(f *hosttest.Fake, ca pair, now time.Time) {
			f.Remove("/etc/kubernetes/pki/ca.key")
			f.Put("/etc/kubernetes/pki/apiserver.crt", issue(t, &ca, "x", now, now.Add(day)).certPEM())
		}, Expiry{ExternalDue: 1}, 1},
		"CA": {func(f *hosttest.Fake, _ pair, now time.Time) {
			f.Put("/etc/kubernetes/pki/front-proxy-ca.crt", issue(t, nil, "front-proxy-ca", now, now.Add(100*day)).certPEM())
		}, Expiry{CADue: 1}, 100},
		"kubelet": {func(f *hosttest.Fake, ca pair, now time.Time) {
			p := issue(t, &ca, "system:node:m1", now, now.Add(5*day))
			f.Put("/var/lib/kubelet/pki/kubelet-client-current.pem", append(p.certPEM(), p.keyPEM(t)...))
		}, Expiry{KubeletDue: 1}, 5},
		"kubelet gone": {func(f *hosttest.Fake, _ pair, _ time.Time) {
			f.Remove("/var/lib/kubelet/pki/kubelet-client-current.pem")
		}, Expiry{KubeletDue: 1, Missing: 1}, 365},
	} {
		t.Run(name, func(t *testing.T) {
			f := hosttest.NewFake()
			now, err := f.Now(t.Context())
			require.NoError(t, err)
			c.set(f, plane(t, f, now), now)
			res, err := (&CheckExpiry{Before: schema.Duration(30 * day), CABefore: schema.Duration(180 * day)}).Check(t.Context(), f)
			require.NoError(t, err)
			have := res.Outputs.(Expiry)
			require.NotEmpty(t, have.Certificates)
			require.Equal(t, c.days, have.DaysLeft)
			if name != "kubelet gone" {
				require.Equal(t, "m1", have.Node)
			}
			require.Len(t, have.CAs, 64)
			have.Certificates, have.DaysLeft, have.Node, have.CAs = nil, 0, "", ""
			require.Equal(t, c.want, have)
			require.Empty(t, f.Calls(), "nothing is run")
		})
	}
}
