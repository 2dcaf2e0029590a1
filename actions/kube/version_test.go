package kube

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func version(t testing.TB, s string) Version {
	v, err := ParseVersion(s)
	require.NoError(t, err)
	return v
}

func TestParseVersion(t *testing.T) {
	require.Equal(t, Version{Major: 1, Minor: 19, Patch: 16}, version(t, "v1.19.16\n"))
	require.Equal(t, Version{Major: 1, Minor: 34, Patch: 0, Pre: "-rc.1"}, version(t, "1.34.0-rc.1"))
	require.Equal(t, "v1.30.2+k3s1", version(t, "v1.30.2+k3s1").String())
	for _, bad := range []string{"", "v1", "1.2", "v1.2.x", "v1.2.3 4", "error: x", "v1.2.99999", "v1.2.3-" + strings.Repeat("x", 100)} {
		_, err := ParseVersion(bad)
		require.Error(t, err, bad)
	}
	ordered := []string{"v1.9.9", "v1.19.15", "v1.19.16-rc.0", "v1.19.16", "v1.20.0", "v2.0.0"}
	for i, a := range ordered {
		for j, b := range ordered {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			require.Equal(t, want, version(t, a).Compare(version(t, b)), a+" "+b)
		}
	}
	require.Zero(t, version(t, "v1.30.2+a").Compare(version(t, "v1.30.2")))
}

func TestRenewArgv(t *testing.T) {
	tests := []struct {
		version, name string
		opt           RenewOptions
		want, err     string
	}{
		{"v1.19.16", "apiserver", RenewOptions{}, "kubeadm alpha certs renew apiserver", ""},
		{"v1.20.0", "apiserver", RenewOptions{}, "kubeadm certs renew apiserver", ""},
		{"v1.34.4", "super-admin.conf", RenewOptions{Config: "/c.yaml", Kubeconfig: "/k", RootFS: "/host"}, "kubeadm certs renew super-admin.conf --config=/c.yaml --kubeconfig=/k --rootfs=/host", ""},
		{"v1.34.4", "all", RenewOptions{CertDir: "/srv/pki"}, "kubeadm certs renew all --cert-dir=/srv/pki", ""},
		{"v1.28.1", "super-admin.conf", RenewOptions{}, "", "has no certificate"},
		{"v1.34.4", "ca", RenewOptions{}, "", "has no certificate"},
		{"v1.34.4", "all", RenewOptions{Config: "/c", CertDir: "/p"}, "", "ignores --cert-dir"},
		{"v1.14.9", "all", RenewOptions{}, "", "does not renew kubeconfigs"},
		{"v2.0.0", "all", RenewOptions{}, "", "is not known"},
	}
	for _, tt := range tests {
		got, err := RenewArgv(version(t, tt.version), tt.name, tt.opt)
		if tt.err != "" {
			require.ErrorContains(t, err, tt.err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, tt.want, strings.Join(got, " "))
	}
}

func TestOtherArgv(t *testing.T) {
	user := func(v, config string) string {
		argv, err := KubeconfigUserArgv(version(t, v), "system:node:m1", []string{"system:nodes"}, config)
		if err != nil {
			return err.Error()
		}
		return strings.Join(argv, " ")
	}
	require.Equal(t, "kubeadm alpha kubeconfig user --client-name=system:node:m1 --org=system:nodes", user("v1.19.1", "/c"))
	require.Equal(t, "kubeadm alpha kubeconfig user --client-name=system:node:m1 --org=system:nodes --config=/c", user("v1.20.1", "/c"))
	require.Equal(t, "kubeadm kubeconfig user --client-name=system:node:m1 --org=system:nodes --config=/c", user("v1.21.0", "/c"))
	require.Contains(t, user("v1.20.1", ""), "requires a configuration file")
	require.Contains(t, user("v1.26.9", ""), "requires a configuration file")
	require.Equal(t, "kubeadm kubeconfig user --client-name=system:node:m1 --org=system:nodes", user("v1.27.0", ""))

	csr := func(v string) string {
		argv, err := GenerateCSRArgv(version(t, v), "/a", "/b", "")
		if err != nil {
			return err.Error()
		}
		return strings.Join(argv, " ")
	}
	require.Contains(t, csr("v1.18.0"), "has no generate-csr")
	require.Equal(t, "kubeadm alpha certs generate-csr --cert-dir=/a --kubeconfig-dir=/b", csr("v1.19.0"))
	require.Equal(t, "kubeadm certs generate-csr --cert-dir=/a --kubeconfig-dir=/b", csr("v1.20.0"))
}

func TestSkew(t *testing.T) {
	for pair, ok := range map[[2]string]bool{
		{"v1.34.4", "v1.34.9"}: true, {"v1.34.4", "v1.33.0"}: true,
		{"v1.34.4", "v1.32.0"}: false, {"v1.34.4", "v1.35.0"}: false, {"v2.0.0", "v1.0.0"}: false,
	} {
		require.Equal(t, ok, Skew(version(t, pair[0]), version(t, pair[1])) == nil, pair)
	}
}
