package kube

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sample is what a real kubeadm printed, as testdata/renew holds it: the
// command, "exit status N", and the two streams below their titles.
type sample struct {
	version        Version
	scenario       string
	code           int
	stdout, stderr []byte
}

func samples(t testing.TB) []sample {
	files, err := filepath.Glob("testdata/renew/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var out []sample
	for _, f := range files {
		data := string(testdata(t, "renew/"+filepath.Base(f)))
		v, scenario, _ := strings.Cut(strings.TrimSuffix(filepath.Base(f), ".txt"), "-")
		head, rest, ok := strings.Cut(data, "-- stdout --\n")
		require.True(t, ok, f)
		stdout, stderr, ok := strings.Cut(rest, "-- stderr --\n")
		require.True(t, ok, f)
		s := sample{version: version(t, v), scenario: scenario, stdout: []byte(stdout), stderr: []byte(stderr)}
		_, err := fmt.Sscanf(head[strings.Index(head, "exit status"):], "exit status %d", &s.code)
		require.NoError(t, err, f)
		out = append(out, s)
	}
	return out
}

// TestParseRenew reads what kubeadm 1.19, 1.34 and 1.37 printed.
func TestParseRenew(t *testing.T) {
	const own = "admin.conf apiserver apiserver-kubelet-client controller-manager.conf"
	seen := map[string]bool{}
	for _, s := range samples(t) {
		all := strings.Join(s.version.Names(), " ")
		super := ""
		if s.version.AtLeast(29) {
			super = " super-admin.conf"
		}
		type want struct {
			renewed, missing, external, failed string
			fallback, noop                     bool
		}
		expect, ok := map[string]want{
			"ok":                            {renewed: "apiserver"},
			"ok-kubeconfig":                 {renewed: "admin.conf"},
			"ok-all":                        {renewed: all},
			"expired-all":                   {renewed: all},
			"ending-ca":                     {renewed: "apiserver"},
			"no-key":                        {renewed: "apiserver"},
			"unreachable":                   {renewed: "apiserver", fallback: true},
			"unreachable-all":               {renewed: all, fallback: true},
			"missing":                       {missing: "apiserver"},
			"missing-all":                   {renewed: strings.NewReplacer(" apiserver ", " ", " scheduler.conf", "").Replace(all), missing: "apiserver scheduler.conf"},
			"external-ca":                   {external: "apiserver"},
			"external-ca-kubeconfig":        {external: "admin.conf"},
			"external-ca-all":               {renewed: "apiserver-etcd-client etcd-healthcheck-client etcd-peer etcd-server front-proxy-client", external: own + " scheduler.conf" + super},
			"external-etcd":                 {missing: "etcd-server"},
			"external-etcd-all":             {renewed: own + " front-proxy-client scheduler.conf" + super},
			"external-etcd-unreachable-all": {renewed: "admin.conf apiserver", failed: "?", fallback: true},
			"corrupt":                       {failed: "apiserver"},
			"corrupt-kubeconfig":            {failed: "admin.conf"},
			"corrupt-all":                   {renewed: "admin.conf apiserver apiserver-etcd-client apiserver-kubelet-client controller-manager.conf etcd-healthcheck-client", failed: "etcd-peer"},
			"kubeconfig-files":              {failed: "admin.conf"},
			"mismatched":                    {failed: "apiserver"},
			"mismatched-all":                {failed: "admin.conf"},
			"no-ca":                         {failed: "?"},
			"bare":                          {failed: "?"},
			"unknown":                       {failed: "?"},
			"expired-ca":                    {renewed: "apiserver"},
			"other-words":                   {noop: true},
		}[s.scenario]
		if !s.version.AtLeast(20) && (s.scenario == "expired-ca" || s.scenario == "other-words") {
			expect = want{failed: "?"} // 1.19 refuses
		}
		if !ok {
			continue // a sample of something else
		}
		seen[s.scenario] = true
		t.Run(s.version.String()+"/"+s.scenario, func(t *testing.T) {
			out := ParseRenew(s.stdout, s.stderr, s.code)
			got := map[RenewStatus][]string{}
			for _, o := range out.Outcomes {
				name := o.Name
				if name == "" {
					name = "?"
				}
				got[o.Status] = append(got[o.Status], name)
				require.Equal(t, o.Status == RenewFailed || o.Status == ExternalCA, o.Detail != "")
			}
			names := func(s RenewStatus) string { return strings.Join(got[s], " ") }
			require.Equal(t, expect, want{names(Renewed), names(NotThere), names(ExternalCA), names(RenewFailed), out.Fallback, out.NoOp})
			require.Equal(t, s.version.AtLeast(20) && strings.HasSuffix(s.scenario, "-all") && s.code == 0, out.Done)
		})
	}
	require.Len(t, seen, 27)
	require.Equal(t, []Outcome{{Status: RenewFailed, Detail: "kubeadm gave no reason"}}, ParseRenew(nil, nil, 1).Outcomes)
}

func TestParseRenewFailures(t *testing.T) {
	for line, want := range map[string]string{
		"failed to load existing certificate etcd/server: error reading x":                                                          "etcd-server",
		"failed to renew certificate apiserver: provided PrivateKey doesn't match parent's PublicKey":                               "apiserver",
		"failed to write new certificate front-proxy-client: open x: operation not permitted":                                       "front-proxy-client",
		"failed to load kubeConfig file /etc/kubernetes/admin.conf: yaml: x":                                                        "admin.conf",
		"invalid kubeConfig file /etc/kubernetes/scheduler.conf: missing context x":                                                 "scheduler.conf",
		"kubeConfig file /etc/kubernetes/controller-manager.conf does not have an embedded client certificate":                      "controller-manager.conf",
		"W1124 06:34:36.99 1 x.go:1] a warning\nfailed to renew certificate etcd-peer: x\nTo see the stack trace of this error ...": "etcd-peer",
		"permission denied": "",
	} {
		out := ParseRenew(nil, []byte(line), 1)
		require.Len(t, out.Outcomes, 1)
		require.Equal(t, want, out.Outcomes[0].Name, line)
		require.NotContains(t, out.Outcomes[0].Detail, "a warning")
	}
	out := ParseRenew([]byte("certificate for serving the Kubernetes API renewed\n"), nil, 0)
	o, ok := out.Of("apiserver")
	require.True(t, ok)
	require.Equal(t, Renewed, o.Status)
	_, ok = out.Of("etcd-peer")
	require.False(t, ok)
}

func FuzzParseRenew(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(s.stdout, s.stderr, s.code)
	}
	f.Add(bytes.Repeat([]byte("MISSING! certificate for serving etcd\n"), maxOutcomes+1), []byte("no"), 1)
	f.Fuzz(func(t *testing.T, stdout, stderr []byte, code int) {
		out := ParseRenew(stdout, stderr, code)
		failed := slices.ContainsFunc(out.Outcomes, func(o Outcome) bool { return o.Status == RenewFailed })
		if failed != (code != 0) {
			t.Fatalf("exit status %d: %+v", code, out)
		}
		if len(out.Outcomes) > maxOutcomes || out.NoOp && len(out.Outcomes) > 0 {
			t.Fatalf("%+v", out)
		}
		for _, o := range out.Outcomes {
			if o.Status == Renewed && o.Name == "" || len(o.Detail) > 200 || len(o.Name) > 200 {
				t.Fatalf("%+v", o)
			}
		}
	})
}
