package kube

import (
	"encoding/json"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What to ask the API server about the control plane. They are paths for
// kubectl get --raw, which asks for nothing else and writes no cache.
const (
	LeasesPath  = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
	ServersPath = "/api/v1/namespaces/kube-system/pods?labelSelector=component%3Dkube-apiserver"
)

// object is what is read of an object of the API.
type object struct {
	Metadata struct {
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec   json.RawMessage   `json:"spec"`
	Status json.RawMessage   `json:"status"`
	Data   map[string]string `json:"data"`
}

// full is the object's name with its namespace.
func (o object) full() string {
	return clip(printable(o.Metadata.Namespace + "/" + o.Metadata.Name))
}

// note is an annotation as people may see it.
func (o object) note(name string) string { return clip(printable(o.Metadata.Annotations[name])) }

func parseObjects(data []byte) ([]object, error) {
	var list struct {
		Items []object `json:"items"`
	}
	err := decode("the API server's answer", data, &list)
	return list.Items, err
}

// Lease says who leads, and when that was last renewed.
type Lease struct {
	Name    string
	Holder  string
	Renewed time.Time // zero when it is not known
}

// ParseLeases reads the answer for LeasesPath.
func ParseLeases(data []byte) ([]Lease, error) {
	list, err := parseObjects(data)
	var out []Lease
	for _, o := range list {
		var spec struct {
			HolderIdentity string `json:"holderIdentity"`
			RenewTime      string `json:"renewTime"`
		}
		if json.Unmarshal(o.Spec, &spec) == nil {
			out = append(out, Lease{Name: o.Metadata.Name, Holder: clip(printable(spec.HolderIdentity)), Renewed: timestamp(spec.RenewTime)})
		}
	}
	return out, err
}

// advertised is where kubeadm writes by which address an API server is reached.
const advertised = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"

// maxServers bounds the API servers of one cluster.
const maxServers = 64

// ParseServers reads the answer for ServersPath: host:port of each API server
// that a kubelet runs from a manifest. port is for those that kubeadm has not
// annotated.
func ParseServers(data []byte, port string) ([]string, error) {
	list, err := parseObjects(data)
	var out []string
	for _, o := range list {
		if o.Metadata.Annotations["kubernetes.io/config.mirror"] == "" {
			continue
		}
		var status struct {
			HostIP string `json:"hostIP"`
		}
		address := o.Metadata.Annotations[advertised]
		if address == "" && json.Unmarshal(o.Status, &status) == nil {
			address = net.JoinHostPort(status.HostIP, port)
		}
		if isAddress(address) && !slices.Contains(out, address) && len(out) < maxServers {
			out = append(out, address)
		}
	}
	slices.Sort(out)
	return out, err
}

// isAddress says whether s is IP:port.
func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	n, bad := strconv.ParseUint(port, 10, 16)
	return err == nil && bad == nil && n > 0 && net.ParseIP(host) != nil
}

// Server returns the URL of the API server of a manifest, "" when it has none.
func (m Manifest) Server() string { return strings.TrimSuffix(m.HealthURL(), "/readyz") }

// SecurePort is the port on which the process serves.
func (m Manifest) SecurePort() string { return m.securePort() }
