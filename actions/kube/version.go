package kube

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Version is a Kubernetes release. Pre is what follows the patch number, as in
// "-rc.1" or "+k3s1", without effect on comparisons of two releases.
type Version struct {
	Major, Minor, Patch int
	Pre                 string
}

var versionForm = regexp.MustCompile(`^v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})([-+][0-9A-Za-z.+_-]{1,64})?$`)

// ParseVersion reads "v1.19.16", as kubeadm version -o short prints it.
func ParseVersion(s string) (Version, error) {
	m := versionForm.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return Version{}, fmt.Errorf("%q is not a version such as v1.34.4", clip(s))
	}
	var n [3]int
	for i := range n {
		n[i], _ = strconv.Atoi(m[i+1]) // at most four digits
	}
	return Version{Major: n[0], Minor: n[1], Patch: n[2], Pre: m[4]}, nil
}

// clip shortens text of unknown origin for an error.
func clip(s string) string {
	const limit = 120
	if s = strings.TrimSpace(s); len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}

// String returns the version as in "v1.34.4".
func (v Version) String() string {
	return fmt.Sprintf("v%d.%d.%d%s", v.Major, v.Minor, v.Patch, v.Pre)
}

// Compare returns -1, 0 or 1. A pre-release comes before its release.
func (v Version) Compare(w Version) int {
	early := func(v Version) int {
		if strings.HasPrefix(v.Pre, "-") {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor),
		cmp.Compare(v.Patch, w.Patch), cmp.Compare(early(v), early(w)))
}

// AtLeast says whether v is 1.minor or newer.
func (v Version) AtLeast(minor int) bool {
	return v.Major > 1 || v.Major == 1 && v.Minor >= minor
}

// Supported refuses the versions of kubeadm that nothing is known about, and
// those before 1.15, which do not renew kubeconfigs.
func (v Version) Supported() error {
	switch {
	case v.Major != 1:
		return fmt.Errorf("kubeadm %s is not known: 1.15 and later 1.x are", v)
	case v.Minor < 15:
		return fmt.Errorf("kubeadm %s does not renew kubeconfigs: use a kubeadm of 1.15 or later", v)
	}
	return nil
}

// Names returns the names that kubeadm of this version can renew, in the order
// in which it does: alphabetical.
func (v Version) Names() []string {
	names := []string{"admin.conf", "apiserver", "apiserver-etcd-client", "apiserver-kubelet-client",
		"controller-manager.conf", "etcd-healthcheck-client", "etcd-peer", "etcd-server",
		"front-proxy-client", "scheduler.conf"}
	if v.AtLeast(29) {
		names = append(names, "super-admin.conf")
	}
	return names
}

// Skew refuses a kubeadm that does not fit the cluster's version: it serves
// its own minor version and the one before.
func Skew(kubeadm, cluster Version) error {
	if d := kubeadm.Minor - cluster.Minor; kubeadm.Major != cluster.Major || d < 0 || d > 1 {
		return fmt.Errorf("kubeadm %s does not fit a cluster of %s: use a kubeadm of v%d.%d", kubeadm, cluster, cluster.Major, cluster.Minor)
	}
	return nil
}

// RenewOptions are the flags of kubeadm certs renew; an empty one is left out.
type RenewOptions struct {
	Config     string // a kubeadm configuration file; its certificatesDir counts, CertDir must be empty then
	CertDir    string
	Kubeconfig string // to read the configuration from the cluster
	RootFS     string
}

// RenewArgv returns the command that renews one certificate by kubeadm's name
// for it, or "all".
func RenewArgv(v Version, name string, opt RenewOptions) ([]string, error) {
	if err := v.Supported(); err != nil {
		return nil, err
	}
	if name != "all" && !slices.Contains(v.Names(), name) {
		return nil, fmt.Errorf("kubeadm %s has no certificate %q: %s", v, clip(name), strings.Join(v.Names(), ", "))
	}
	if opt.Config != "" && opt.CertDir != "" {
		return nil, fmt.Errorf("renew %s: kubeadm ignores --cert-dir %q beside --config %q: set certificatesDir in the configuration", name, opt.CertDir, opt.Config)
	}
	argv := []string{"kubeadm"}
	if !v.AtLeast(20) {
		argv = append(argv, "alpha")
	}
	argv = append(argv, "certs", "renew", name)
	return appendFlags(argv, "config", opt.Config, "cert-dir", opt.CertDir, "kubeconfig", opt.Kubeconfig, "rootfs", opt.RootFS), nil
}

// KubeconfigUserArgv returns the command that prints a new kubeconfig for a
// client, private key included. Its output must go to a file, not to a log.
func KubeconfigUserArgv(v Version, client string, orgs []string, config string) ([]string, error) {
	if err := v.Supported(); err != nil {
		return nil, err
	}
	if client == "" {
		return nil, fmt.Errorf("kubeconfig user: no client name")
	}
	if config == "" && v.AtLeast(20) && !v.AtLeast(27) {
		return nil, fmt.Errorf("kubeconfig user %q: kubeadm %s requires a configuration file", client, v)
	}
	argv := []string{"kubeadm"}
	if !v.AtLeast(21) {
		argv = append(argv, "alpha")
	}
	argv = append(argv, "kubeconfig", "user", "--client-name="+client)
	for _, org := range orgs {
		argv = append(argv, "--org="+org)
	}
	if !v.AtLeast(20) {
		config = "" // the flag came with 1.20
	}
	return appendFlags(argv, "config", config), nil
}

// GenerateCSRArgv returns the command that writes new keys and certificate
// signing requests below two directories that must be empty.
func GenerateCSRArgv(v Version, certDir, kubeconfigDir, config string) ([]string, error) {
	if err := v.Supported(); err != nil {
		return nil, err
	}
	if !v.AtLeast(19) {
		return nil, fmt.Errorf("kubeadm %s has no generate-csr: use a kubeadm of 1.19 or later", v)
	}
	argv := []string{"kubeadm"}
	if !v.AtLeast(20) {
		argv = append(argv, "alpha")
	}
	argv = append(argv, "certs", "generate-csr")
	return appendFlags(argv, "cert-dir", certDir, "kubeconfig-dir", kubeconfigDir, "config", config), nil
}

// appendFlags adds --name=value for each pair with a value.
func appendFlags(argv []string, pairs ...string) []string {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			argv = append(argv, "--"+pairs[i]+"="+pairs[i+1])
		}
	}
	return argv
}
