package kubeadm_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/lab/kubeadm"
)

// want is what a certificate must be like; the table is that of kubeadm.
type want struct {
	file   string // below /etc/kubernetes, with mode 0644; "" when in a kubeconfig
	cn     string
	org    []string
	issuer string
	usages []x509.ExtKeyUsage
	names  []string
	ips    []string
}

// table is the certificates that kubeadm lays out on a first control-plane node.
func table(version string) map[string]want {
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	server := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	masters, etcdOrg := []string{"system:masters"}, []string{"system:masters"}
	admins, kubelet := masters, masters
	if version != "1.19.16" {
		admins, kubelet, etcdOrg = []string{"kubeadm:cluster-admins"}, []string{"kubeadm:cluster-admins"}, nil
	}
	if version == "1.37.2" {
		kubelet = nil
	}
	etcdNames, etcdIPs := []string{"localhost", "node-a"}, []string{"192.0.2.11", "127.0.0.1", "::1"}
	t := map[string]want{
		"ca":             {file: "pki/ca", cn: "kubernetes", issuer: "ca"},
		"front-proxy-ca": {file: "pki/front-proxy-ca", cn: "front-proxy-ca", issuer: "front-proxy-ca"},
		"etcd-ca":        {file: "pki/etcd/ca", cn: "etcd-ca", issuer: "etcd-ca"},
		"apiserver": {file: "pki/apiserver", cn: "kube-apiserver", issuer: "ca", usages: server,
			names: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "node-a"},
			ips:   []string{"10.96.0.1", "192.0.2.11", "127.0.0.1"}},
		"apiserver-kubelet-client": {file: "pki/apiserver-kubelet-client", cn: "kube-apiserver-kubelet-client", org: kubelet, issuer: "ca", usages: client},
		"front-proxy-client":       {file: "pki/front-proxy-client", cn: "front-proxy-client", issuer: "front-proxy-ca", usages: client},
		"etcd-server":              {file: "pki/etcd/server", cn: "node-a", issuer: "etcd-ca", usages: both, names: etcdNames, ips: etcdIPs},
		"etcd-peer":                {file: "pki/etcd/peer", cn: "node-a", issuer: "etcd-ca", usages: both, names: etcdNames, ips: etcdIPs},
		"etcd-healthcheck-client":  {file: "pki/etcd/healthcheck-client", cn: "kube-etcd-healthcheck-client", org: etcdOrg, issuer: "etcd-ca", usages: client},
		"apiserver-etcd-client":    {file: "pki/apiserver-etcd-client", cn: "kube-apiserver-etcd-client", org: etcdOrg, issuer: "etcd-ca", usages: client},
		"admin.conf":               {cn: "kubernetes-admin", org: admins, issuer: "ca", usages: client},
		"super-admin.conf":         {cn: "kubernetes-super-admin", org: masters, issuer: "ca", usages: client},
		"controller-manager.conf":  {cn: "system:kube-controller-manager", issuer: "ca", usages: client},
		"scheduler.conf":           {cn: "system:kube-scheduler", issuer: "ca", usages: client},
		"kubelet.conf":             {cn: "system:node:node-a", org: []string{"system:nodes"}, issuer: "ca", usages: client},
	}
	if version == "1.19.16" {
		delete(t, "super-admin.conf")
	}
	return t
}

func TestLayout(t *testing.T) {
	each(t, func(t *testing.T, version string) {
		started := time.Now()
		tree := kubeadm.Layout(t, kubeadm.Options{Version: version, Dir: t.TempDir()})
		t.Logf("a tree takes %s", time.Since(started).Round(10*time.Millisecond))

		wants := table(version)
		require.Len(t, tree.Names(), len(wants))
		for name, want := range wants {
			check(t, tree, name, want)
			requireLasts(t, tree, name, year(want.usages == nil))
		}
		requireMode(t, tree, "/etc/kubernetes/pki/sa.key", 0o600)
		requireMode(t, tree, "/etc/kubernetes/pki/sa.pub", 0o600)
		for _, pod := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
			requireMode(t, tree, "/etc/kubernetes/manifests/"+pod+".yaml", 0o600)
		}
		files := tree.Files(t)
		pem := files["/var/lib/kubelet/pki/kubelet-client-current.pem"]
		require.Regexp(t, `^/var/lib/kubelet/pki/kubelet-client-[-0-9]{19}\.pem$`, pem)
		require.Contains(t, files[pem], "-----BEGIN CERTIFICATE-----")
		require.Contains(t, files["/etc/kubernetes/kubelet.conf"], "client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem\n")
		require.Contains(t, files["/etc/kubernetes/admin.conf"], "server: https://127.0.0.1:1\n")
		require.Contains(t, files["/var/lib/kubelet/config.yaml"], "rotateCertificates: true\n")
		require.Contains(t, files["/var/lib/kubelet/kubeadm-flags.env"], "--hostname-override=node-a")
		require.Contains(t, files["/etc/kubernetes/manifests/etcd.yaml"], "--name=node-a")

		out := tree.Certs(t, "check-expiration", "--config", tree.Config)
		require.Equal(t, 0, out.Code, out.Stderr)
		for name := range wants {
			require.Equal(t, name != "kubelet.conf", strings.Contains(out.Stdout, "\n"+name+" "), name)
		}
	})
}

func year(ca bool) time.Duration {
	if ca {
		return 3650 * 24 * time.Hour
	}
	return 365 * 24 * time.Hour
}

// check compares one certificate, its key, its CA and its file with the table.
func check(t *testing.T, tree kubeadm.Tree, name string, want want) {
	t.Helper()
	cert := tree.Certificate(t, name)
	require.Equal(t, want.cn, cert.Subject.CommonName, name)
	require.Equal(t, want.org, cert.Subject.Organization, name)
	require.Equal(t, want.usages, cert.ExtKeyUsage, name)
	require.Equal(t, want.usages == nil, cert.IsCA, name)
	if len(want.names) > 0 {
		require.ElementsMatch(t, want.names, cert.DNSNames, name)
	}
	ips := make([]string, 0)
	for _, ip := range cert.IPAddresses {
		ips = append(ips, ip.String())
	}
	require.ElementsMatch(t, want.ips, ips, name)
	require.NoError(t, cert.CheckSignatureFrom(tree.Certificate(t, want.issuer)), name)
	require.Equal(t, cert.PublicKey, tree.Key(t, name).Public(), "key of %s", name)
	if want.file == "" {
		requireMode(t, tree, tree.CertFile(name)[len(tree.Root):], 0o600)
		return
	}
	require.Equal(t, tree.Path("/etc/kubernetes/"+want.file+".crt"), tree.CertFile(name))
	requireMode(t, tree, "/etc/kubernetes/"+want.file+".crt", 0o644)
	requireMode(t, tree, "/etc/kubernetes/"+want.file+".key", 0o600)
}

func requireMode(t *testing.T, tree kubeadm.Tree, name string, mode os.FileMode) {
	t.Helper()
	info, err := os.Stat(tree.Path(name))
	require.NoError(t, err)
	require.Equal(t, mode, info.Mode(), name)
}

// requireLasts requires that a certificate ends in about d from now.
func requireLasts(t *testing.T, tree kubeadm.Tree, name string, d time.Duration) {
	t.Helper()
	require.WithinDuration(t, time.Now().Add(d), tree.Certificate(t, name).NotAfter, 2*time.Minute, name)
}

func TestValidity(t *testing.T) {
	for _, tt := range []struct {
		name    string
		opt     kubeadm.Options
		left    time.Duration
		renewed map[string]time.Duration // by version, "" for the others
	}{
		{"period", kubeadm.Options{Validity: 240 * time.Hour}, 240 * time.Hour, map[string]time.Duration{"1.19.16": year(false), "": 240 * time.Hour}},
		{"expired", kubeadm.Options{Remaining: -time.Hour}, -time.Hour, map[string]time.Duration{"": year(false)}},
		{"expired, with a period", kubeadm.Options{Remaining: -time.Hour, Validity: 720 * time.Hour}, -time.Hour,
			map[string]time.Duration{"1.19.16": year(false), "": 720 * time.Hour}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, version string) {
				opt := tt.opt
				opt.Version, opt.ECDSA = version, true
				tree := kubeadm.Layout(t, opt)
				for name, want := range table(version) {
					check(t, tree, name, want)
					left := tt.left
					if want.usages == nil {
						left = year(true)
					}
					requireLasts(t, tree, name, left)
				}
				out := tree.Certs(t, "renew", "all", "--config", tree.Config)
				require.Equal(t, 0, out.Code, out.Stderr)
				renewed, ok := tt.renewed[version]
				if !ok {
					renewed = tt.renewed[""]
				}
				for name, want := range table(version) {
					check(t, tree, name, want)
					if want.usages != nil && name != "kubelet.conf" {
						requireLasts(t, tree, name, renewed)
					}
				}
			})
		})
	}
}

func TestOptions(t *testing.T) {
	each(t, func(t *testing.T, version string) {
		a := kubeadm.Layout(t, kubeadm.Options{
			Version: version, ECDSA: true, ExternalEtcd: true, KubeletEmbedded: true, NoSuperAdmin: true, Remaining: time.Hour,
			CertificatesDir: "/etc/kubernetes/ssl", Endpoint: "-", CRISocket: "unix:///run/crio/crio.sock",
		})
		require.Equal(t, []string{"ca", "etcd-ca", "front-proxy-ca", "admin.conf", "apiserver", "apiserver-etcd-client",
			"apiserver-kubelet-client", "controller-manager.conf", "front-proxy-client", "kubelet.conf", "scheduler.conf"}, a.Names())
		requireLasts(t, a, "apiserver", time.Hour)
		requireLasts(t, a, "apiserver-etcd-client", year(false)) // its CA's key is elsewhere
		require.Equal(t, x509.ECDSA, a.Certificate(t, "apiserver").PublicKeyAlgorithm)
		require.NoError(t, a.Certificate(t, "apiserver-etcd-client").CheckSignatureFrom(a.Certificate(t, "etcd-ca")))
		require.Equal(t, a.Path("/etc/kubernetes/kubelet.conf"), a.CertFile("kubelet.conf"))
		files := a.Files(t)
		for _, absent := range []string{"/etc/kubernetes/ssl/etcd/ca.key", "/etc/kubernetes/manifests/etcd.yaml", "/etc/kubernetes/super-admin.conf"} {
			require.NotContains(t, files, absent)
		}
		require.Contains(t, files["/etc/kubernetes/manifests/kube-apiserver.yaml"], "--etcd-servers=https://192.0.2.21:2379")
		require.Contains(t, files["/etc/kubernetes/manifests/kube-apiserver.yaml"], "--client-ca-file=/etc/kubernetes/ssl/ca.crt")
		require.Contains(t, files["/etc/kubernetes/admin.conf"], "server: https://192.0.2.11:6443\n")
		require.Contains(t, files["/var/lib/kubelet/config.yaml"]+files["/var/lib/kubelet/kubeadm-flags.env"], "unix:///run/crio/crio.sock")

		b := kubeadm.Layout(t, kubeadm.Options{Version: version, ECDSA: true, ExternalEtcd: true, Shared: &a, Node: "node-b", Address: "192.0.2.12"})
		for _, ca := range []string{"ca", "etcd-ca", "front-proxy-ca"} {
			require.Equal(t, a.Certificate(t, ca).Raw, b.Certificate(t, ca).Raw)
		}
		require.NoError(t, b.Certificate(t, "apiserver").CheckSignatureFrom(a.Certificate(t, "ca")))
		require.Contains(t, b.Certificate(t, "apiserver").DNSNames, "node-b")
		require.Equal(t, a.Files(t)["/etc/kubernetes/ssl/sa.key"], b.Files(t)["/etc/kubernetes/pki/sa.key"])
		require.NotContains(t, b.Names(), "super-admin.conf")
	})
}

func TestReissue(t *testing.T) {
	each(t, func(t *testing.T, version string) {
		tree := kubeadm.Layout(t, kubeadm.Options{Version: version, ECDSA: true})
		before, now := tree.Files(t), time.Now().Truncate(time.Second)
		for i, name := range tree.Names() {
			old := tree.Certificate(t, name)
			from, to := now.Add(time.Duration(i)*time.Hour), now.Add(5*24*time.Hour)
			kubeadm.Reissue(t, tree, []string{name}, from, to)
			cert := tree.Certificate(t, name)
			require.True(t, cert.NotBefore.Equal(from) && cert.NotAfter.Equal(to), name)
			require.NotEqual(t, old.SerialNumber, cert.SerialNumber, name)
			require.Equal(t, old.RawSubject, cert.RawSubject, name)
			require.Equal(t, old.KeyUsage, cert.KeyUsage, name)
			require.Equal(t, old.SubjectKeyId, cert.SubjectKeyId, name)
			require.Equal(t, old.BasicConstraintsValid, cert.BasicConstraintsValid, name)
		}
		for name, want := range table(version) { // the rest, and the leafs under a reissued CA
			check(t, tree, name, want)
		}
		after := tree.Files(t)
		require.Equal(t, before["/etc/kubernetes/pki/sa.key"], after["/etc/kubernetes/pki/sa.key"])
		require.Len(t, after, len(before))
		requireSameCA(t, tree)
	})
}

// requireSameCA requires that every kubeconfig trusts the CA in its file.
func requireSameCA(t *testing.T, tree kubeadm.Tree) {
	t.Helper()
	for name := range table(tree.Version) {
		if path.Ext(name) != ".conf" {
			continue
		}
		out := tree.Files(t)["/etc/kubernetes/"+name]
		require.Contains(t, out, "certificate-authority-data: "+base64PEM(tree.Certificate(t, "ca").Raw)+"\n", name)
	}
}

func base64PEM(der []byte) string {
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestCopy(t *testing.T) {
	tree := kubeadm.Layout(t, kubeadm.Options{Version: "1.34.4", ECDSA: true})
	twin := tree.Copy(t)
	require.NotEqual(t, tree.Root, twin.Root)
	require.Equal(t, tree.Files(t), twin.Files(t))
	for name := range tree.Files(t) {
		a, err := os.Lstat(tree.Path(name))
		require.NoError(t, err)
		b, err := os.Lstat(twin.Path(name))
		require.NoError(t, err)
		require.Equal(t, a.Mode(), b.Mode(), name)
		if a.Mode().IsRegular() {
			require.True(t, a.ModTime().Equal(b.ModTime()), name)
		}
	}
	kubeadm.Corrupt(t, twin, "apiserver", "kubelet.conf")
	require.NotEqual(t, tree.Files(t), twin.Files(t))
	check(t, tree, "apiserver", table("1.34.4")["apiserver"])
}

func TestReplaceKey(t *testing.T) {
	tree := kubeadm.Layout(t, kubeadm.Options{Version: "1.34.4"})
	for _, name := range []string{"ca", "apiserver", "admin.conf", "kubelet.conf"} {
		kubeadm.ReplaceKey(t, tree, name)
		require.NotEqual(t, tree.Certificate(t, name).PublicKey, tree.Key(t, name).Public(), name)
		require.IsType(t, tree.Certificate(t, name).PublicKey, tree.Key(t, name).Public(), name)
	}
}
