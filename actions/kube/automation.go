package kube

import (
	"fmt"
	"net/url"
	"path"
	"strings"
	"unicode"
)

// RunningKubeadm returns what a process of kubeadm does: its words up to the
// first flag, as what follows may be a token. It is "" for one that has ended
// or only tells its version.
func RunningKubeadm(commandLine string) string {
	words := strings.Fields(printable(commandLine))
	if len(words) == 0 {
		return ""
	}
	said := []string{path.Base(words[0])}
	if path.Base(words[0]) != "kubeadm" { // a script of that name, after its interpreter
		said = []string{"kubeadm"}
		words = words[1:]
	}
	for i, w := range words[min(1, len(words)):] {
		if strings.HasPrefix(w, "-") {
			said = append(said, "...")
			break
		}
		if i == 0 && w == "version" {
			return ""
		}
		said = append(said, w)
	}
	return clip(strings.Join(said, " "))
}

// HostRenewal describes what renews certificates by itself on a host: a timer or
// a cron table, and the file in which that is written.
func HostRenewal(name, file string) string {
	name, file = clip(printable(name)), clip(printable(file))
	switch {
	case path.Base(file) == "k8s-certs-renew.sh" && path.Base(path.Dir(file)) == "kube-scripts":
		return fmt.Sprintf("%s of KubeKey (%s)", name, file)
	case path.Base(file) == "k8s-certs-renew.sh":
		return fmt.Sprintf("%s of kubespray (%s)", name, file)
	case name == file:
		return name
	}
	return fmt.Sprintf("%s (%s)", name, file)
}

// RenewalPaths are what to ask the API server for what ClusterRenewals reads: of
// one node, and of the whole cluster.
func RenewalPaths(node string, cluster bool) []string {
	paths := []string{"/api/v1/nodes?fieldSelector=metadata.name%3D" + url.QueryEscape(node)}
	if cluster {
		paths = append(paths,
			"/apis/apps/v1/daemonsets?fieldSelector=metadata.name%3Dkucero",
			"/apis/apps/v1/deployments?fieldSelector=metadata.name%3Dekc-operator")
	}
	return paths
}

// ClusterRenewals describes what renews certificates by itself from within the
// cluster, by the answers for RenewalPaths.
func ClusterRenewals(answers [][]byte) ([]string, error) {
	var out []string
	for i, data := range answers {
		list, err := parseObjects(data)
		if err != nil {
			return nil, err
		}
		for _, o := range list {
			switch i {
			case 0:
				if machine := o.note("cluster.x-k8s.io/machine"); machine != "" {
					out = append(out, fmt.Sprintf("Cluster API keeps this node (%s %s, machine %s): after the renewal remove the annotation machine.cluster.x-k8s.io/certificates-expiry from the Machine and its KubeadmConfig, or the machine is replaced by its old date",
						o.note("cluster.x-k8s.io/owner-kind"), o.note("cluster.x-k8s.io/owner-name"), machine))
				}
			case 1:
				out = append(out, fmt.Sprintf("kucero (DaemonSet %s) also renews certificates; turn one of the two off", o.full()))
			case 2:
				out = append(out, fmt.Sprintf("ekco (Deployment %s) also renews certificates; turn one of the two off", o.full()))
			}
		}
	}
	return out, nil
}

// printable replaces what a terminal might take for a command.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\uFFFD' || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}
